//! Budgets that are used up, and whether a call counts towards one of them.
//!
//! The daemon sends its clients the scopes that are used up ([`Budgets`]). A client asks [`UsedUp`] before a call, without
//! the daemon: hash lookups, one a dimension. A scope has one dimension or several; a call counts towards it if all of them
//! match. A scope with a dimension that this crate does not know matches no call, because a newer daemon may know more
//! dimensions than its clients.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bound of the scopes in one message.
pub const SCOPES_MAX: usize = 1024;
/// Bound of the bytes of these scopes' names and values as MessagePack.
pub const SCOPES_BYTES_MAX: usize = 64 * 1024;
/// The interval at which a daemon repeats its message without a change.
pub const REPEATED: Duration = Duration::from_secs(60);
/// How long the last message counts for a client. After that no call is held back.
pub const BELIEVED: Duration = Duration::from_secs(5 * 60);

/// Whether the application should hold back paid calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Budget {
    /// True once the budget is used up.
    pub should_throttle: bool,
    /// `normal`, `warning` or `exceeded`.
    pub status: String,
}

/// A scope that is used up: for each dimension a list of names, one of which a call must have.
pub type Scope = BTreeMap<String, Vec<String>>;

/// The state of all budgets. Each message replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Budgets {
    /// The worst state of the budgets of everything; None without such a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The other scopes that are used up and ask to hold back: at most [`SCOPES_MAX`], and [`SCOPES_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_up: Vec<Scope>,
    /// The number of scopes that are used up and were left off at these bounds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_off: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Budgets {
    /// A message with these scopes, up to the bounds. The first ones are kept.
    #[must_use]
    pub fn bounded(budget: Option<Budget>, scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut told = Self { budget, ..Self::default() };
        let mut bytes = 0;
        for scope in scopes {
            bytes += encoded_bytes(&scope);
            if told.left_off > 0 || told.used_up.len() >= SCOPES_MAX || bytes > SCOPES_BYTES_MAX {
                told.left_off += 1;
            } else {
                told.used_up.push(scope);
            }
        }
        told
    }
}

/// Upper bound of a scope's bytes as MessagePack.
fn encoded_bytes(scope: &Scope) -> usize {
    let text = |text: &String| 3 + text.len();
    3 + scope.iter().map(|(name, names)| text(name) + 3 + names.iter().map(text).sum::<usize>()).sum::<usize>()
}

/// The properties of a call that budgets are set for. An empty value counts towards no budget of that dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallScope<'a> {
    /// Provider. Case and surrounding space do not matter.
    pub provider: &'a str,
    /// Model. Budgets of its family count, too; the family is the name without a date.
    pub model: &'a str,
    /// User.
    pub user_id: &'a str,
    /// Application.
    pub app: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Provider,
    Model,
    User,
    App,
}

impl Dimension {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "provider" => Self::Provider,
            "model" => Self::Model,
            "user" => Self::User,
            "app" => Self::App,
            _ => return None,
        })
    }
}

/// The scopes that are used up, for lookups.
#[derive(Debug, Clone, Default)]
pub struct UsedUp {
    everything: bool,
    /// One set of names for each [`Dimension`].
    single: [HashSet<String>; 4],
    /// Scopes of several dimensions.
    several: Vec<Vec<(Dimension, Vec<String>)>>,
}

impl UsedUp {
    /// Scopes that are used up; `everything` if a budget of everything is.
    #[must_use]
    pub fn new(everything: bool, scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut used_up = Self { everything, ..Self::default() };
        for scope in scopes {
            let known: Option<Vec<_>> =
                scope.into_iter().map(|(name, names)| Some((Dimension::by_name(&name)?, names))).collect();
            match known {
                None => {}
                Some(mut dimensions) if dimensions.len() == 1 => {
                    let (dimension, names) = dimensions.remove(0);
                    used_up.single[dimension as usize].extend(names);
                }
                Some(dimensions) if dimensions.is_empty() => used_up.everything = true,
                Some(dimensions) => used_up.several.push(dimensions),
            }
        }
        used_up
    }

    /// Whether a budget of everything is used up.
    #[must_use]
    pub const fn everything(&self) -> bool {
        self.everything
    }

    /// Whether the call counts towards a budget that is used up.
    #[must_use]
    pub fn holds_back(&self, call: &CallScope<'_>) -> bool {
        if self.everything {
            return true;
        }
        let provider = lowered(call.provider);
        let (model, family) = (call.model, family(call.model));
        let has = |dimension: Dimension, name: &str| !name.is_empty() && self.single[dimension as usize].contains(name);
        let counts = |(dimension, names): &(Dimension, Vec<String>)| {
            names.iter().any(|name| match dimension {
                Dimension::Provider => *name == provider,
                Dimension::Model => name == model || name == family,
                Dimension::User => name == call.user_id,
                Dimension::App => name == call.app,
            })
        };
        has(Dimension::Provider, &provider)
            || has(Dimension::Model, model)
            || (family.len() < model.len() && has(Dimension::Model, family))
            || has(Dimension::User, call.user_id)
            || has(Dimension::App, call.app)
            || self.several.iter().any(|dimensions| dimensions.iter().all(counts))
    }
}

impl From<Budgets> for UsedUp {
    fn from(told: Budgets) -> Self {
        Self::new(told.budget.is_some_and(|budget| budget.should_throttle), told.used_up)
    }
}

/// The provider in lower case, without surrounding space. Allocates only for upper case.
fn lowered(provider: &str) -> Cow<'_, str> {
    let provider = provider.trim();
    if provider.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(provider.to_ascii_lowercase());
    }
    Cow::Borrowed(provider)
}

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
        let told = Budgets::bounded(None, (0..SCOPES_MAX + 7).map(|id| user(&id.to_string())));
        assert_eq!((told.used_up.len(), told.left_off), (SCOPES_MAX, 7));
        assert_eq!(told.used_up[3], user("3"), "those that come first are kept");
        let told = Budgets::bounded(None, (0..500).map(|id| user(&format!("{id:0>512}"))));
        let written = rmp_serde::to_vec_named(&told).unwrap().len();
        assert!(written <= SCOPES_BYTES_MAX + 64, "{written}");
        assert_eq!(told.used_up.len() as u64 + told.left_off, 500);
        assert!(told.used_up.len() > 100);
    }
}
