//! The state of budgets as the daemon sends it: the scopes that are used up, and the amounts that are left of others.
//! [`crate::check`] compares a call with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bound of the scopes in one message, used up or with an amount left.
pub const SCOPES_MAX: usize = 1024;
/// Bound of the bytes of these scopes as MessagePack.
pub const SCOPES_BYTES_MAX: usize = 64 * 1024;
/// The interval at which a daemon repeats its message without a change.
pub const REPEATED: Duration = Duration::from_secs(60);
/// How long the last message counts for a client. After that the state is unknown.
pub const BELIEVED: Duration = Duration::from_secs(5 * 60);

/// The worst state of the budgets of everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Budget {
    /// True once a hard budget of everything is used up.
    pub should_throttle: bool,
    /// `normal`, `warning` or `exceeded`.
    pub status: String,
}

/// A budget's scope: for each dimension a list of names, one of which a call must have. Without a dimension: everything.
pub type Scope = BTreeMap<String, Vec<String>>;

/// The amount that is left of a hard budget past its warning.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Left {
    /// The budget's scope.
    pub scope: Scope,
    /// USD as decimal text.
    pub usd: String,
}

/// The state of all budgets. Each message replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Budgets {
    /// The worst state of the budgets of everything; None without such a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The other scopes of which a hard budget is used up: at most [`SCOPES_MAX`], and [`SCOPES_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_up: Vec<Scope>,
    /// The number of scopes that are used up and were left off at these bounds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_off: u64,
    /// Hard budgets that are past their warning and not used up, as far as the bounds have room after [`Self::used_up`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Budgets {
    /// A message with these scopes and amounts, up to the bounds. The first ones are kept, scopes that are used up before
    /// amounts.
    #[must_use]
    pub fn bounded(
        budget: Option<Budget>,
        used_up: impl IntoIterator<Item = Scope>,
        left: impl IntoIterator<Item = Left>,
    ) -> Self {
        let mut told = Self { budget, ..Self::default() };
        let mut bytes = 0;
        for scope in used_up {
            bytes += scope_bytes(&scope);
            if told.left_off > 0 || told.used_up.len() >= SCOPES_MAX || bytes > SCOPES_BYTES_MAX {
                told.left_off += 1;
            } else {
                told.used_up.push(scope);
            }
        }
        for one in left {
            bytes += scope_bytes(&one.scope) + LEFT_BYTES + one.usd.len();
            if told.used_up.len() + told.left.len() >= SCOPES_MAX || bytes > SCOPES_BYTES_MAX {
                break;
            }
            told.left.push(one);
        }
        told
    }

    /// Whether the other state holds back the same calls that do not state an estimate.
    #[must_use]
    pub fn holds_back_as(&self, other: &Self) -> bool {
        (&self.budget, &self.used_up, self.left_off) == (&other.budget, &other.used_up, other.left_off)
    }
}

/// Upper bound of a scope's bytes as MessagePack.
fn scope_bytes(scope: &Scope) -> usize {
    let text = |text: &String| 3 + text.len();
    3 + scope.iter().map(|(name, names)| text(name) + 3 + names.iter().map(text).sum::<usize>()).sum::<usize>()
}

/// Upper bound of the bytes of a [`Left`] besides its scope and its amount.
const LEFT_BYTES: usize = 16;

/// A model's family: the name without its date suffix (`claude-sonnet-4-20250514` is of the family `claude-sonnet-4`). A
/// name without one is its own family.
#[must_use]
pub fn family(model: &str) -> &str {
    without_date(model).unwrap_or(model)
}

/// The name before a date suffix; None without such a suffix. A suffix is `-20250514`, `@20250514` or `-2025-05-14`, with a
/// year of this century, a month and a day that exist in some year.
#[must_use]
pub fn without_date(model: &str) -> Option<&str> {
    let bytes = model.as_bytes();
    let start = match bytes {
        [_, .., b'-' | b'@', y1, y2, y3, y4, m1, m2, d1, d2] if is_date([*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]) => {
            bytes.len() - 9
        }
        [_, .., b'-', y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]
            if is_date([*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]) =>
        {
            bytes.len() - 11
        }
        _ => return None,
    };
    // The byte at `start` is ASCII, so the cut is between two characters.
    model.get(..start)
}

fn is_date(digits: [u8; 8]) -> bool {
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let two = |at: usize| (digits[at] - b'0') * 10 + (digits[at + 1] - b'0');
    two(0) == 20 && (1..=12).contains(&two(4)) && (1..=31).contains(&two(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> Scope {
        Scope::from([("user".to_owned(), vec![id.to_owned()])])
    }

    #[test]
    fn what_is_told_is_bounded_in_scopes_and_in_bytes_and_says_what_it_leaves_off() {
        let left = |count: usize| (0..count).map(|id| Left { scope: user(&id.to_string()), usd: "0.5".to_owned() });
        let told = Budgets::bounded(None, (0..SCOPES_MAX + 7).map(|id| user(&id.to_string())), left(9));
        assert!(told.left.is_empty());
        assert_eq!((told.used_up.len(), told.left_off), (SCOPES_MAX, 7));
        assert_eq!(told.used_up[3], user("3"), "those that come first are kept");
        let told = Budgets::bounded(None, (0..SCOPES_MAX - 7).map(|id| user(&id.to_string())), left(9));
        assert_eq!((told.used_up.len(), told.left.len(), told.left_off), (SCOPES_MAX - 7, 7, 0));
        let long = |id: usize| user(&format!("{id:0>512}"));
        let told = Budgets::bounded(None, [], (0..500).map(|id| Left { scope: long(id), usd: "0.5".to_owned() }));
        let written = rmp_serde::to_vec_named(&told).unwrap().len();
        assert!(written <= SCOPES_BYTES_MAX + 64 && told.left.len() > 100, "{written}");
        let told = Budgets::bounded(None, (0..500).map(long), []);
        let written = rmp_serde::to_vec_named(&told).unwrap().len();
        assert!(written <= SCOPES_BYTES_MAX + 64, "{written}");
        assert_eq!(told.used_up.len() as u64 + told.left_off, 500);
        assert!(told.used_up.len() > 100);
    }
}
