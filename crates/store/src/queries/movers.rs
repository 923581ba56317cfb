//! Top movers: the groups whose costs differ most between two periods.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::grouped::{CostQuery, Source};
use super::{Parameter, QueryError};
use crate::whole::Whole;
use tallyd_model::pricing::Usd;

/// A group whose costs of two periods differ.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Mover {
    /// The group: each name that was grouped by, and its value.
    #[serde(flatten)]
    #[schema(example = json!({"provider": "claude", "model": "claude-sonnet-5"}))]
    pub group: BTreeMap<String, String>,
    /// Cost of the first period.
    #[schema(value_type = String, example = "12.5")]
    pub before_usd: Usd,
    /// Cost of the second.
    #[schema(value_type = String, example = "31.2")]
    pub after_usd: Usd,
    /// The second less the first.
    #[schema(value_type = String, example = "18.7")]
    pub difference_usd: Usd,
    /// Calls of the first period.
    pub before_calls: Whole,
    /// Calls of the second.
    pub after_calls: Whole,
}

impl CostQuery {
    /// The groups whose costs differ most between the days `before` and the days of the request, at most `limit`.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn movers(
        &self,
        client: &Client,
        (before_from, before_to): (NaiveDate, NaiveDate),
    ) -> Result<Vec<Mover>, QueryError> {
        let source = self.source();
        let (earlier, later) = (source.range(4, 5, 6), source.range(1, 2, 6));
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.from, Type::DATE),
            (&self.to, Type::DATE),
            (&self.limit, Type::INT8),
            (&before_from, Type::DATE),
            (&before_to, Type::DATE),
        ];
        if self.asks_for_zone() {
            parameters.push((&self.zone, Type::TEXT));
        }
        let keys: Vec<String> = self.group_by.iter().map(|dimension| dimension.column(source)).collect();
        let groups: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
        let (keys, groups) = (keys.join(", "), groups.join(", "));
        let calls = if source == Source::ApiUsageLog { "count(*)" } else { "sum(calls)" };
        let both = |range: &str| {
            format!(
                "round(coalesce(sum(cost_usd) FILTER (WHERE {range}), 0), 18), coalesce({calls} FILTER (WHERE {range}), 0)"
            )
        };
        let at = self.group_by.len();
        let difference = format!("abs(g.c{} - g.c{})", at + 1, at + 3);
        let names: Vec<String> = (1..=at + 4).map(|at| format!("c{at}")).collect();
        let sql = format!(
            "SELECT * FROM (SELECT {keys}, {}, {} FROM {} WHERE (({earlier}) OR ({later})){}{} GROUP BY {groups}) AS g ({}) \
             WHERE {difference} > 0 ORDER BY {difference} DESC, {groups} LIMIT $3",
            both(&earlier),
            both(&later),
            source.table(),
            self.one_dimension(),
            self.conditions(parameters.len()),
            names.join(", "),
        );
        parameters.extend(self.filters.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        let rows = client.query_typed(&sql, &parameters).await?;
        let read = |row: &tokio_postgres::Row| {
            let (before_usd, after_usd): (Usd, Usd) = (row.try_get(at)?, row.try_get(at + 2)?);
            Ok(Mover {
                group: self.group_by.iter().enumerate().map(|(at, name)| (name.name(), row.get(at))).collect(),
                before_usd,
                after_usd,
                difference_usd: Usd::from_attos(after_usd.attos().saturating_sub(before_usd.attos())),
                before_calls: row.try_get(at + 1)?,
                after_calls: row.try_get(at + 3)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
