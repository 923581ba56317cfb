//! OpenRouter's `GET /api/v1/activity`: one item for each day, model and endpoint, with the charge.
//!
//! `usage` is OpenRouter's charge, in USD; `byok_usage_inference` is a vendor's charge for the customer's own key.
//! `date` is a UTC day, with or without a midnight. `prompt_tokens` include cached ones without their number, so tokens
//! are not compared. Described by <https://openrouter.ai/docs/api/api-reference/analytics/get-user-activity>, read on
//! 2026-11-29.

use chrono::NaiveDate;

use super::{BillError, Kind, Line, Page, amount};
use crate::json::Value;
use crate::pricing::Usd;

const PROVIDER: &str = "openrouter";

/// True if this is an item of the activity.
pub(super) fn is_item(item: &Value) -> bool {
    item.get("model_permaslug").is_some() && item.get("usage").is_some()
}

pub(super) fn read(page: &mut Page<'_>, items: &[Value]) -> Result<(), BillError> {
    for (number, item) in items.iter().enumerate() {
        let place = format!("item {}", number + 1);
        if !is_item(item) {
            return Err(page.unknown());
        }
        let day = day(item).ok_or_else(|| page.wrong(&place, format!("date is not a day: {}", item["date"])))?;
        let usd = cost(item).map_err(|reason| page.wrong(&place, reason))?;
        let name = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        let model = name("model_permaslug");
        page.once(&format!("{day}, {model}, endpoint {}", name("endpoint_id")), Kind::Cost)?;
        page.add_cost(Line::whole(day, PROVIDER, &model), &place, usd)?;
    }
    Ok(())
}

fn day(item: &Value) -> Option<NaiveDate> {
    let text = item["date"].as_str()?;
    text.split([' ', 'T']).next()?.parse().ok()
}

fn cost(item: &Value) -> Result<Usd, String> {
    let usd = |field: &str| match &item[field] {
        Value::Null => Ok(Usd::ZERO),
        value => amount(&value.as_str().map_or_else(|| value.to_string(), str::to_owned), 0)
            .map_err(|reason| format!("{field}: {reason}")),
    };
    usd("usage")?.checked_add(usd("byok_usage_inference")?).ok_or_else(|| "the sum is too large an amount".to_owned())
}
