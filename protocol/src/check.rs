//! Whether a call may be made, by the state of budgets that the daemon has sent.
//!
//! A call is refused if it counts towards a scope that is used up, or if its estimate is above the amount that is left of one
//! of its scopes. It counts towards a scope if it has one of the scope's names in each of the scope's dimensions.
//!
//! Scopes with the same dimensions are one [`Kind`], and a hash over the names finds a scope of a kind. So a check takes a
//! few lookups for each kind, however many scopes there are, and allocates nothing unless it refuses the call, the provider
//! is in upper case, or an API key has a budget. A scope with a dimension that this crate does not know matches no call,
//! because a newer daemon may know more dimensions than its clients.

mod decision;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::budgets::{Budgets, Scope, family};
use crate::record::Text;
use crate::tags::{API_KEY, concealed};

pub use decision::{BudgetExceeded, Decision};

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
    /// Tags: name and value. An API key may be given as it is: only its hash is compared.
    pub tags: &'a [(&'a str, &'a str)],
    /// The most that the call may cost, USD as decimal text without an exponent. Empty: not known. Text that is not such
    /// a number counts as above every amount.
    pub estimate: &'a str,
}

/// Values of calls that do not state them: those of the recorder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults<'a> {
    /// Application.
    pub app: &'a str,
    /// Tags.
    pub tags: &'a [(Text, Text)],
}

/// The beginning of a tag's dimension.
const TAG: &str = "tag:";
/// The tag that is the application.
const APP: &str = "app";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dimension {
    Provider,
    Model,
    User,
    App,
    Tag(String),
}

impl Dimension {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "provider" => Self::Provider,
            "model" => Self::Model,
            "user" => Self::User,
            APP => Self::App,
            _ => match name.strip_prefix(TAG)? {
                APP => Self::App,
                tag => Self::Tag(tag.to_owned()),
            },
        })
    }
}

/// A scope, and the amount that is left of it; None: it is used up.
#[derive(Debug, Clone)]
struct Entry {
    /// Dimensions as the daemon names them, with their names.
    scope: Vec<(String, Vec<String>)>,
    left_usd: Option<String>,
}

/// The scopes that have the same dimensions.
#[derive(Debug, Clone)]
struct Kind {
    dimensions: Vec<Dimension>,
    /// Numbers of the entries, by a hash over one name of each dimension.
    entries: HashMap<u64, Vec<usize>, BuildHasherDefault<Hashed>>,
    /// Entries with many names, which are compared one by one.
    long: Vec<usize>,
}

/// Combinations of an entry's names that are hashed.
const COMBINATIONS_MAX: usize = 64;

/// The state of budgets, for lookups.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    /// In the message's order, scopes that are used up first.
    entries: Vec<Entry>,
    kinds: Vec<Kind>,
    everything: bool,
}

impl From<Budgets> for Checker {
    fn from(told: Budgets) -> Self {
        let left = told.left.into_iter().map(|left| (left.scope, left.usd));
        Self::new(told.budget.is_some_and(|budget| budget.should_throttle), told.used_up, left)
    }
}

impl Checker {
    /// Scopes that are used up, and amounts that are left of others; `everything` if a hard budget of everything is used up.
    #[must_use]
    pub fn new(
        everything: bool,
        used_up: impl IntoIterator<Item = Scope>,
        left: impl IntoIterator<Item = (Scope, String)>,
    ) -> Self {
        let mut checker = Self { everything, ..Self::default() };
        if everything {
            checker.add(Scope::new(), None);
        }
        used_up.into_iter().for_each(|scope| checker.add(scope, None));
        left.into_iter().for_each(|(scope, usd)| checker.add(scope, Some(usd)));
        checker
    }

    fn add(&mut self, scope: Scope, left_usd: Option<String>) {
        let Some(dimensions) = scope.keys().map(|name| Dimension::by_name(name)).collect::<Option<Vec<_>>>() else {
            return;
        };
        let entry = Entry { scope: scope.into_iter().collect(), left_usd };
        let found = self.kinds.iter().position(|kind| kind.dimensions == dimensions).unwrap_or_else(|| {
            self.kinds.push(Kind { dimensions, entries: HashMap::default(), long: Vec::new() });
            self.kinds.len() - 1
        });
        let (kind, number) = (&mut self.kinds[found], self.entries.len());
        let combinations = entry.scope.iter().fold(1_usize, |all, (_, names)| all.saturating_mul(names.len()));
        if combinations > COMBINATIONS_MAX {
            kind.long.push(number);
        } else {
            let mut hashes = vec![SEED];
            for (_, names) in &entry.scope {
                hashes = hashes.iter().flat_map(|hash| names.iter().map(|name| add_name(*hash, name))).collect();
            }
            for hash in hashes {
                kind.entries.entry(hash).or_default().push(number);
            }
        }
        self.entries.push(entry);
    }

    /// Whether a hard budget of everything is used up.
    #[must_use]
    pub const fn everything(&self) -> bool {
        self.everything
    }

    /// Whether a scope has a tag: calls are then to be checked with theirs.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.kinds.iter().any(|kind| kind.dimensions.iter().any(|one| matches!(one, Dimension::Tag(_))))
    }

    /// Decides about a call.
    pub fn check(&self, call: &CallScope<'_>, defaults: &Defaults<'_>) -> Decision {
        if self.entries.is_empty() {
            return Decision::default();
        }
        let values = Values::of(call, defaults);
        let (mut used_up, mut least) = (None::<usize>, None::<(usize, &str)>);
        self.each_match(&values, &mut |number| match &self.entries[number].left_usd {
            None => used_up = Some(used_up.map_or(number, |first| first.min(number))),
            Some(usd) => {
                let is_less = |(first, least): (usize, &str)| match compare(usd, least) {
                    Some(Ordering::Equal) | None => number < first,
                    Some(order) => order == Ordering::Less,
                };
                if least.is_none_or(is_less) {
                    least = Some((number, usd));
                }
            }
        });
        if let Some(number) = used_up {
            let scope = self.named(number, &values);
            return Decision { remaining_usd: Some("0".to_owned()), refused: Some(BudgetExceeded::UsedUp { scope }) };
        }
        let Some((number, usd)) = least else { return Decision::default() };
        let is_above =
            !call.estimate.is_empty() && !matches!(compare(call.estimate, usd), Some(Ordering::Less | Ordering::Equal));
        let refused = is_above.then(|| BudgetExceeded::TooLittleLeft {
            scope: self.named(number, &values),
            left_usd: usd.to_owned(),
            estimate_usd: call.estimate.to_owned(),
        });
        Decision { remaining_usd: Some(usd.to_owned()), refused }
    }

    /// Gives the number of each entry that the call counts towards.
    fn each_match(&self, values: &Values<'_>, found: &mut impl FnMut(usize)) {
        for kind in &self.kinds {
            self.probe(kind, values, 0, SEED, found);
            kind.long.iter().copied().filter(|number| self.matches(kind, *number, values)).for_each(&mut *found);
        }
    }

    fn probe(&self, kind: &Kind, values: &Values<'_>, at: usize, hash: u64, found: &mut impl FnMut(usize)) {
        if let Some(dimension) = kind.dimensions.get(at) {
            for name in values.of_dimension(dimension) {
                self.probe(kind, values, at + 1, add_name(hash, name), found);
            }
        } else if let Some(numbers) = kind.entries.get(&hash) {
            numbers.iter().copied().filter(|number| self.matches(kind, *number, values)).for_each(found);
        }
    }

    fn matches(&self, kind: &Kind, number: usize, values: &Values<'_>) -> bool {
        let mut scope = self.entries[number].scope.iter().zip(&kind.dimensions);
        scope.all(|((_, names), dimension)| {
            values.of_dimension(dimension).any(|value| names.iter().any(|name| name == value))
        })
    }

    /// An entry's scope, with the names that the call has.
    fn named(&self, number: usize, values: &Values<'_>) -> Vec<(String, String)> {
        let name = |(key, names): &(String, Vec<String>)| {
            let dimension = Dimension::by_name(key)?;
            let value = values.of_dimension(&dimension).find(|value| names.iter().any(|name| name == value))?;
            Some((key.clone(), value.to_owned()))
        };
        self.entries[number].scope.iter().filter_map(name).collect()
    }
}

/// A call's values as they are compared.
struct Values<'a> {
    call: &'a CallScope<'a>,
    defaults: &'a Defaults<'a>,
    provider: Cow<'a, str>,
    family: &'a str,
    /// Hashes of API keys, by the tag's name.
    keys: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Values<'a> {
    fn of(call: &'a CallScope<'a>, defaults: &'a Defaults<'a>) -> Self {
        let family = family(call.model);
        let family = if family.len() < call.model.len() { family } else { "" };
        let own = defaults.tags.iter().map(|(name, value)| (&**name, &**value));
        let tags = call.tags.iter().copied().chain(own);
        let is_key = |(name, value): &(&str, &str)| name.eq_ignore_ascii_case(API_KEY) && !value.is_empty();
        let keys = tags.filter(is_key).map(|(name, value)| (name, concealed(name, value))).collect();
        Self { call, defaults, provider: lowered(call.provider), family, keys }
    }

    /// The names under which the call counts in a dimension: none, one or two.
    fn of_dimension(&self, dimension: &Dimension) -> impl Iterator<Item = &str> {
        let names = match dimension {
            Dimension::Provider => [&*self.provider, ""],
            Dimension::Model => [self.call.model, self.family],
            Dimension::User => [self.call.user_id, ""],
            Dimension::App => [self.app(), ""],
            Dimension::Tag(name) => [self.tag(name), ""],
        };
        names.into_iter().filter(|name| !name.is_empty())
    }

    fn app(&self) -> &str {
        let stated = [self.call.app, self.defaults.app].into_iter().find(|app| !app.is_empty());
        stated.unwrap_or_else(|| self.tag(APP))
    }

    fn tag(&self, name: &str) -> &str {
        if let Some((_, hash)) = self.keys.iter().find(|(known, _)| *known == name) {
            return hash;
        }
        if let Some((_, value)) = self.call.tags.iter().find(|(known, _)| *known == name) {
            return value;
        }
        self.defaults.tags.iter().find(|(known, _)| known == name).map_or("", |(_, value)| &**value)
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

/// Compares two decimal numbers by all their digits. None if one is not digits with at most one point.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    let parts = |text: &'_ str| -> Option<()> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        (!(whole.is_empty() && fraction.is_empty()) && is_number(whole) && is_number(fraction)).then_some(())
    };
    parts(a)?;
    parts(b)?;
    let (whole_a, fraction_a) = a.split_once('.').unwrap_or((a, ""));
    let (whole_b, fraction_b) = b.split_once('.').unwrap_or((b, ""));
    let (whole_a, whole_b) = (whole_a.trim_start_matches('0'), whole_b.trim_start_matches('0'));
    let (fraction_a, fraction_b) = (fraction_a.trim_end_matches('0'), fraction_b.trim_end_matches('0'));
    Some((whole_a.len(), whole_a, fraction_a).cmp(&(whole_b.len(), whole_b, fraction_b)))
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash over the names so far and one more. The names are those of budgets, which administrators choose, and each match
/// is compared with them: a collision costs time alone.
fn add_name(hash: u64, name: &str) -> u64 {
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let mut hash = hash;
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    for word in words {
        hash = step(hash, u64::from_le_bytes(*word));
    }
    // 0xff is in no text, so it marks the end of the name.
    step(hash, rest.iter().fold(0xff, |last, byte| last << 8 | u64::from(*byte)))
}

/// Takes a hash as it is, but for its upper half, which tables do not look at.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
