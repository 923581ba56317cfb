//! Old daily sums with columns of calls and cost for each provider, and JSON that splits them: Claude's by model,
//! RentCast's by endpoint.
//!
//! The JSON is `{name: {calls, cost, inputTokens, outputTokens}}`. Each part becomes a key of its own, and the rest of
//! the column becomes a key without a name. If the parts exceed the column, only the column counts, because nobody can
//! tell which is right. If a cost differs from the parts' sum only by the column's rounding, the parts' sum counts.

use super::literal;
use super::rows::exact;
use super::source::{OldColumn, OldTable, Wide};

/// The field of the JSON, the provider that it splits, and the kind of its keys.
const SPLITS: [(&str, &str, Key); 2] =
    [("by_model", "claude", Key::Model), ("by_rentcast_endpoint", "rentcast", Key::Endpoint)];

#[derive(Clone, Copy)]
enum Key {
    Model,
    Endpoint,
}

/// Half a unit of a cost's last decimal, for each call: the largest error of adding rounded costs.
pub(super) fn rounding(cost: &str, calls: &str) -> String {
    format!("0.5 * 10 ^ -least(scale({cost}), 30)::numeric * greatest({calls}, 1)")
}

/// The queries of each provider's rows: `day, provider, model, endpoint, calls, input_tokens, output_tokens, cost_usd, rounding`.
pub(super) fn queries(table: &OldTable) -> Vec<String> {
    table.wide.iter().flat_map(|wide| provider(table, wide)).collect()
}

fn provider(table: &OldTable, wide: &Wide) -> Vec<String> {
    let split = SPLITS.iter().find(|(field, provider, _)| *provider == wide.provider && table.has(field));
    let day = table.fields.get("date").map(OldColumn::sql).unwrap_or_default();
    let (calls, cost) = (exact(&wide.calls.sql()), exact(&wide.cost.sql()));
    let provider = literal(&wide.provider);
    let Some((field, _, key)) = split else {
        let rounding = rounding(&cost, &calls);
        return vec![format!(
            "SELECT {day} AS day, {provider} AS provider, '' AS model, '' AS endpoint, {calls} AS calls, 0::numeric AS input_tokens, \
             0::numeric AS output_tokens, {cost} AS cost_usd, {rounding} AS rounding FROM {} AS s",
            table.name
        )];
    };
    let json = table.fields[field].sql();
    let split = format!(
        "SELECT {day} AS day, {calls} AS calls, {cost} AS cost, p.* FROM {table} AS s CROSS JOIN LATERAL ( \
            SELECT coalesce(jsonb_agg(to_jsonb(e)), '[]') AS parts, coalesce(sum(e.calls), 0) AS part_calls, \
                coalesce(sum(e.cost), 0) AS part_cost FROM ({parts}) AS e) AS p",
        table = table.name,
        parts = parts(&json),
    );
    let checked = format!(
        "SELECT t.*, {rounding} AS rounding, t.part_calls <= t.calls AND t.part_cost <= t.cost + {rounding} AS is_split FROM ({split}) AS t",
        rounding = rounding("t.cost", "t.calls"),
    );
    let (model, endpoint) = match key {
        Key::Model => ("p.name", "''"),
        Key::Endpoint => ("''", "p.name"),
    };
    let named = format!(
        "SELECT c.day, {provider} AS provider, {model} AS model, {endpoint} AS endpoint, p.calls, p.input_tokens, p.output_tokens, \
         p.cost AS cost_usd, c.rounding FROM ({checked}) AS c CROSS JOIN LATERAL jsonb_to_recordset(c.parts) \
             AS p(name text, calls numeric, input_tokens numeric, output_tokens numeric, cost numeric) WHERE c.is_split"
    );
    let rest = format!(
        "SELECT r.day, {provider}, '', '', r.calls, 0, 0, r.cost, r.rounding FROM (SELECT c.day, c.rounding, \
             CASE WHEN c.is_split THEN c.calls - c.part_calls ELSE c.calls END AS calls, \
             CASE WHEN NOT coalesce(c.is_split, false) THEN c.cost \
                 WHEN c.calls = c.part_calls AND abs(c.cost - c.part_cost) <= c.rounding THEN 0 \
                 ELSE c.cost - c.part_cost END AS cost FROM ({checked}) AS c) AS r \
         WHERE r.calls IS DISTINCT FROM 0 OR r.cost IS DISTINCT FROM 0"
    );
    vec![named, rest]
}

/// The parts of one day's JSON: `name, calls, input_tokens, output_tokens, cost`. A part with an invalid number is left
/// out; its calls stay among those without a name.
fn parts(json: &str) -> String {
    let number = |names: &[&str]| {
        let texts: Vec<String> = names.iter().map(|name| format!("m.value ->> '{name}'")).collect();
        let text = format!("coalesce({})", texts.join(", "));
        // A JSON number within the range of PostgreSQL's numeric.
        format!(
            "CASE WHEN {text} ~ '^-?[0-9]{{1,40}}([.][0-9]{{1,60}})?([eE][-+]?[0-9]{{1,2}})?$' THEN ({text})::numeric END"
        )
    };
    format!(
        "SELECT n.* FROM (SELECT btrim(m.key) AS name, {calls} AS calls, coalesce({input}, 0) AS input_tokens, \
             coalesce({output}, 0) AS output_tokens, round({cost}, 18) AS cost \
         FROM jsonb_each(CASE jsonb_typeof({json}::jsonb) WHEN 'object' THEN {json}::jsonb ELSE '{{}}' END) AS m \
         WHERE jsonb_typeof(m.value) = 'object') AS n \
         WHERE n.calls >= 0 AND n.calls = trunc(n.calls) AND n.cost IS NOT NULL AND least(n.input_tokens, n.output_tokens) >= 0",
        calls = number(&["calls", "count", "requests"]),
        input = number(&["inputTokens", "input_tokens"]),
        output = number(&["outputTokens", "output_tokens"]),
        cost = number(&["cost", "totalCost", "cost_usd"]),
    )
}
