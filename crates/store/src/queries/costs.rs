//! Daily costs for the cost history: days, and in them models and endpoints.

use chrono::{Days, NaiveDate};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use super::sums::{OF_ROLLUP, OF_ROW, Sums};
use super::{Parameter, QueryError, Reading};
use tallyd_model::pricing::Usd;

/// A row of the rollup. Its names are borrowed from the answer, because a year has thousands of rows.
#[derive(Debug, Clone, Copy)]
pub struct DayRow<'r> {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// The provider.
    pub provider: &'r str,
    /// The model.
    pub model: &'r str,
    /// The endpoint.
    pub endpoint: &'r str,
    /// The sums.
    pub sums: Sums,
}

/// Rows of the rollup, in no order.
pub struct DayRows(Vec<Row>);

impl DayRows {
    /// Reads the rows one by one.
    ///
    /// # Errors
    /// PostgreSQL's, if a cost does not fit.
    pub fn iter(&self) -> impl Iterator<Item = Result<DayRow<'_>, tokio_postgres::Error>> {
        self.0.iter().map(|row| {
            let (day, provider, model, endpoint) = (row.get(0), row.get(1), row.get(2), row.get(3));
            Ok(DayRow { day, provider, model, endpoint, sums: Sums::read(row, 4)? })
        })
    }
}

/// The rows of the days from `from` to `to`, both included, unordered.
///
/// The caller sums and sorts them: PostgreSQL's sums of `int8` are `numeric`, and took half of the answer's time for a
/// year's rows.
///
/// # Errors
/// [`QueryError`].
pub async fn history(reading: &Reading, from: NaiveDate, to: NaiveDate) -> Result<DayRows, QueryError> {
    let sql = format!(
        "SELECT day, provider, model, endpoint, {OF_ROW} FROM public.daily_api_costs WHERE day BETWEEN $1 AND $2"
    );
    Ok(DayRows(reading.query_typed(&sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?))
}

/// Total costs of these days.
///
/// # Errors
/// [`QueryError`].
pub async fn total(reading: &Reading, from: NaiveDate, to: NaiveDate) -> Result<Sums, QueryError> {
    let sql = format!("SELECT {OF_ROLLUP} FROM public.daily_api_costs WHERE day BETWEEN $1 AND $2");
    let rows = reading.query_typed(&sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?;
    // An aggregate always returns one row.
    rows.first().map_or_else(|| Ok(Sums::default()), |row| Ok(Sums::read(row, 0)?))
}

/// Calls in the rollups, loaded by any daemon.
///
/// # Errors
/// PostgreSQL's.
pub async fn all_calls(client: &Client) -> Result<u64, tokio_postgres::Error> {
    let sql = "SELECT coalesce(sum(calls), 0)::int8 FROM public.daily_api_costs";
    let rows = client.query_typed(sql, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Lifetime costs by provider.
///
/// # Errors
/// [`QueryError`].
pub async fn lifetime(reading: &Reading) -> Result<Vec<(String, Sums)>, QueryError> {
    let sql = format!("SELECT provider, {OF_ROLLUP} FROM public.tallyd_user_total_parts GROUP BY 1 ORDER BY 1");
    let rows = reading.query_typed(&sql, &[]).await?;
    rows.iter().map(|row| Ok((row.get(0), Sums::read(row, 1)?))).collect()
}

/// A model whose costs changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Mover {
    /// The provider.
    pub provider: String,
    /// The model; empty for a provider without models.
    pub model: String,
    /// Cost of the seven days before today.
    #[schema(value_type = String, example = "31.2")]
    pub cost_usd: Usd,
    /// Cost of the seven days before those.
    #[schema(value_type = String, example = "12.5")]
    pub previous_usd: Usd,
}

/// The models whose costs changed most, at most `limit`.
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
