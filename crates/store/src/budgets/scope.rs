//! A budget's scope: up to two dimensions, each with a name. Without one it is everything.
//!
//! A budget is evaluated from a rollup, so a scope has only dimensions that one rollup tells apart:
//!
//! | rollup | scopes |
//! |---|---|
//! | `daily_api_costs` | everything; provider, model, both |
//! | `daily_dimension_costs` | an application or a tag, alone or with a provider or a model |
//! | `tallyd_user_day_parts` | a user, alone or with a provider |
//!
//! Two tags, a user's model or a user's tag are in the call log alone, which cannot be summed within a second.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::slack;
use super::store::SetBudgetError;
use crate::queries::grouped::Dimension;
use tallyd_model::pricing::{normalise_provider, provider_names};
use tallyd_model::tags::{APP, concealed};
use tallyd_protocol::budgets;

/// Dimensions of a scope.
pub const DIMENSIONS_MAX: usize = 2;
/// Bytes of a name; the names in calls are not longer.
const NAME_BYTES_MAX: usize = 512;
/// The remedy for a scope that cannot be.
pub const HINT: &str = "a scope is a provider, a model, a user, an app or a tag, such as `tag:team=search`; or two of them: a \
    provider with any, a model with a provider, an app or a tag";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct BudgetScope {
    /// By the dimensions' names.
    parts: Vec<(Dimension, String)>,
}

/// The rollup that has a scope's spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollup {
    /// `daily_api_costs`.
    Models,
    /// `daily_dimension_costs`.
    Dimensions,
    /// `tallyd_user_day_parts`.
    Users,
}

/// A scope's names as the rollups have them; empty where the scope does not name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Key<'a> {
    /// A name of `tallyd_dimensions`.
    pub dimension: &'a str,
    /// Its value, or the user.
    pub value: &'a str,
    pub provider: &'a str,
    pub model: &'a str,
}

impl BudgetScope {
    /// A scope of names by dimension, in the form in which calls are stored.
    ///
    /// # Errors
    /// [`SetBudgetError::Invalid`], with the part at fault.
    pub fn parse(names: &BTreeMap<String, String>) -> Result<Self, SetBudgetError> {
        let invalid = |message: String| SetBudgetError::Invalid { message, hint: HINT };
        let mut parts = BTreeMap::new();
        for (key, name) in names {
            let dimension = Dimension::parse(key).map_err(|fault| invalid(format!("scope: {key:?}: {fault}")))?;
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
                let bounds = format!("1 to {NAME_BYTES_MAX} bytes, without a NUL character");
                return Err(invalid(format!("scope: the name of {key} is not {bounds}")));
            }
            let name = match &dimension {
                Dimension::Provider => normalise_provider(name).into_owned(),
                Dimension::Tag(tag) => concealed(tag, name).into_owned(),
                _ => name.clone(),
            };
            if parts.insert(dimension.name(), (dimension, name)).is_some() {
                return Err(invalid(format!("scope: {key} is there twice")));
            }
        }
        let scope = Self { parts: parts.into_values().collect() };
        if scope.rollup().is_none() {
            let names: Vec<String> = scope.parts.iter().map(|(dimension, _)| dimension.name()).collect();
            return Err(invalid(format!("scope: no rollup tells {} apart", names.join(" and "))));
        }
        Ok(scope)
    }

    /// A stored scope. None if it is not one that this version knows.
    pub(super) fn read(stored: &serde_json::Value) -> Option<Self> {
        let names = stored.as_object()?.iter().map(|(key, name)| Some((key.clone(), name.as_str()?.to_owned())));
        Self::parse(&names.collect::<Option<BTreeMap<_, _>>>()?).ok()
    }

    /// True for the scope of everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.parts.is_empty()
    }

    /// The dimensions and their names.
    #[must_use]
    pub fn parts(&self) -> &[(Dimension, String)] {
        &self.parts
    }

    /// The name in a dimension; empty without it.
    #[must_use]
    pub fn of(&self, wanted: &Dimension) -> &str {
        self.parts.iter().find(|(dimension, _)| dimension == wanted).map_or("", |(_, name)| name)
    }

    /// The rollup that tells all dimensions apart.
    pub(super) fn rollup(&self) -> Option<Rollup> {
        use Dimension::{App, Model, Provider, Tag, User};
        let dimensions: Vec<&Dimension> = self.parts.iter().map(|(dimension, _)| dimension).collect();
        match dimensions.as_slice() {
            [] | [Provider | Model] | [Model, Provider] => Some(Rollup::Models),
            [User] | [Provider, User] => Some(Rollup::Users),
            [App | Tag(_)] | [App, Model | Provider] | [Model | Provider, Tag(_)] => Some(Rollup::Dimensions),
            _ => None,
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        let mut key =
            Key { provider: self.of(&Dimension::Provider), model: self.of(&Dimension::Model), ..Key::default() };
        for (dimension, name) in &self.parts {
            match dimension {
                Dimension::App => (key.dimension, key.value) = (APP, name.as_str()),
                Dimension::Tag(tag) => (key.dimension, key.value) = (tag.as_str(), name.as_str()),
                Dimension::User => key.value = name,
                _ => {}
            }
        }
        key
    }

    /// The scope as clients receive it. A provider has all its names, so that clients need not know them.
    #[must_use]
    pub fn told(&self) -> budgets::Scope {
        let names = |(dimension, name): &(Dimension, String)| match dimension {
            Dimension::Provider => provider_names(name).map(ToOwned::to_owned).collect(),
            _ => vec![name.clone()],
        };
        self.parts.iter().map(|part| (part.0.name(), names(part))).collect()
    }

    /// Scopes with a larger effect have a lower rank.
    pub(super) fn rank(&self) -> usize {
        let rank = |dimension: &Dimension| match dimension {
            Dimension::Provider => 1,
            Dimension::Model => 2,
            Dimension::User => 8,
            _ => 4,
        };
        self.parts.iter().map(|(dimension, _)| rank(dimension)).sum()
    }

    /// In a sentence: `all spend`, `tag team "search" and user "u-1"`.
    #[must_use]
    pub fn words(&self) -> String {
        let words = |(dimension, name): &(Dimension, String)| match dimension {
            Dimension::Tag(tag) => format!("tag {tag} {}", slack::named(name)),
            dimension => format!("{} {}", dimension.name(), slack::named(name)),
        };
        let all: Vec<String> = self.parts.iter().map(words).collect();
        if all.is_empty() { "all spend".to_owned() } else { all.join(" and ") }
    }
}

/// As the command line takes it: `everything`, `tag:team=search, user=u-1`.
impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("everything");
        }
        for (at, (dimension, name)) in self.parts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={name}", dimension.name())?;
        }
        Ok(())
    }
}

impl Serialize for BudgetScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.parts.len()))?;
        for (dimension, name) in &self.parts {
            map.serialize_entry(&dimension.name(), name)?;
        }
        map.end()
    }
}

#[cfg(test)]
pub(crate) fn scope(parts: &[(&str, &str)]) -> BudgetScope {
    BudgetScope::parse(&parts.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_those_that_a_rollup_tells_apart() {
        let names = ["provider", "model", "user", "app", "tag:team", "tag:customer"];
        let taken = |parts: &[&str]| {
            let parts = parts.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect();
            BudgetScope::parse(&parts).is_ok()
        };
        assert!(taken(&[]) && names.iter().all(|name| taken(&[name])));
        let mut pairs = Vec::new();
        for (at, first) in names.iter().enumerate() {
            pairs.extend(
                names[at + 1..].iter().filter(|second| taken(&[first, second])).map(|second| (*first, *second)),
            );
        }
        let expected = [
            ("provider", "model"),
            ("provider", "user"),
            ("provider", "app"),
            ("provider", "tag:team"),
            ("provider", "tag:customer"),
            ("model", "app"),
            ("model", "tag:team"),
            ("model", "tag:customer"),
        ];
        assert_eq!(pairs, expected);
        assert!(
            !taken(&["provider", "model", "app"]) && !taken(&["endpoint"]) && !taken(&["tag:a b"]) && !taken(&["team"])
        );
        assert!(!taken(&["app", "tag:app"]), "twice the same");
    }

    #[test]
    fn names_are_stored_as_calls_have_them() {
        let one = scope(&[("tag:api_key", "sk-live-1"), ("provider", " Anthropic")]);
        assert_eq!(one.to_string(), "provider=claude, tag:api_key=sha256:f8dc9db173ee");
        assert_eq!(one.words(), "provider \"claude\" and tag api_key \"sha256:f8dc9db173ee\"");
        assert_eq!(BudgetScope::read(&serde_json::json!(one)), Some(one.clone()));
        assert_eq!(one.told()["provider"], provider_names("claude").collect::<Vec<_>>());
        assert_eq!(scope(&[("tag:app", "web")]), scope(&[("app", "web")]));
        assert_eq!((scope(&[]).to_string().as_str(), scope(&[]).words().as_str()), ("everything", "all spend"));
    }
}
