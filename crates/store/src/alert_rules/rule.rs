//! A rule: the metric, its calls, its window, and the values at which it warns and alerts.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use super::Level;
use crate::queries::grouped::Dimension;
use tallyd_model::pricing::{Usd, normalise_provider};
use tallyd_model::quiet::QuietHours;

/// Characters of a rule's name, and of its owner.
const NAME_CHARS_MAX: usize = 100;
/// Bytes of a filter's value; names in calls are not longer.
const VALUE_BYTES_MAX: usize = 512;
/// Keys of a filter: a provider, a model, and a user or a dimension.
const FILTERS_MAX: usize = 3;

/// The sum or quotient that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Metric {
    /// Cost in USD.
    Cost,
    /// Calls.
    Calls,
    /// Input and output tokens, cache included.
    Tokens,
    /// Calls with a status of 400 or above, in percent of all.
    ErrorPercent,
    /// Calls without a known price.
    UnpricedCalls,
    /// USD per priced call.
    CostPerCall,
    /// How many times faster than evenly a budget is spent, in the window and in the short window: the smaller of both.
    BurnRate,
    /// The forecast of a budget's period, in percent of its amount.
    ForecastPercent,
}

impl Metric {
    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Calls => "calls",
            Self::Tokens => "tokens",
            Self::ErrorPercent => "error_percent",
            Self::UnpricedCalls => "unpriced_calls",
            Self::CostPerCall => "cost_per_call",
            Self::BurnRate => "burn_rate",
            Self::ForecastPercent => "forecast_percent",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        use Metric::{BurnRate, Calls, Cost, CostPerCall, ErrorPercent, ForecastPercent, Tokens, UnpricedCalls};
        [Cost, Calls, Tokens, ErrorPercent, UnpricedCalls, CostPerCall, BurnRate, ForecastPercent]
            .into_iter()
            .find(|metric| metric.name() == name)
    }

    /// True if it is of a budget.
    #[must_use]
    pub const fn is_of_a_budget(self) -> bool {
        matches!(self, Self::BurnRate | Self::ForecastPercent)
    }
}

/// The running hour or day, and those before it: `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Hours or days, with the running one.
    pub size: i32,
    /// Hours, or else days.
    pub in_hours: bool,
}

impl Window {
    /// Reads `1h` to `2160h`, or `1d` to `90d`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, in_hours) = match (text.strip_suffix('h'), text.strip_suffix('d')) {
            (Some(number), _) => (number, true),
            (_, Some(number)) => (number, false),
            _ => return None,
        };
        let size: i32 = number.parse().ok()?;
        let max = if in_hours { 90 * 24 } else { 90 };
        (1..=max).contains(&size).then_some(Self { size, in_hours })
    }

    /// In a sentence: `24 hours`.
    pub(super) fn words(self) -> String {
        let (one, many) = if self.in_hours { ("hour", "hours") } else { ("day", "days") };
        tallyd_model::wording::noun(self.size.unsigned_abs(), one, many)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.size, if self.in_hours { 'h' } else { 'd' })
    }
}

impl std::str::FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| format!("{text:?} is not a window; write 1h to 2160h, or 1d to 90d"))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A rule to set: made, or in the place of the one of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewRule {
    /// Its name.
    #[schema(max_length = 100)]
    pub name: String,
    /// The sum or quotient that is compared.
    pub metric: Metric,
    /// The calls that count: `provider`, `model`, `user`, `app`, or a tag that is a dimension (`tag:team`), each with its value.
    pub filter: BTreeMap<String, String>,
    /// The window; null for `forecast_percent`, which is of the budget's period.
    #[schema(value_type = Option<String>, example = "24h")]
    pub window: Option<Window>,
    /// The second window of a burn rate, in the unit of the first.
    #[schema(value_type = Option<String>, example = "1h")]
    pub short_window: Option<Window>,
    /// A warning from this value on; null for none.
    #[schema(value_type = Option<String>, example = "80")]
    pub warning: Option<Usd>,
    /// An alert from this value on; null for none.
    #[schema(value_type = Option<String>, example = "100")]
    pub alert: Option<Usd>,
    /// Whether a window without calls is an alert.
    pub no_data: bool,
    /// The budget of `burn_rate` and `forecast_percent`.
    pub budget_id: Option<i32>,
    /// The person or team that looks after it.
    #[schema(max_length = 100)]
    pub owner: String,
    /// The route of its messages.
    pub route: String,
    /// When all of its messages wait; null for never.
    #[schema(value_type = Option<String>, example = "22:00-07:00")]
    pub quiet: Option<QuietHours>,
    /// Whether it is paused: it is not evaluated, and sends no message.
    pub paused: bool,
}

/// A rule, and where it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlertRule {
    /// Its number.
    pub id: i32,
    /// The rule.
    #[serde(flatten)]
    pub rule: NewRule,
    /// Where it stands.
    pub level: Level,
    /// Since when; null before its first evaluation.
    pub since: Option<DateTime<Utc>>,
    /// The value of the last evaluation, rounded to 18 decimals; null where there is none.
    #[schema(value_type = Option<String>, example = "12.5")]
    pub value: Option<Usd>,
    /// How often it has left `normal`.
    #[serde(skip)]
    pub(super) episode: i64,
}

/// Why a rule was not set.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A part of it is invalid.
    #[error("{message}")]
    Invalid {
        /// The part, and the reason.
        message: String,
        /// The remedy.
        hint: &'static str,
    },
}

pub(super) fn invalid<T>(message: impl Into<String>, hint: &'static str) -> Result<T, RuleError> {
    Err(RuleError::Invalid { message: message.into(), hint })
}

/// A dimension's name in `tallyd_dimensions`: `team` of `tag:team`.
pub(super) fn dimension_of(key: &str) -> &str {
    key.strip_prefix("tag:").unwrap_or(key)
}

impl NewRule {
    /// The dimension of its filter by its name in `tallyd_dimensions`, and the value.
    pub(super) fn dimension(&self) -> Option<(&str, &str)> {
        let other = self.filter.iter().find(|(key, _)| !matches!(key.as_str(), "provider" | "model" | "user"));
        other.map(|(key, value)| (dimension_of(key), value.as_str()))
    }

    /// A key's value; empty without one.
    pub(super) fn of(&self, key: &str) -> &str {
        self.filter.get(key).map_or("", String::as_str)
    }

    /// Checks and normalises a rule before it is stored. The names of dimensions and budgets are checked by the caller.
    pub(super) fn checked(mut self) -> Result<Self, RuleError> {
        let is_text = |text: &str, max: usize| text.chars().count() <= max && !text.contains('\0');
        if self.name.trim().is_empty() || !is_text(&self.name, NAME_CHARS_MAX) || !is_text(&self.owner, NAME_CHARS_MAX)
        {
            return invalid("name and owner: at most 100 characters, and a name is not empty", "give it a short name");
        }
        self.check_filter()?;
        self.check_windows()?;
        let mut values = self.warning.iter().chain(&self.alert);
        if values.any(|value| *value <= Usd::ZERO || !value.fits_a_record()) {
            return invalid("warning and alert: above 0, and at most 1000000000", "give a number");
        }
        if self.warning.is_none() && self.alert.is_none() && !self.no_data {
            return invalid("the rule never applies", "give warning, alert or no_data");
        }
        if let (Some(warning), Some(alert)) = (self.warning, self.alert)
            && warning >= alert
        {
            return invalid("warning is not below alert", "a warning comes first");
        }
        if let Some(provider) = self.filter.get_mut("provider") {
            *provider = normalise_provider(provider).into_owned();
        }
        Ok(self)
    }

    fn check_filter(&self) -> Result<(), RuleError> {
        if self.metric.is_of_a_budget() {
            if !self.filter.is_empty() || self.no_data {
                return invalid("filter and no_data: the rule is of a budget's calls", "leave them out");
            }
            if self.budget_id.is_none() {
                return invalid("budget_id: the metric is of a budget", "`tallyd budgets list` shows the ids");
            }
            return Ok(());
        }
        if self.budget_id.is_some() {
            return invalid("budget_id: the metric is of no budget", "leave it out, or choose burn_rate");
        }
        let is_value = |text: &String| !text.is_empty() && text.len() <= VALUE_BYTES_MAX && !text.contains('\0');
        if self.filter.len() > FILTERS_MAX || !self.filter.values().all(is_value) {
            return invalid(
                "filter: at most three, each of 1 to 512 bytes",
                "name a provider, a model, a user or a dimension",
            );
        }
        let is_key = |key: &String| match Dimension::parse(key) {
            Ok(Dimension::Endpoint | Dimension::Platform | Dimension::ServiceTier) | Err(_) => false,
            Ok(dimension) => dimension.name() == *key,
        };
        if let Some(key) = self.filter.keys().find(|key| !is_key(key)) {
            let hint = "the keys are provider, model, user, app and tags that are dimensions, such as tag:team";
            return invalid(format!("filter: {key:?} is not a key"), hint);
        }
        let has_user = self.filter.contains_key("user");
        let others = self.filter.len() - usize::from(has_user) - usize::from(self.filter.contains_key("provider"));
        let dimensions = others - usize::from(self.filter.contains_key("model"));
        if dimensions > 1 || has_user && others > 0 {
            let hint = "a user goes with a provider alone; a dimension with a provider and a model";
            return invalid("filter: the rollups do not have these together", hint);
        }
        Ok(())
    }

    fn check_windows(&self) -> Result<(), RuleError> {
        match (self.metric, self.window, self.short_window) {
            (Metric::ForecastPercent, None, None) => Ok(()),
            (Metric::ForecastPercent, ..) => {
                invalid("window: a forecast is of the budget's whole period", "leave it out")
            }
            (_, None, _) => invalid("window: it has none", "for example 24h or 7d"),
            (Metric::BurnRate, Some(long), Some(short))
                if short.in_hours == long.in_hours && short.size < long.size =>
            {
                Ok(())
            }
            (Metric::BurnRate, ..) => {
                invalid("short_window: it is shorter than the window, and in the same unit", "for example 6h and 1h")
            }
            (_, Some(_), Some(_)) => invalid("short_window: only a burn rate has two", "leave it out"),
            (_, Some(window), None)
                if window.in_hours && (!self.of("user").is_empty() || self.dimension().is_some()) =>
            {
                invalid("window: sums by hour have a provider and a model alone", "give the window in days")
            }
            _ => Ok(()),
        }
    }
}

/// A rule of a cost above 1 USD a day.
#[cfg(test)]
pub(super) fn example() -> NewRule {
    example_of(Metric::Cost, "1d", &[])
}

#[cfg(test)]
fn example_of(metric: Metric, window: &str, filter: &[(&str, &str)]) -> NewRule {
    let filter = filter.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NewRule {
        name: "r".into(),
        metric,
        filter,
        window: Window::parse(window),
        short_window: None,
        warning: None,
        alert: Some(Usd::ONE),
        no_data: false,
        budget_id: None,
        owner: String::new(),
        route: "default".into(),
        quiet: None,
        paused: false,
    }
}

#[cfg(test)]
mod tests {
    use super::example_of as rule;
    use super::*;

    #[test]
    fn a_rule_is_what_a_rollup_answers() {
        assert_eq!(["1h", "2160h", "90d"].map(|text| Window::parse(text).unwrap().to_string()), ["1h", "2160h", "90d"]);
        assert!(["", "h", "0h", "2161h", "91d", "-1d", "1w", "1"].iter().all(|text| Window::parse(text).is_none()));
        let cost = |window, filter: &[(&str, &str)]| rule(Metric::Cost, window, filter).checked().is_ok();
        assert!(
            cost("1h", &[("provider", "Anthropic"), ("model", "m")]) && cost("1d", &[("user", "u"), ("provider", "p")])
        );
        assert!(cost("1d", &[("tag:team", "t"), ("model", "m")]) && !cost("1d", &[("tag:team", "t"), ("app", "a")]));
        assert!(["team", "tag:app", "tag:", "endpoint"].iter().all(|key| !cost("1d", &[(key, "t")])));
        assert!(!cost("1h", &[("tag:team", "t")]) && !cost("1d", &[("user", "u"), ("model", "m")]) && !cost("", &[]));
        let normalised = rule(Metric::Cost, "1h", &[("provider", "Anthropic")]).checked().unwrap();
        assert_eq!(normalised.of("provider"), "claude");
        let burn =
            NewRule { budget_id: Some(1), short_window: Window::parse("1h"), ..rule(Metric::BurnRate, "6h", &[]) };
        assert!(burn.clone().checked().is_ok());
        for wrong in [
            NewRule { short_window: Window::parse("6h"), ..burn.clone() },
            NewRule { short_window: Window::parse("1d"), ..burn.clone() },
            NewRule { budget_id: None, ..burn.clone() },
            NewRule { no_data: true, ..burn.clone() },
            NewRule { alert: None, ..burn.clone() },
            NewRule { warning: Some(Usd::ONE), ..burn.clone() },
            NewRule { alert: Some(Usd::ZERO), ..burn.clone() },
            NewRule { name: " ".into(), ..burn },
        ] {
            assert!(wrong.clone().checked().is_err(), "{wrong:?}");
        }
    }
}
