//! SQL that turns rows of the old log into calls.

use super::source::OldTable;
use super::{AdoptOptions, literal};

/// The columns of the call log that an old row fills; other columns have their default.
pub(super) const COLUMNS: &str = "occurred_at, id, provider, model, endpoint, user_id, app, input_tokens, output_tokens, \
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, status, latency_ms, cost_usd, cost_source, \
    rollup_other, tags";

/// A query of the old log's rows as calls: [`COLUMNS`], `old_id` (text), `old_date` (or NULL), `no_user`, and `fault`:
/// the reason why the row cannot be a record, or NULL.
pub(super) fn calls(table: &OldTable, options: &AdoptOptions) -> String {
    let strip = if options.strip_query { "split_part(e.endpoint, '?', 1)" } else { "e.endpoint" };
    format!(
        "SELECT n.*, CASE \
             WHEN n.old_id IS NULL THEN 'it has no id' \
             WHEN n.occurred_at IS NULL THEN 'it has no time' \
             WHEN NOT isfinite(n.occurred_at) OR n.occurred_at < '2015-01-01Z' THEN 'its time is before 2015 or infinite' \
             WHEN n.occurred_at > now() + interval '5 minutes' THEN 'its time is in the future' \
             WHEN n.provider = '' THEN 'it names no provider' \
             WHEN greatest(octet_length(n.provider), octet_length(n.model), octet_length(n.endpoint), \
                 octet_length(n.user_id)) > 512 THEN 'a text is longer than 512 bytes' \
             WHEN least(n.input_tokens, n.output_tokens, n.cache_read_tokens, n.cache_write_5m_tokens) < 0 \
                 THEN 'a count is negative' \
             WHEN greatest(n.input_tokens, n.output_tokens, n.cache_read_tokens, n.cache_write_5m_tokens) > 1000000000 \
                 THEN 'a count is above 10^9' \
             WHEN n.cost_usd NOT BETWEEN -1000000000 AND 1000000000 THEN 'its cost is no number, or beyond 10^9' \
             WHEN n.status < 0 OR n.latency_ms < 0 THEN 'its status or latency is negative' END AS fault \
         FROM (SELECT e.old_id, e.old_date, e.no_user, e.occurred_at, e.id, \
                   CASE e.provider WHEN 'anthropic' THEN 'claude' ELSE e.provider END AS provider, e.model, \
                   {strip} AS endpoint, e.user_id, '' AS app, e.input_tokens, e.output_tokens, e.cache_read_tokens, \
                   e.cache_write_5m_tokens, 0::int8 AS cache_write_1h_tokens, 1::int8 AS requests, e.status, e.latency_ms, \
                   e.cost_usd, CASE WHEN e.cost_usd IS NULL THEN 'unpriced' ELSE 'client' END AS cost_source, \
                   0::int2 AS rollup_other, NULL::jsonb AS tags \
               FROM (SELECT {expressions} FROM {name} AS s) AS e) AS n",
        expressions = expressions(table, options).join(", "),
        name = table.name,
    )
}

/// Each field's expression, from its column or its default.
fn expressions(table: &OldTable, options: &AdoptOptions) -> Vec<String> {
    let column = |field: &str| table.fields.get(field).map(super::source::OldColumn::sql);
    let text = |field: &str| column(field).map_or("''".into(), |sql| format!("coalesce({sql}::text, '')"));
    let count = |field: &str| column(field).map_or("0::int8".into(), |sql| format!("coalesce({sql}, 0)::int8"));
    let or_null =
        |field: &str, kind: &str| column(field).map_or(format!("NULL::{kind}"), |sql| format!("{sql}::{kind}"));
    vec![
        format!("{}::text AS old_id", column("id").unwrap_or_default()),
        format!("{} AS old_date", or_null("date", "date")),
        column("user_id").map_or("true AS no_user".into(), |sql| format!("{sql} IS NULL AS no_user")),
        format!("{} AS occurred_at", time(table, options)),
        format!("{} AS id", id(table)),
        format!("lower(btrim({})) AS provider", text("provider")),
        format!("{} AS model", text("model")),
        format!("{} AS endpoint", text("endpoint")),
        format!("{} AS user_id", text("user_id")),
        format!("{} AS input_tokens", count("input_tokens")),
        format!("{} AS output_tokens", count("output_tokens")),
        format!("{} AS cache_read_tokens", count("cache_read_tokens")),
        format!("{} AS cache_write_5m_tokens", count("cache_write_5m_tokens")),
        column("status").map_or("200::int2 AS status".into(), |sql| format!("coalesce({sql}, 200)::int2 AS status")),
        format!("{} AS latency_ms", or_null("latency_ms", "int4")),
        format!("{} AS cost_usd", column("cost_usd").map_or("NULL::numeric".into(), |sql| exact(&sql))),
    ]
}

/// A number with its digits as written; of a binary float the shortest digits that give the same float. An infinite one
/// becomes NaN.
pub(super) fn exact(sql: &str) -> String {
    // PostgreSQL 13 does not have an infinite numeric.
    format!("CASE WHEN {sql}::text IN ('Infinity', '-Infinity') THEN 'NaN'::numeric ELSE {sql}::text::numeric END")
}

fn time(table: &OldTable, options: &AdoptOptions) -> String {
    let Some(column) = table.fields.get("occurred_at") else { return "NULL::timestamptz".into() };
    let at = match &*column.type_name {
        "timestamp" => format!("{} AT TIME ZONE {}", column.sql(), literal(&options.source_time_zone)),
        _ => column.sql(),
    };
    match table.fields.get("date") {
        Some(date) => {
            let zone = literal(&options.reporting_time_zone);
            format!("coalesce({at}, ({} + time '12:00') AT TIME ZONE {zone})", date.sql())
        }
        None => at,
    }
}

/// A UUID is kept. Anything else becomes one by its digest, marked as version 8 (an application's own rules).
fn id(table: &OldTable) -> String {
    let Some(column) = table.fields.get("id") else { return "NULL::uuid".into() };
    match (&*column.type_name, column.sql()) {
        ("uuid", sql) => sql,
        (_, sql) => {
            let digest = format!("md5('tallyd adopt ' || {sql}::text)");
            format!("overlay(overlay({digest} placing '8' from 13) placing '8' from 17)::uuid")
        }
    }
}
