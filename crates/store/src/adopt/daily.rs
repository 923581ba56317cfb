//! Takes over old daily sums: days without calls in the old log are history, too.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::rows::{calls, exact};
use super::source::{OldColumn, OldTable, Sources};
use super::{AdoptError, AdoptOptions, literal, parts};
use crate::rollups::{DIMENSIONS, ROLLUPS, Rollup};

const CANDIDATES: &str = "pg_temp.tallyd_adopting_days";

/// A query of the old sums: `day, provider, model, endpoint, calls, input_tokens, output_tokens, cost_usd`, `rounding`
/// (the tolerance of the cost, because the old column rounds) and `fault` (why a row cannot be taken over exactly, or
/// NULL).
pub(super) fn rows(table: &OldTable) -> String {
    let column = |field: &str| table.fields.get(field).map(OldColumn::sql);
    let text = |field: &str| column(field).map_or("''".into(), |sql| format!("coalesce({sql}::text, '')"));
    let tokens = |field: &str| column(field).map_or("0::int8".into(), |sql| format!("coalesce({sql}, 0)::int8"));
    let number = |field: &str| column(field).map_or("NULL::numeric".into(), |sql| exact(&sql));
    let selected: Vec<String> = if table.wide.is_empty() {
        let (calls, cost) = (number("calls"), number("cost_usd"));
        vec![format!(
            "SELECT {day} AS day, {provider} AS provider, {model} AS model, '' AS endpoint, {calls} AS calls, \
             {input} AS input_tokens, {output} AS output_tokens, {cost} AS cost_usd, {rounding} AS rounding FROM {name} AS s",
            day = column("date").unwrap_or_default(),
            provider = text("provider"),
            model = text("model"),
            input = tokens("input_tokens"),
            output = tokens("output_tokens"),
            rounding = parts::rounding(&cost, &calls),
            name = table.name,
        )]
    } else {
        parts::queries(table)
    };
    format!(
        "SELECT r.day, CASE lower(btrim(r.provider)) WHEN 'anthropic' THEN 'claude' ELSE lower(btrim(r.provider)) END AS provider, \
             r.model, r.endpoint, r.calls, r.input_tokens, r.output_tokens, r.cost_usd, r.rounding, CASE \
             WHEN r.day IS NULL THEN 'they have no date' \
             WHEN NOT isfinite(r.day) OR r.day < '2015-01-01' THEN 'their date is before 2015 or infinite' \
             WHEN r.day > current_date + 1 THEN 'their date is in the future' \
             WHEN btrim(r.provider) = '' THEN 'they name no provider' \
             WHEN r.calls IS NULL THEN 'they have no number of calls' \
             WHEN r.calls NOT BETWEEN 0 AND 1000000000000 OR r.calls <> trunc(r.calls) \
                 THEN 'their number of calls is negative, above 10^12, or no whole number' \
             WHEN least(r.input_tokens, r.output_tokens) < 0 THEN 'a count is negative' \
             WHEN greatest(r.input_tokens, r.output_tokens) > 1000000000000000 THEN 'a count of tokens is above 10^15' \
             WHEN r.cost_usd IS NULL THEN 'they have no cost' \
             WHEN r.cost_usd NOT BETWEEN -1000000000000 AND 1000000000000 THEN 'their cost is no number, or beyond 10^12' \
             WHEN greatest(octet_length(r.provider), octet_length(r.model), octet_length(r.endpoint)) > 512 THEN 'a text is longer than 512 bytes' \
             END AS fault \
         FROM ({}) AS r",
        selected.join(" UNION ALL ")
    )
}

/// The old sums by key, without those that have a fault.
pub(super) fn sums(table: &OldTable) -> String {
    format!(
        "SELECT day, provider, model, endpoint, sum(calls)::int8 AS calls, sum(input_tokens)::int8 AS input_tokens, \
         sum(output_tokens)::int8 AS output_tokens, sum(cost_usd) AS cost_usd, max(rounding) AS rounding \
         FROM ({}) AS f WHERE fault IS NULL GROUP BY 1, 2, 3, 4",
        rows(table)
    )
}

/// The old log's sums by its own day and provider: `day, provider, calls, cost_usd`. Empty without an old log.
pub(super) fn log_days(log: Option<&OldTable>, options: &AdoptOptions) -> String {
    let Some(log) = log else {
        return "SELECT NULL::date AS day, NULL::text AS provider, NULL::int8 AS calls, NULL::numeric AS cost_usd WHERE false"
            .into();
    };
    format!(
        "SELECT coalesce(c.old_date, (c.occurred_at AT TIME ZONE {zone})::date) AS day, c.provider, count(*) AS calls, \
         coalesce(sum(c.cost_usd), 0) AS cost_usd FROM ({calls}) AS c WHERE c.fault IS NULL GROUP BY 1, 2",
        zone = literal(&options.reporting_time_zone),
        calls = calls(log, options),
    )
}

/// Both sums by day and provider, where the old log has calls:
/// `day, provider, log_calls, daily_calls, log_cost, daily_cost, rounding`.
pub(super) fn compared(daily: &OldTable, log: Option<&OldTable>, options: &AdoptOptions) -> String {
    format!(
        "SELECT day, provider, g.calls AS log_calls, d.calls AS daily_calls, g.cost_usd AS log_cost, d.cost_usd AS daily_cost, d.rounding \
         FROM ({log}) AS g LEFT JOIN (SELECT s.day, s.provider, sum(s.calls)::int8 AS calls, sum(s.cost_usd) AS cost_usd, \
             max(s.rounding) AS rounding FROM ({sums}) AS s GROUP BY 1, 2) AS d USING (day, provider)",
        log = log_days(log, options),
        sums = sums(daily),
    )
}

/// The part of the sums beyond the old log: days and providers without calls in it, and the rest of those that it has
/// in part. The rest does not name a model or endpoint. A day that is not over may still change in both, and is left
/// out. `log_calls` is the old log's part.
pub(super) fn missing(daily: &OldTable, log: Option<&OldTable>, options: &AdoptOptions) -> String {
    format!(
        "SELECT d.day, d.provider, d.model, d.endpoint, d.calls, d.input_tokens, d.output_tokens, d.cost_usd, 0::int8 AS log_calls \
         FROM ({sums}) AS d LEFT JOIN ({log}) AS g USING (day, provider) \
         WHERE g.day IS NULL AND (d.calls <> 0 OR d.cost_usd <> 0 OR d.input_tokens <> 0 OR d.output_tokens <> 0) \
         UNION ALL SELECT c.day, c.provider, '', '', c.daily_calls - c.log_calls, 0::int8, 0::int8, \
             CASE WHEN c.daily_cost > c.log_cost THEN c.daily_cost - c.log_cost ELSE 0 END, c.log_calls \
         FROM ({compared}) AS c WHERE c.daily_calls > c.log_calls AND c.day < (now() AT TIME ZONE {zone})::date",
        sums = sums(daily),
        log = log_days(log, options),
        compared = compared(daily, log, options),
        zone = literal(&options.reporting_time_zone),
    )
}

/// Takes the days that only the sums have, in the caller's transaction. Returns the number of keys, their calls, and
/// their cost as exact decimal text.
pub(super) async fn take(
    client: &Client,
    sources: &Sources,
    options: &AdoptOptions,
    zone: &str,
) -> Result<(i64, i64, String), AdoptError> {
    let Some(daily) = &sources.daily else { return Ok((0, 0, "0".into())) };
    let create = format!(
        "CREATE TEMP TABLE tallyd_adopting_days ON COMMIT DROP AS SELECT m.* FROM ({missing}) AS m \
         WHERE NOT EXISTS (SELECT FROM public.tallyd_adopted_days AS a \
             WHERE a.day = m.day AND a.provider = m.provider AND a.model = m.model AND a.endpoint = m.endpoint)",
        missing = missing(daily, sources.log.as_ref(), options),
    );
    client.batch_execute(&create).await?;
    for rollup in &ROLLUPS {
        add(client, rollup, rollup.table, zone).await?;
    }
    for rollup in &ROLLUPS {
        add(client, rollup, rollup.dropped, zone).await?;
    }
    let note = format!(
        "WITH noted AS (INSERT INTO public.tallyd_adopted_days (day, provider, model, endpoint, source, calls, input_tokens, output_tokens, \
             cost_usd, log_calls) SELECT day, provider, model, endpoint, $1, calls, input_tokens, output_tokens, cost_usd, log_calls FROM {CANDIDATES} \
             RETURNING calls, cost_usd) \
         SELECT count(*), coalesce(sum(calls), 0)::int8, coalesce(sum(cost_usd), 0)::text FROM noted"
    );
    let rows = client.query_typed(&note, &[(&daily.name, Type::TEXT)]).await?;
    // An aggregate without GROUP BY returns one row.
    let row = rows.first().expect("an aggregate returns a row");
    Ok((row.get(0), row.get(1), row.get(2)))
}

/// Adds the days to a rollup, or to its table of dropped sums.
async fn add(client: &Client, rollup: &Rollup, table: &str, zone: &str) -> Result<(), tokio_postgres::Error> {
    let key = |name: &str| match name {
        "day" | "provider" | "model" | "endpoint" => format!("d.{name}"),
        // The old sums do not have hours: a day is booked in its first one.
        "hour" => format!("d.day::timestamp AT TIME ZONE $1 AS {name}"),
        "dimension" => "x.name AS dimension".to_owned(),
        // The old sums have neither users nor applications nor tags.
        _ => format!("''::text AS {name}"),
    };
    let measure = |name: &str| {
        let sum = match name {
            "calls" | "requests" => "sum(d.calls)",
            "input_tokens" | "output_tokens" | "cost_usd" => &format!("sum(d.{name})"),
            "first_call_at" => "min(d.day::timestamp AT TIME ZONE $1)",
            "last_call_at" => "max(d.day::timestamp AT TIME ZONE $1)",
            // The old sums did not separate failed calls, cached tokens and unpriced calls.
            _ => "0",
        };
        format!("{sum} AS {name}")
    };
    let keys = rollup.keys.iter().map(|(name, _)| key(name));
    let selected: Vec<String> = keys.chain(rollup.columns().map(|(name, _)| measure(name))).collect();
    let grouped: Vec<String> = (1..=rollup.keys.len()).map(|position| position.to_string()).collect();
    let each = if rollup.table == DIMENSIONS.table { " CROSS JOIN public.tallyd_dimensions AS x" } else { "" };
    let source = format!("SELECT {} FROM {CANDIDATES} AS d{each} GROUP BY {}", selected.join(", "), grouped.join(", "));
    client.query_typed(&rollup.add_to(table, &source), &[(&zone, Type::TEXT)]).await.map(drop)
}
