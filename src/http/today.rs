//! `GET /today` on the local socket: today's costs so far, for `tallyd top`. The socket's user can read the database
//! anyway, so no token is needed.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::SharedDaemon;
use super::error::ApiError;
use super::parameters::{Parameters, local_now};
use super::v1::budgets::Budgets;
use crate::http::answer::Json;
use tallyd_model::pricing::Usd;
use tallyd_store::budgets::{BudgetScope, BudgetStanding};
use tallyd_store::queries::costs::total;
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, GroupRow, SortBy};
use tallyd_store::whole::Whole;

/// The most groups of an answer.
const MODELS_MAX: i64 = 500;

/// The groups of today.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TodayParameters {
    /// A dimension: `app`, `tag:team` …; models if it is left out.
    by: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Today {
    pub day: NaiveDate,
    /// The reporting time zone.
    pub time_zone: String,
    pub calls: Whole,
    pub cost_usd: Usd,
    /// The dimension of the groups, if not the model: `tag:team`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// By model, or the other groups; the highest cost first.
    pub models: Vec<ModelToday>,
    pub budgets: Vec<BudgetToday>,
}

/// A model's or another group's calls of today.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ModelToday {
    /// The provider; empty of other groups than models.
    pub provider: String,
    /// The model or the group's name; empty for calls that name none.
    pub model: String,
    pub calls: Whole,
    /// Failed calls.
    pub errors: Whole,
    /// Input tokens, those of caches included.
    pub input_tokens: Whole,
    pub output_tokens: Whole,
    pub cost_usd: Usd,
    pub unpriced_calls: Whole,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BudgetToday {
    /// The budget's scope and period as text: `all / month`, `provider claude / day`.
    pub name: String,
    pub amount_usd: Usd,
    /// The used share, percent.
    pub used_percent: Usd,
    pub status: BudgetStanding,
}

impl From<GroupRow> for ModelToday {
    fn from(row: GroupRow) -> Self {
        let sums = row.sums;
        let mut names =
            [row.model, row.endpoint, row.user, row.app].into_iter().flatten().chain(row.tags.into_values());
        Self {
            model: names.next().unwrap_or_default(),
            provider: row.provider.unwrap_or_default(),
            calls: sums.calls,
            errors: sums.errors,
            input_tokens: sums.input_tokens
                + sums.cache_read_tokens
                + sums.cache_write_5m_tokens
                + sums.cache_write_1h_tokens,
            output_tokens: sums.output_tokens,
            cost_usd: sums.cost_usd,
            unpriced_calls: sums.unpriced_calls,
        }
    }
}

/// `GET /today`, on the local socket only.
pub(super) async fn today(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<TodayParameters>,
) -> Result<Json<Today>, ApiError> {
    let by = parameters.by.filter(|by| by != "model");
    let group_by = match by.as_deref().map(Dimension::parse).transpose() {
        Ok(Some(dimension)) => vec![dimension],
        Ok(None) => vec![Dimension::Provider, Dimension::Model],
        Err(fault) => return Err(ApiError::parameter("by", fault, "by=tag:team, by=app, by=user …")),
    };
    let day = local_now(&daemon).date_naive();
    let time_zone = daemon.settings.zone.name().to_owned();
    let reading = daemon.reading().await?;
    let sums = total(&reading, day, day).await?;
    let mut question = CostQuery {
        from: day,
        to: day,
        zone: time_zone.clone(),
        bucket: Bucket::Total,
        group_by,
        filters: Vec::new(),
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: MODELS_MAX,
        offset: 0,
    };
    question.learn(&reading).await?;
    let models = question.ask(&reading).await?.rows.into_iter().map(ModelToday::from).collect();
    let budgets = Budgets::read(&daemon, &reading).await?.budgets.into_iter().map(|row| {
        let budget = row.state.budget;
        let scope = match budget.scope {
            BudgetScope::Global => "all".to_owned(),
            scope => format!("{} {}", scope.name(), budget.scope_value),
        };
        BudgetToday {
            name: format!("{scope} / {}", budget.period.name()),
            amount_usd: budget.amount_usd,
            used_percent: row.used_percent,
            status: row.state.status,
        }
    });
    let budgets = budgets.collect();
    reading.finish().await?;
    Ok(Json(Today { day, time_zone, calls: sums.calls, cost_usd: sums.cost_usd, by, models, budgets }))
}
