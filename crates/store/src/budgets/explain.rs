//! The rest of a budget's alert: the forecast of its period, and the largest parts of its spend.

use chrono::{DateTime, Days, NaiveDate};
use serde_json::json;
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::estimates::provider;
use super::inbox::NewAlert;
use super::scope::Rollup;
use super::{Budget, slack};
use crate::queries::history::spending_history;
use tallyd_model::forecast::{Outlook, day_left};
use tallyd_model::pricing::Usd;
use tallyd_model::wording::usd;

/// The parts of the spend that an alert names.
const TOP_MAX: i64 = 3;

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
    const MODEL: &str = "CASE model WHEN '' THEN provider ELSE model END";
    // The family's name, alone or with a date.
    const NAMES: &str = "($3 = '' OR provider = $3) AND ($4 = '' OR model = $4 OR (left(model, length($4)) = $4 \
        AND substr(model, length($4) + 1) ~ '^([-@]20[0-9]{6}|-20[0-9]{2}-[0-9]{2}-[0-9]{2})$'))";
    let (table, part, filter) = match budget.scope.rollup() {
        Some(Rollup::Dimensions) => {
            ("daily_dimension_costs", MODEL, format!("dimension = $5 AND value = $6 AND {NAMES}"))
        }
        Some(Rollup::Users) => {
            let filter = "user_id = $6 AND ($3 = '' OR provider = $3) AND $4 = '' AND $5 = ''";
            ("tallyd_user_day_parts", "provider", filter.to_owned())
        }
        Some(Rollup::Models) | None => ("daily_api_costs", MODEL, format!("$5 = '' AND $6 = '' AND {NAMES}")),
    };
    let sql = format!(
        "SELECT {part} AS name, round(sum(cost_usd), 18) FROM public.{table} \
         WHERE day >= $1 AND day < $2 AND {filter} GROUP BY 1 HAVING sum(cost_usd) > 0 ORDER BY 2 DESC, 1 LIMIT {TOP_MAX}"
    );
    let key = budget.scope.key();
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&start, Type::DATE),
        (&end, Type::DATE),
        (&key.provider, Type::TEXT),
        (&key.model, Type::TEXT),
        (&key.dimension, Type::TEXT),
        (&key.value, Type::TEXT),
    ];
    let rows = client.query_typed(&sql, &parameters).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
