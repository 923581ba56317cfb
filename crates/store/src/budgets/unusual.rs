//! Finds costs that their own history does not explain.
//!
//! Today's costs of a user, or of a model, are unusual if they are at least `alerts.unusual_min_usd`, and more than
//! `alerts.unusual_factor` times the 90th percentile of the active days in the last four weeks. Fewer than seven active
//! days are not a history, so a new user does not cause an alert. Each is reported once a day. The percentile is the
//! amount of one of the days, so it does not need floating point, and one extreme day in the past does not hide the
//! next.
//!
//! Of a million users few spend much on one day. So today's rows are read first, and only the largest spenders' history.

use chrono::{Days, NaiveDate};
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::inbox::NewAlert;
use super::slack;
use tallyd_config::Alerts;
use tallyd_model::pricing::Usd;
use tallyd_model::wording::usd;

/// Days of history.
const HISTORY_DAYS: u64 = 28;
/// Alerts of one evaluation: the largest.
const MAX_ALERTS: i64 = 20;
/// Users, and models, whose history is read: those with the largest spend of today.
const CANDIDATES_MAX: i64 = 1_000;

/// Finds today's unusual costs.
pub(crate) async fn find(
    client: &Client,
    today: NaiveDate,
    options: &Alerts,
) -> Result<Vec<NewAlert>, tokio_postgres::Error> {
    let mut alerts = Vec::new();
    if options.unusual_factor == 0 {
        return Ok(alerts);
    }
    for (what, table, column) in [("user", "tallyd_user_day_parts", "user_id"), ("model", "daily_api_costs", "model")] {
        let (names, spends) = candidates(client, table, column, today, options.unusual_min_usd).await?;
        if names.is_empty() {
            continue;
        }
        let sql = format!(
            "WITH daily AS (SELECT {column} AS name, day, sum(cost_usd) AS usd FROM public.{table} \
                 WHERE day >= $1 AND day < $2 AND {column} = ANY($3) GROUP BY 1, 2 HAVING sum(cost_usd) > 0), \
             usual AS (SELECT name, percentile_disc(0.9) WITHIN GROUP (ORDER BY usd) AS usd FROM daily \
                 GROUP BY 1 HAVING count(*) >= 7) \
             SELECT name, round(today.usd, 18), round(usual.usd, 18) \
             FROM unnest($3, $4) AS today (name, usd) JOIN usual USING (name) \
             WHERE today.usd > usual.usd * $5 ORDER BY 2 DESC, 1 LIMIT {MAX_ALERTS}"
        );
        let since = today - Days::new(HISTORY_DAYS);
        let factor = i32::try_from(options.unusual_factor).unwrap_or(i32::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&since, Type::DATE),
            (&today, Type::DATE),
            (&names, Type::TEXT_ARRAY),
            (&spends, Type::NUMERIC_ARRAY),
            (&factor, Type::INT4),
        ];
        for row in client.query_typed(&sql, &parameters).await? {
            let (name, spent, usual): (String, Usd, Usd) = (row.get(0), row.get(1), row.get(2));
            alerts.push(NewAlert {
                kind: "spend",
                key: format!("{what}/{name}/{today}"),
                message: format!(
                    "tallyd: unusual spend of the {what} {}: {} USD today, usually up to {}",
                    slack::named(&name),
                    usd(spent, false),
                    usd(usual, false)
                ),
                details: json!({ "what": what, "name": name, "day": today, "spent_usd": spent, "usual_usd": usual }),
                ..NewAlert::default()
            });
        }
    }
    Ok(alerts)
}

/// Names with the largest spend of today, and the spend of each in USD.
async fn candidates(
    client: &Client,
    table: &str,
    column: &str,
    today: NaiveDate,
    at_least: Usd,
) -> Result<(Vec<String>, Vec<Usd>), tokio_postgres::Error> {
    let sql = format!(
        "SELECT {column}, round(sum(cost_usd), 18) FROM public.{table} \
         WHERE day = $1 AND {column} NOT IN ('', '(other)') GROUP BY 1 \
         HAVING sum(cost_usd) > 0 AND sum(cost_usd) >= $2 ORDER BY 2 DESC, 1 LIMIT {CANDIDATES_MAX}"
    );
    let rows = client.query_typed(&sql, &[(&today, Type::DATE), (&at_least, Type::NUMERIC)]).await?;
    Ok(rows.iter().map(|row| (row.get::<_, String>(0), row.get::<_, Usd>(1))).unzip())
}
