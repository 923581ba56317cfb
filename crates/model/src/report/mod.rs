//! A report: the spend of a finished day, week or month, and the changes against the one before.
//!
//! Every sum is exact: a report has the digits of the rollups, and only its text and HTML round to cents.

mod html;
mod text;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bill::close::ResidueKind;
use crate::pricing::Usd;

pub use html::html;
pub use text::{headline, lines};

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// `day`, `week` or `month`.
    pub period: String,
    /// Its first day, in the reporting time zone.
    pub first: NaiveDate,
    /// Its last day.
    pub last: NaiveDate,
    /// The first day of the period before; the day before `first` is its last.
    pub before_first: NaiveDate,
    /// The reporting time zone.
    pub time_zone: String,
    /// The period's sums.
    pub total: ReportSums,
    /// The sums of the period before.
    pub before: ReportSums,
    /// Cost of the period without that of the one before.
    #[schema(value_type = String, example = "-12.5")]
    pub change_usd: Usd,
    /// The same in percent of the period before, rounded to two decimals. Null if that had no cost.
    #[schema(value_type = Option<String>, example = "12.34")]
    pub change_percent: Option<Usd>,
    /// The largest changes by model, user, app and each other dimension.
    pub movers: Vec<ReportMovers>,
    /// Budgets in their current period, when the report was written.
    pub budgets: Vec<ReportBudget>,
    /// Models with unpriced calls in the period, most calls first.
    pub unpriced: Vec<ReportUnpriced>,
    /// Which days of the period are closed, by vendor. Empty if no vendor's reports are read.
    #[serde(default)]
    pub closings: Vec<ReportClosings>,
}

/// A vendor's days of the period, in UTC, when the report was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportClosings {
    /// The vendor.
    pub vendor: String,
    /// Days whose bill agrees to the cent.
    pub matched: u64,
    /// Days that differ.
    pub differs: u64,
    /// Days that are not closed.
    pub open: u64,
    /// Recorded minus billed, of the days that differ.
    #[schema(value_type = String, example = "-12.5")]
    pub difference_usd: Usd,
    /// The kinds of the parts of these differences, the largest first.
    #[serde(default)]
    pub parts: Vec<ResidueKind>,
}

/// Sums of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportSums {
    /// Exact cost of the priced calls.
    #[schema(value_type = String, example = "31.2")]
    pub cost_usd: Usd,
    /// Calls.
    pub calls: u64,
    /// Those whose status was 400 or above.
    pub errors: u64,
    /// Input and output tokens, cache included.
    pub tokens: u64,
    /// Unpriced calls; they are not in `cost_usd`.
    pub unpriced_calls: u64,
}

/// Changes by one dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportMovers {
    /// `model`, `user`, `app` or a tag's name.
    pub by: String,
    /// The first day of which all costs count; null if that holds for both periods.
    pub whole_from: Option<NaiveDate>,
    /// The largest changes, at most five.
    pub movers: Vec<ReportMover>,
}

/// A part whose cost changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportMover {
    /// The model, user or value; empty for calls without one.
    pub name: String,
    /// Cost of the period.
    #[schema(value_type = String, example = "31.2")]
    pub cost_usd: Usd,
    /// Cost of the period before.
    #[schema(value_type = String, example = "12.5")]
    pub before_usd: Usd,
}

impl ReportMover {
    /// The change; zero if it overflows.
    #[must_use]
    pub fn change(&self) -> Usd {
        self.cost_usd.checked_sub(self.before_usd).unwrap_or(Usd::ZERO)
    }
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportBudget {
    /// Its period and scope: `monthly, all spend`.
    pub name: String,
    /// Its spend since the begin of its current period.
    #[schema(value_type = String, example = "31.2")]
    pub spent_usd: Usd,
    /// Its amount.
    #[schema(value_type = String, example = "40")]
    pub amount_usd: Usd,
    /// The used share in percent, rounded down to two decimals.
    #[schema(value_type = String, example = "78")]
    pub used_percent: Usd,
    /// The estimated spend of its whole period; null without a forecast.
    #[schema(value_type = Option<String>, example = "38.5")]
    pub forecast_usd: Option<Usd>,
}

/// Unpriced calls of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportUnpriced {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Unpriced calls of the period.
    pub calls: u64,
}

/// A change in percent of the amount before, to two decimals, half away from zero. None if that was not above zero.
#[must_use]
pub fn percent_of(change: Usd, before: Usd) -> Option<Usd> {
    if before <= Usd::ZERO {
        return None;
    }
    let doubled = change.attos().checked_mul(20_000)? / before.attos();
    let hundredths = (doubled + doubled.signum()) / 2;
    hundredths.checked_mul(Usd::ONE.attos() / 100).map(Usd::from_attos)
}

#[cfg(test)]
mod tests;
