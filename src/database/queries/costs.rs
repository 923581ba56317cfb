//! Daily costs as the cost history shows them: days, and within them models and endpoints.

use chrono::NaiveDate;
use tokio_postgres::types::Type;

use super::sums::{OF_ROLLUP, Sums};
use super::{QueryError, Reading};

/// What one day, provider, model (Claude's only) and endpoint (RentCast's only) added up to.
#[derive(Debug, Clone)]
pub struct DayRow {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// The provider.
    pub provider: String,
    /// The model; empty for other providers than `claude`.
    pub model: String,
    /// The endpoint; empty for other providers than `rentcast`.
    pub endpoint: String,
    /// The sums.
    pub sums: Sums,
}

/// The days from `from` to `to`, both included; newest first.
///
/// # Errors
/// [`QueryError`].
pub async fn history(reading: &Reading, from: NaiveDate, to: NaiveDate) -> Result<Vec<DayRow>, QueryError> {
    let sql = format!(
        "SELECT day, provider, CASE WHEN provider = 'claude' THEN model ELSE '' END, \
         CASE WHEN provider = 'rentcast' THEN endpoint ELSE '' END, {OF_ROLLUP} \
         FROM public.daily_api_costs WHERE day BETWEEN $1 AND $2 GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4"
    );
    let rows = reading.query_typed(&sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?;
    let read = |row: &tokio_postgres::Row| {
        let (day, provider, model, endpoint) = (row.get(0), row.get(1), row.get(2), row.get(3));
        Ok(DayRow { day, provider, model, endpoint, sums: Sums::read(row, 4)? })
    };
    rows.iter().map(read).collect()
}

/// What was spent in these days, everything together.
///
/// # Errors
/// [`QueryError`].
pub async fn total(reading: &Reading, from: NaiveDate, to: NaiveDate) -> Result<Sums, QueryError> {
    let sql = format!("SELECT {OF_ROLLUP} FROM public.daily_api_costs WHERE day BETWEEN $1 AND $2");
    let rows = reading.query_typed(&sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?;
    // An aggregate returns one row, whatever the table holds.
    rows.first().map_or_else(|| Ok(Sums::default()), |row| Ok(Sums::read(row, 0)?))
}

/// What was ever spent, by provider.
///
/// # Errors
/// [`QueryError`].
pub async fn lifetime(reading: &Reading) -> Result<Vec<(String, Sums)>, QueryError> {
    let sql = format!("SELECT provider, {OF_ROLLUP} FROM public.user_api_totals GROUP BY 1 ORDER BY 1");
    let rows = reading.query_typed(&sql, &[]).await?;
    rows.iter().map(|row| Ok((row.get(0), Sums::read(row, 1)?))).collect()
}
