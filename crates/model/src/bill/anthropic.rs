//! Anthropic's Admin API: `/v1/organizations/cost_report` and `/v1/organizations/usage_report/messages`.
//!
//! Buckets begin at `starting_at`, in UTC. An `amount` is decimal text in *cents*. Without `group_by[]=description`
//! (costs) or `group_by[]=model` (usage) a result does not name a model. Costs of web searches and of code execution do
//! not either. A null workspace is the default one. Described by <https://platform.claude.com/docs/en/api/admin/cost_report> and
//! `…/usage_report/retrieve_messages`, read on 2026-11-23.

use std::collections::BTreeSet;

use crate::json::Value;
use chrono::{DateTime, NaiveDate, Utc};

use super::{BillError, BillPart, BillTokens, Kind, Line, Page, amount, count};
use crate::pricing::normalise_tier;

const PROVIDER: &str = "claude";
/// Amounts are in cents.
const CENTS: u32 = 2;

pub(super) fn read(page: &mut Page<'_>, buckets: &[Value]) -> Result<(), BillError> {
    for bucket in buckets {
        let place = format!("the bucket of {:?}", bucket["starting_at"].as_str().unwrap_or_default());
        let day = day(bucket).ok_or_else(|| page.wrong(&place, "starting_at is not a time of RFC 3339"))?;
        let mut kinds = BTreeSet::new();
        for result in bucket["results"].as_array().into_iter().flatten() {
            kinds.insert(read_result(page, day, &place, result)?);
        }
        for kind in kinds {
            page.once(&place, kind)?;
        }
    }
    // Days without a result are covered by the export, too.
    let kinds: Vec<Kind> = page.days.iter().map(|(_, _, kind)| *kind).collect();
    if let Some(kind) = kinds.first() {
        for day in buckets.iter().filter_map(day) {
            page.covers(day, PROVIDER, *kind);
        }
    }
    Ok(())
}

/// The day on which a bucket begins.
pub(super) fn day(bucket: &Value) -> Option<NaiveDate> {
    let starting_at = bucket["starting_at"].as_str()?;
    DateTime::parse_from_rfc3339(starting_at).ok().map(|at| at.with_timezone(&Utc).date_naive())
}

/// Costs of other things than tokens do not have a tier.
fn part(result: &Value) -> BillPart {
    let text = |field: &str| result[field].as_str().unwrap_or_default();
    let place = match text("inference_geo") {
        "us" => "+us",
        _ => "",
    };
    let tier = match text("service_tier") {
        "" => String::new(),
        tier => normalise_tier(&format!("{tier}{place}")).into_owned(),
    };
    BillPart { workspace: text("workspace_id").to_owned(), tier }
}

fn read_result(page: &mut Page<'_>, day: NaiveDate, place: &str, result: &Value) -> Result<Kind, BillError> {
    let model = result["model"].as_str().unwrap_or_default();
    let line = Line { day, provider: PROVIDER, model, part: part(result) };
    if let Some(text) = result["amount"].as_str() {
        let currency = result["currency"].as_str().unwrap_or("USD");
        if !currency.eq_ignore_ascii_case("usd") {
            return Err(page.wrong(place, format!("amounts are in {currency}, and only USD is kept")));
        }
        let usd = amount(text, CENTS).map_err(|reason| page.wrong(place, reason))?;
        page.add_cost(line, place, usd)?;
        return Ok(Kind::Cost);
    }
    if result["uncached_input_tokens"].is_null() && result["output_tokens"].is_null() {
        return Err(page.unknown());
    }
    let tokens = tokens(result).map_err(|reason| page.wrong(place, reason))?;
    page.add_tokens(line, Kind::Usage, tokens);
    Ok(Kind::Usage)
}

fn tokens(result: &Value) -> Result<BillTokens, String> {
    let writes = &result["cache_creation"];
    let [short, long] = ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"].map(|field| count(writes, field));
    let long = long?;
    Ok(BillTokens {
        input: count(result, "uncached_input_tokens")?,
        output: count(result, "output_tokens")?,
        cache_read: count(result, "cache_read_input_tokens")?,
        cache_write: short?.saturating_add(long),
        cache_write_1h: long,
    })
}
