//! Latencies of calls: the SQL behind `GET /api/v1/latency`.
//!
//! No rollup has latencies, and percentiles of days do not add up to those of a month. So the call log is read, over a
//! bounded range. The calls are counted by latency first, and the percentiles are taken from the counts: PostgreSQL counts
//! with several workers and in the memory of the distinct latencies, and each node of Citus counts its own calls. The
//! percentiles are exact: the smallest latency that is not exceeded by the share of the calls.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::grouped::{Dimension, Source};
use super::{Parameter, QueryError};
use crate::whole::Whole;

/// Rows of an answer: the groups with the most calls.
pub const ROWS_MAX: i64 = 1_000;

/// The groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub enum LatencyGroups {
    /// Models of each provider.
    #[default]
    #[serde(rename = "provider,model")]
    ProviderModel,
    /// Models, of any provider.
    #[serde(rename = "model")]
    Model,
    /// Providers.
    #[serde(rename = "provider")]
    Provider,
    /// All calls together.
    #[serde(rename = "total")]
    Total,
}

impl LatencyGroups {
    const fn has_provider(self) -> bool {
        matches!(self, Self::ProviderModel | Self::Provider)
    }

    const fn has_model(self) -> bool {
        matches!(self, Self::ProviderModel | Self::Model)
    }
}

/// A request for latencies.
#[derive(Debug, Clone)]
pub struct LatencyQuery {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The reporting time zone's name.
    pub zone: String,
    /// The groups.
    pub group_by: LatencyGroups,
    /// Only these: a dimension and its value.
    pub filters: Vec<(Dimension, String)>,
}

/// The latencies of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LatencyRow {
    /// The group's provider, if it is grouped by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The group's model, if it is grouped by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Calls.
    pub calls: Whole,
    /// Those that state a latency.
    pub timed_calls: Whole,
    /// Half of the calls took at most this long, milliseconds; null if no call states a latency.
    pub p50_ms: Option<i32>,
    /// 95 of 100 calls took at most this long, milliseconds; null if no call states a latency.
    pub p95_ms: Option<i32>,
}

impl LatencyQuery {
    /// The groups with the most calls, at most [`ROWS_MAX`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, client: &Client) -> Result<Vec<LatencyRow>, QueryError> {
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&self.from, Type::DATE), (&self.to, Type::DATE), (&self.zone, Type::TEXT)];
        parameters.extend(self.filters.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        let rows = client.query_typed(&self.sql(), &parameters).await?;
        let read = |row: &tokio_postgres::Row| {
            Ok(LatencyRow {
                provider: row.try_get::<_, String>(0).ok().filter(|_| self.group_by.has_provider()),
                model: row.try_get::<_, String>(1).ok().filter(|_| self.group_by.has_model()),
                calls: row.try_get(2)?,
                timed_calls: row.try_get(3)?,
                p50_ms: row.try_get(4)?,
                p95_ms: row.try_get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// `$1` and `$2` are the days, `$3` the zone; filters follow.
    fn sql(&self) -> String {
        let log = Source::ApiUsageLog;
        let (table, range) = (log.table(), log.range(1, 2, 3));
        let column = |is_grouped: bool, name: &'static str| if is_grouped { name } else { "''::text" };
        let provider = column(self.group_by.has_provider(), "provider");
        let model = column(self.group_by.has_model(), "model");
        let filters = self.filters.iter().enumerate().fold(String::new(), |text, (at, (dimension, _))| {
            format!("{text} AND {} = ${}", dimension.column(log), at + 4)
        });
        format!(
            "WITH counted AS (SELECT {provider} AS provider, {model} AS model, latency_ms, count(*) AS calls \
                 FROM {table} WHERE {range}{filters} GROUP BY 1, 2, 3), \
             ranked AS (SELECT provider, model, latency_ms, calls, \
                 sum(calls) FILTER (WHERE latency_ms IS NOT NULL) OVER (PARTITION BY provider, model ORDER BY latency_ms) AS rank, \
                 sum(calls) FILTER (WHERE latency_ms IS NOT NULL) OVER (PARTITION BY provider, model) AS timed FROM counted) \
             SELECT provider, model, sum(calls), coalesce(max(timed), 0), \
                 min(latency_ms) FILTER (WHERE rank >= 0.5 * timed), min(latency_ms) FILTER (WHERE rank >= 0.95 * timed) \
             FROM ranked GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {ROWS_MAX}"
        )
    }
}
