//! Where a page of the list of users begins: `cost:called:0.525:user-7`, the order, the part of the list, and the last row's value and id.
//!
//! The list has two parts: users whom calls name, and rows of the application's table whom none names. In descending order the
//! second follows the first, in ascending order it comes before. A part's beginning is a cursor without value and id.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use tallyd_model::pricing::Usd;

use super::{UserSort, UserTotals};

/// A cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The order of the list.
    pub(super) sort: UserSort,
    /// After what.
    pub(super) place: Place,
}

/// A place in the list. None is the beginning of the part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Among users whom calls name: after this value and id.
    Called(Option<(String, String)>),
    /// Among those whom none names: after this id.
    Uncalled(Option<String>),
}

/// A text that is not a cursor of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCursor;

impl UserSort {
    /// Its name in requests.
    const fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Calls => "calls",
            Self::ClaudeCalls => "claude_calls",
            Self::RentcastCalls => "rentcast_calls",
            Self::LastCall => "last_call",
            Self::Id => "id",
        }
    }

    /// The value that a user has in this order: a decimal number, of times the microseconds since 1970. The order by id does not have a value.
    pub(super) fn value(self, user: &UserTotals) -> String {
        match self {
            Self::Cost => user.cost_usd.to_string(),
            Self::Calls => user.total_calls.to_string(),
            Self::ClaudeCalls => user.total_claude_calls.to_string(),
            Self::RentcastCalls => user.total_rentcast_calls.to_string(),
            Self::LastCall => user.last_call_at.unwrap_or_default().timestamp_micros().to_string(),
            Self::Id => String::new(),
        }
    }

    /// Whether the text is such a value.
    fn has(self, value: &str) -> bool {
        match self {
            Self::Cost => value.parse::<Usd>().is_ok(),
            Self::Calls | Self::ClaudeCalls | Self::RentcastCalls => value.parse::<i128>().is_ok(),
            Self::LastCall => instant(value).is_some(),
            Self::Id => value.is_empty(),
        }
    }
}

impl Cursor {
    /// The value as text that PostgreSQL reads.
    pub(super) fn bound(sort: UserSort, value: &str) -> String {
        match instant(value).filter(|_| sort == UserSort::LastCall) {
            Some(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
            None => value.to_owned(),
        }
    }

    /// Reads a cursor of a list in this order.
    ///
    /// # Errors
    /// [`NoCursor`].
    pub fn read(text: &str, sort: UserSort) -> Result<Self, NoCursor> {
        let cursor: Self = text.parse()?;
        if cursor.sort == sort { Ok(cursor) } else { Err(NoCursor) }
    }
}

/// The instant of microseconds since 1970, of the years 1 to 9999: their text has one form.
fn instant(us: &str) -> Option<DateTime<Utc>> {
    let us: i64 = us.parse().ok()?;
    (-62_135_596_800_000_000..253_402_300_800_000_000)
        .contains(&us)
        .then(|| DateTime::from_timestamp_micros(us))
        .flatten()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sort = self.sort.name();
        match &self.place {
            Place::Called(Some((value, id))) => write!(f, "{sort}:called:{value}:{id}"),
            Place::Called(None) => write!(f, "{sort}:called::"),
            Place::Uncalled(id) => write!(f, "{sort}:uncalled::{}", id.as_deref().unwrap_or_default()),
        }
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        use UserSort::{Calls, ClaudeCalls, Cost, Id, LastCall, RentcastCalls};
        let mut parts = text.splitn(4, ':');
        let mut part = || parts.next().ok_or(NoCursor);
        let (name, kind, value, id) = (part()?, part()?, part()?, part()?);
        let sorts = [Cost, Calls, ClaudeCalls, RentcastCalls, LastCall, Id];
        let sort = sorts.into_iter().find(|sort| sort.name() == name).ok_or(NoCursor)?;
        let id = (!id.is_empty()).then(|| id.to_owned());
        let place = match (kind, value, id) {
            ("called", "", None) => Place::Called(None),
            ("called", value, Some(id)) if sort.has(value) => Place::Called(Some((value.to_owned(), id))),
            ("uncalled", "", id) => Place::Uncalled(id),
            _ => return Err(NoCursor),
        };
        Ok(Self { sort, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        for text in [
            "cost:called:-0.525:a:b",
            "calls:called:12:u",
            "claude_calls:called:0:u",
            "rentcast_calls:called::",
            "last_call:called:1764000000000001:u",
            "id:called::u",
            "id:uncalled::",
            "cost:uncalled::7",
        ] {
            assert_eq!(text.parse::<Cursor>().map(|cursor| cursor.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "cost",
            "cost:called:1",
            "cost:called:x:u",
            "calls:called:1.5:u",
            "last_call:called:9223372036854775807:u",
            "id:called:1:u",
            "cost:called:1:",
            "cost:uncalled:1:u",
            "price:called:1:u",
            "cost:all:1:u",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
        assert!(Cursor::read("cost:called:1:u", UserSort::Calls).is_err());
        assert_eq!(Cursor::bound(UserSort::LastCall, "1000001"), "1970-01-01T00:00:01.000001Z");
        assert_eq!(Cursor::bound(UserSort::Calls, "1000001"), "1000001");
    }
}
