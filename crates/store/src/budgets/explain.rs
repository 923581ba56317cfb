//! The rest of a budget's alert: the forecast of its period, and the largest parts of its spend.

use chrono::{DateTime, Days, NaiveDate};
use chrono_tz::Tz;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use super::evaluate::{Source, provider};
use super::inbox::NewAlert;
use super::{Budget, slack};
use crate::queries::history::spending_history;
use tallyd_model::forecast::{Outlook, day_left};
use tallyd_model::pricing::Usd;
use tallyd_model::wording::usd;

/// The parts of the spend that an alert names.
const TOP_MAX: i64 = 3;

/// The alerts that were not raised before.
pub(super) async fn unknown(
    transaction: &Transaction<'_>,
    mut alerts: Vec<NewAlert>,
) -> Result<Vec<NewAlert>, tokio_postgres::Error> {
    let keys: Vec<&str> = alerts.iter().map(|alert| alert.key.as_str()).collect();
    let sql = "SELECT key FROM public.api_alerts WHERE kind = 'budget' AND key = ANY($1)";
    let rows = transaction.query_typed(sql, &[(&keys, Type::TEXT_ARRAY)]).await?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    alerts.retain(|alert| !known.contains(&alert.key));
    Ok(alerts)
}

/// Adds the forecast and the largest parts to alerts of one budget's period, `start` up to `end`.
pub(super) async fn explain(
    client: &Client,
    budget: &Budget,
    (start, end): (NaiveDate, NaiveDate),
    now: &DateTime<Tz>,
    alerts: &mut [NewAlert],
) -> Result<(), tokio_postgres::Error> {
    let last = end - Days::new(1);
    let forecast = match provider(budget) {
        Some(provider) => {
            let history = spending_history(client, now.date_naive(), provider).await?;
            Outlook::of(&history, day_left(now)).period(start, last).expected_usd
        }
        None => None,
    };
    let top = top(client, budget, start, end).await?;
    let names: Vec<String> =
        top.iter().map(|(name, cost)| format!("{} {}", slack::named(name), usd(*cost, false))).collect();
    for alert in alerts {
        if let Some(expected) = forecast {
            alert.message.push_str(&format!(", forecast {} USD by {last}", usd(expected, false)));
            alert.details["forecast_usd"] = json!(expected);
        }
        if !names.is_empty() {
            alert.message.push_str(&format!("; top: {}", names.join(", ")));
        }
        alert.details["top"] =
            top.iter().map(|(name, cost)| json!({ "name": name, "cost_usd": cost })).collect::<Vec<_>>().into();
    }
    Ok(())
}

/// The models with the largest spend, largest first. A call without a model counts for its provider, and a user's rollup has
/// providers alone.
async fn top(
    client: &Client,
    budget: &Budget,
    start: NaiveDate,
    end: NaiveDate,
) -> Result<Vec<(String, Usd)>, tokio_postgres::Error> {
    let Source { table, filter, part } = Source::of(budget.scope);
    let sql = format!(
        "SELECT {part} AS name, round(sum(cost_usd), 18) FROM public.{table} \
         WHERE day >= $1 AND day < $2 AND {filter} GROUP BY 1 HAVING sum(cost_usd) > 0 ORDER BY 2 DESC, 1 LIMIT {TOP_MAX}"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&start, Type::DATE), (&end, Type::DATE), (&budget.scope_value, Type::TEXT)];
    let rows = client.query_typed(&sql, &parameters).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
