//! Brings names to the catalog's form, from the spellings of vendors, clouds, gateways, SDKs and people.
//!
//! *Two lookups.* [`normalise_provider`] runs once a record, at admission: it gives the sender of the bill one name.
//! That name is stored, and rollups and budgets group by it. [`resolve`] runs at pricing: it finds the catalog's model
//! for a spelling. The model is stored as it was sent.
//!
//! *Providers and platforms.* A provider is a vendor (`claude`, `openai`, `google` …) or a platform that runs vendors'
//! models and bills for them (`bedrock`, `vertex`, `azure`, `openrouter`). A record may state both:
//! `provider = "claude", platform = "bedrock"`. The platform decides the price if there is one: the catalog has each
//! platform's prices under the platform's name. `provider` keeps the sent text, so that a budget of `bedrock` and the
//! rollups of past years keep their meaning.
//!
//! *No guesses.* A rule of [`resolve`] removes or rewrites a part of a name only if the vendor documents that both
//! names are one model. Such parts are a path (`models/…`), a date, a version (`-v1:0`, `-001`), a context size
//! (`[1m]`), and case. The rest must be a name of the catalog, letter by letter. A region's profile (`us.`) is never
//! removed: it has its own price, or is unpriced. An ARN and the name of a deployment are found only as an alias that a
//! person set.
//!
//! *Cost.* The usual name is found before any rule runs. Otherwise a rule works in a buffer on the stack. The module
//! allocates only for a provider or service tier in upper case.
//! allocates, except where an upper-case provider or service tier has to be lowered.

mod models;
mod tables;

use std::borrow::Cow;

pub use models::NAME_BYTES;
pub(super) use models::resolve;
pub use tables::provider_names;
use tables::{PLATFORMS, SDK_ENDS};
pub use tallyd_protocol::budgets::family;
pub(super) use tallyd_protocol::budgets::without_date;

/// The tier of a call that is priced by a vendor's usual rates.
pub const STANDARD_TIER: &str = "standard";

/// The provider's stored name: without surrounding space, ASCII lower case, one name for each vendor and platform.
/// Allocates only for upper case.
#[must_use]
pub fn normalise_provider(provider: &str) -> Cow<'_, str> {
    let provider = provider.trim();
    if provider.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = provider.to_ascii_lowercase();
        return known(&lower).map_or(Cow::Owned(lower), Cow::Borrowed);
    }
    Cow::Borrowed(known(provider).unwrap_or(provider))
}

/// Our name of a vendor or platform, if the lower-case name is one of its names.
fn known(name: &str) -> Option<&'static str> {
    if let Some(ours) = tables::provider(name) {
        return Some(ours);
    }
    // The AI SDK appends the vendor's service: `openai.responses`.
    let stem = SDK_ENDS.iter().find_map(|end| name.strip_suffix(end))?;
    tables::provider(stem)
}

/// True if a provider's stored name is that of a platform.
#[must_use]
pub fn is_platform(provider: &str) -> bool {
    PLATFORMS.contains(&provider)
}

/// The stored platform of a call: the stated one under its usual name; else the provider, if that is a platform; else
/// empty. A vendor's own name as a platform means the vendor, and is stored empty.
#[must_use]
pub fn normalise_platform<'a>(stated: &'a str, provider: &str) -> Cow<'a, str> {
    if stated.trim().is_empty() {
        return Cow::Borrowed(PLATFORMS.iter().find(|platform| **platform == provider).copied().unwrap_or_default());
    }
    let platform = normalise_provider(stated);
    if platform == provider && !is_platform(provider) { Cow::Borrowed("") } else { platform }
}

/// The service tier under the catalog's name. A tier may have a modifier, joined by `+`: `batch+us` is a batch that was
/// processed in the United States. Vendors' names of the standard tier become `standard`. An unknown tier stays
/// unchanged, and makes its call unpriced.
#[must_use]
pub fn normalise_tier(tier: &str) -> Cow<'_, str> {
    if tier == STANDARD_TIER || tier.trim().is_empty() {
        return Cow::Borrowed(STANDARD_TIER);
    }
    let (mut speed, mut place) = (STANDARD_TIER, "");
    for part in tier.split('+') {
        match tables::tier_part(part.trim()) {
            Some(tables::TierPart::Tier(name)) if speed == STANDARD_TIER || speed == name => speed = name,
            Some(tables::TierPart::Standard) => {}
            Some(tables::TierPart::Place(name)) if place.is_empty() || place == name => place = name,
            _ => return Cow::Borrowed(tier),
        }
    }
    match (speed, place) {
        (speed, "") => Cow::Borrowed(speed),
        (STANDARD_TIER, place) => Cow::Borrowed(place),
        (speed, place) => match tier.split_once('+') {
            Some((first, second)) if (first, second) == (speed, place) => Cow::Borrowed(tier),
            _ => Cow::Owned(format!("{speed}+{place}")),
        },
    }
}

#[cfg(test)]
mod tests;
