//! What changed most: a week against the week before, by model.

use chrono::{Days, NaiveDate};
use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::{Parameter, QueryError, Reading};
use tallyd_model::pricing::Usd;

/// A model whose costs changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Mover {
    /// The provider.
    pub provider: String,
    /// The model; empty for a provider that has none.
    pub model: String,
    /// What the seven days before today came to.
    #[schema(value_type = String, example = "31.2")]
    pub cost_usd: Usd,
    /// What the seven days before those came to.
    #[schema(value_type = String, example = "12.5")]
    pub previous_usd: Usd,
}

/// Those that changed most, at most `limit`.
///
/// # Errors
/// [`QueryError`].
pub async fn movers(reading: &Reading, today: NaiveDate, limit: i64) -> Result<Vec<Mover>, QueryError> {
    let (week, before) = (today - Days::new(7), today - Days::new(14));
    let sql = "SELECT provider, model, round(coalesce(sum(cost_usd) FILTER (WHERE day >= $2), 0), 18) AS recent, \
             round(coalesce(sum(cost_usd) FILTER (WHERE day < $2), 0), 18) AS earlier \
         FROM public.daily_api_costs WHERE day >= $1 AND day < $3 GROUP BY 1, 2";
    let sql = format!(
        "SELECT * FROM ({sql}) AS m WHERE recent <> earlier ORDER BY abs(recent - earlier) DESC, 1, 2 LIMIT $4"
    );
    let values: [Parameter<'_>; 4] =
        [(&before, Type::DATE), (&week, Type::DATE), (&today, Type::DATE), (&limit, Type::INT8)];
    let rows = reading.query_typed(&sql, &values).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Mover {
            provider: row.try_get(0)?,
            model: row.try_get(1)?,
            cost_usd: row.try_get(2)?,
            previous_usd: row.try_get(3)?,
        })
    };
    rows.iter().map(read).collect()
}
