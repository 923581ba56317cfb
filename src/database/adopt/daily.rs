//! Old daily sums: those of days that the log has nothing of are history, too.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::rows::{calls, exact};
use super::source::{Column, Sources, Table};
use super::{AdoptError, AdoptOptions, literal};
use crate::database::rollups::{ROLLUPS, Rollup};

const CANDIDATES: &str = "pg_temp.tallyd_adopting_days";

/// A query of the old sums: `day, provider, model, calls, input_tokens, output_tokens, cost_usd`, and `fault`: why they cannot
/// be taken over exactly, or NULL.
pub(super) fn rows(table: &Table) -> String {
    let column = |field: &str| table.fields.get(field).map(Column::sql);
    let text = |field: &str| column(field).map_or("''".into(), |sql| format!("coalesce({sql}::text, '')"));
    let tokens = |field: &str| column(field).map_or("0::int8".into(), |sql| format!("coalesce({sql}, 0)::int8"));
    let number = |field: &str| column(field).map_or("NULL::numeric".into(), |sql| exact(&sql));
    let row = |provider: String, calls: String, cost: String, model: String, input: String, output: String| {
        format!(
            "SELECT {day} AS day, lower(btrim({provider})) AS provider, {model} AS model, {calls} AS calls, \
             {input} AS input_tokens, {output} AS output_tokens, {cost} AS cost_usd FROM {name} AS s",
            day = column("date").unwrap_or_default(),
            name = table.name,
        )
    };
    let selected: Vec<String> = if table.wide.is_empty() {
        let (input, output) = (tokens("input_tokens"), tokens("output_tokens"));
        vec![row(text("provider"), number("calls"), number("cost_usd"), text("model"), input, output)]
    } else {
        let each = |wide: &super::source::Wide| {
            let (calls, cost) = (exact(&wide.calls.sql()), exact(&wide.cost.sql()));
            // Tokens of all providers together are nobody's in particular.
            row(literal(&wide.provider), calls, cost, "''".into(), "0::int8".into(), "0::int8".into())
        };
        table.wide.iter().map(each).collect()
    };
    format!(
        "SELECT r.day, CASE r.provider WHEN 'anthropic' THEN 'claude' ELSE r.provider END AS provider, r.model, r.calls, \
             r.input_tokens, r.output_tokens, r.cost_usd, CASE \
             WHEN r.day IS NULL THEN 'they have no date' \
             WHEN NOT isfinite(r.day) OR r.day < '2015-01-01' THEN 'their date is before 2015 or infinite' \
             WHEN r.day > current_date + 1 THEN 'their date is in the future' \
             WHEN r.provider = '' THEN 'they name no provider' \
             WHEN r.calls IS NULL THEN 'they have no number of calls' \
             WHEN r.calls NOT BETWEEN 0 AND 1000000000000 OR r.calls <> trunc(r.calls) \
                 THEN 'their number of calls is negative, above 10^12, or no whole number' \
             WHEN least(r.input_tokens, r.output_tokens) < 0 THEN 'a count is negative' \
             WHEN r.cost_usd IS NULL THEN 'they have no cost' \
             WHEN r.cost_usd NOT BETWEEN -1000000000000 AND 1000000000000 THEN 'their cost is no number, or beyond 10^12' \
             WHEN greatest(octet_length(r.provider), octet_length(r.model)) > 512 THEN 'a text is longer than 512 bytes' \
             END AS fault \
         FROM ({}) AS r",
        selected.join(" UNION ALL ")
    )
}

/// The old sums by key, those that can be taken.
pub(super) fn sums(table: &Table) -> String {
    format!(
        "SELECT day, provider, model, sum(calls)::int8 AS calls, sum(input_tokens)::int8 AS input_tokens, \
         sum(output_tokens)::int8 AS output_tokens, sum(cost_usd) AS cost_usd FROM ({}) AS f WHERE fault IS NULL GROUP BY 1, 2, 3",
        rows(table)
    )
}

/// What the old log adds up to by its own day and provider: `day, provider, calls, cost_usd`. Empty without a log.
pub(super) fn log_days(log: Option<&Table>, options: &AdoptOptions) -> String {
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

/// The sums of days and providers that the log has nothing of.
pub(super) fn missing(daily: &Table, log: Option<&Table>, options: &AdoptOptions) -> String {
    format!(
        "SELECT d.* FROM ({sums}) AS d LEFT JOIN ({log}) AS g USING (day, provider) \
         WHERE g.day IS NULL AND (d.calls <> 0 OR d.cost_usd <> 0 OR d.input_tokens <> 0 OR d.output_tokens <> 0)",
        sums = sums(daily),
        log = log_days(log, options),
    )
}

/// Takes the days that only the sums have, within the caller's transaction. Returns how many keys that were, their calls, and
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
             WHERE a.day = m.day AND a.provider = m.provider AND a.model = m.model)",
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
        "WITH noted AS (INSERT INTO public.tallyd_adopted_days (day, provider, model, source, calls, input_tokens, output_tokens, \
             cost_usd) SELECT day, provider, model, $1, calls, input_tokens, output_tokens, cost_usd FROM {CANDIDATES} \
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
        "day" | "provider" | "model" => format!("d.{name}"),
        // The old sums tell neither users nor endpoints.
        _ => format!("''::text AS {name}"),
    };
    let measure = |name: &str| {
        let sum = match name {
            "calls" | "requests" => "sum(d.calls)",
            "input_tokens" | "output_tokens" | "cost_usd" => &format!("sum(d.{name})"),
            "first_call_at" => "min(d.day::timestamp AT TIME ZONE $1)",
            "last_call_at" => "max(d.day::timestamp AT TIME ZONE $1)",
            // Failed calls, cached tokens and calls without a price were not told apart.
            _ => "0",
        };
        format!("{sum} AS {name}")
    };
    let keys = rollup.keys.iter().map(|(name, _)| key(name));
    let selected: Vec<String> = keys.chain(rollup.columns().map(|(name, _)| measure(name))).collect();
    let grouped: Vec<String> = (1..=rollup.keys.len()).map(|position| position.to_string()).collect();
    let source = format!("SELECT {} FROM {CANDIDATES} AS d GROUP BY {}", selected.join(", "), grouped.join(", "));
    client.query_typed(&rollup.add_to(table, &source), &[(&zone, Type::TEXT)]).await.map(drop)
}
