//! Input of the forecast: daily sums by provider, or by model of one provider, from the rollups.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use tallyd_model::forecast::{HISTORY_DAYS, History, Part, SHARE_DAYS};
use tallyd_model::pricing::Usd;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// The largest parts have a series each; the others share one, [`OTHER`].
const PARTS_MAX: i64 = 31;
const OTHER: &str = "(other)";

/// Reads the daily sums by provider, or those of one provider by model.
///
/// # Errors
/// PostgreSQL's.
pub async fn spending_history(
    client: &Client,
    today: NaiveDate,
    provider: &str,
) -> Result<History, tokio_postgres::Error> {
    let parts = read(client, "provider", today - Days::new(HISTORY_DAYS), today, provider).await?;
    let models = match provider {
        "" => Vec::new(),
        _ => read(client, "model", today - Days::new(SHARE_DAYS as u64), today, provider).await?,
    };
    Ok(History { today, parts, models })
}

/// `column` comes from this module, never from a request.
async fn read(
    client: &Client,
    column: &'static str,
    first: NaiveDate,
    today: NaiveDate,
    provider: &str,
) -> Result<Vec<Part>, tokio_postgres::Error> {
    let sql = format!(
        "WITH sums AS (SELECT {column} AS name, day, sum(cost_usd) AS usd FROM public.daily_api_costs \
             WHERE day >= $1 AND day <= $2 AND ($3 = '' OR provider = $3) GROUP BY 1, 2), \
         places AS (SELECT name, row_number() OVER (ORDER BY sum(usd) DESC, name) AS place FROM sums GROUP BY name), \
         parts AS (SELECT CASE WHEN place <= $4 THEN name ELSE '{OTHER}' END AS name, day, sum(usd) AS usd \
             FROM sums JOIN places USING (name) GROUP BY 1, 2) \
         SELECT name, day, round(usd, 18) FROM parts WHERE usd <> 0 ORDER BY name, day"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&first, Type::DATE), (&today, Type::DATE), (&provider, Type::TEXT), (&PARTS_MAX, Type::INT8)];
    let mut found: BTreeMap<String, BTreeMap<NaiveDate, Usd>> = BTreeMap::new();
    for row in client.query_typed(&sql, &parameters).await? {
        found.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    let part = |(name, sums): (String, BTreeMap<NaiveDate, Usd>)| {
        // A series begins with its first cost above 0, not with a credit.
        let first = *sums.iter().find(|(_, usd)| **usd > Usd::ZERO)?.0;
        let days = first.iter_days().take_while(|day| *day <= today);
        Some(Part { name, days: days.map(|day| sums.get(&day).copied().unwrap_or(Usd::ZERO)).collect() })
    };
    Ok(found.into_iter().filter_map(part).collect())
}
