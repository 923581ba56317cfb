//! Anthropic's Admin API: `/v1/organizations/cost_report` and `/v1/organizations/usage_report/messages`.
//!
//! Buckets begin at `starting_at`, in UTC. An `amount` is decimal text in *cents*. Without `group_by[]=description` (costs)
//! or `group_by[]=model` (usage) a result names no model. Costs of web searches and of code execution name none either.
//! Described by <https://platform.claude.com/docs/en/api/admin/cost_report> and `…/usage_report/retrieve_messages`, read
//! on 2026-11-23.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::{BillError, BillTokens, Kind, Page, amount};

const PROVIDER: &str = "claude";
/// Amounts are in cents.
const CENTS: u32 = 2;

pub(super) fn read(page: &mut Page<'_>, buckets: &[Value]) -> Result<(), BillError> {
    for bucket in buckets {
        let starting_at = bucket["starting_at"].as_str().unwrap_or_default();
        let place = format!("the bucket of {starting_at:?}");
        let day = day(starting_at).ok_or_else(|| page.wrong(&place, "starting_at is no time of RFC 3339"))?;
        for result in bucket["results"].as_array().into_iter().flatten() {
            read_result(page, day, &place, result)?;
        }
    }
    // Days without a result are covered, too, by whatever the others are.
    let kinds: Vec<Kind> = page.days.iter().map(|(_, _, kind)| *kind).collect();
    if let Some(kind) = kinds.first() {
        for day in buckets.iter().filter_map(|bucket| day(bucket["starting_at"].as_str()?)) {
            page.covers(day, PROVIDER, *kind);
        }
    }
    Ok(())
}

fn day(starting_at: &str) -> Option<NaiveDate> {
    DateTime::parse_from_rfc3339(starting_at).ok().map(|at| at.with_timezone(&Utc).date_naive())
}

fn read_result(page: &mut Page<'_>, day: NaiveDate, place: &str, result: &Value) -> Result<(), BillError> {
    let model = result["model"].as_str().unwrap_or_default();
    let key = (day, PROVIDER, model);
    if let Some(text) = result["amount"].as_str() {
        let currency = result["currency"].as_str().unwrap_or("USD");
        if !currency.eq_ignore_ascii_case("usd") {
            return Err(page.wrong(place, format!("amounts are in {currency}, and only USD is kept")));
        }
        let usd = amount(text, CENTS).map_err(|reason| page.wrong(place, reason))?;
        return page.add_cost(key, place, usd);
    }
    if result["uncached_input_tokens"].is_null() && result["output_tokens"].is_null() {
        return Err(page.unknown());
    }
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let writes = &result["cache_creation"];
    let tokens = BillTokens {
        input: count(&result["uncached_input_tokens"]),
        output: count(&result["output_tokens"]),
        cache_read: count(&result["cache_read_input_tokens"]),
        cache_write: count(&writes["ephemeral_5m_input_tokens"])
            .saturating_add(count(&writes["ephemeral_1h_input_tokens"])),
    };
    page.add_tokens(key, tokens);
    Ok(())
}
