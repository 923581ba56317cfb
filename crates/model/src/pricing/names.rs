//! Names as vendors, clouds, gateways, SDKs and people write them, brought to the form that the catalog uses.
//!
//! *Two questions.* [`normalise_provider`] answers once a record, at admission: who sends the bill, under one name. That
//! name is stored, and rollups and budgets group by it. [`resolve`] answers at pricing: which of the catalog's models a
//! spelling means. The model is stored as it was sent.
//!
//! *Providers and platforms.* A provider is a vendor (`claude`, `openai`, `google` …) or a platform that runs vendors'
//! models and bills for them (`bedrock`, `vertex`, `azure`, `openrouter`). A record may state both: `provider = "claude",
//! platform = "bedrock"`. A call is priced where it ran, so the platform decides if there is one: the catalog has each
//! platform's prices under the platform's name. `provider` keeps the sent text, so that a budget of `bedrock` and the
//! rollups of past years keep their meaning.
//!
//! *Never by guess.* Every rule of [`resolve`] takes something off a name, or writes it otherwise, where the vendor
//! documents that both are one model: a path (`models/…`), a date, a version (`-v1:0`, `-001`), a context size (`[1m]`),
//! case. The rest must be a name of the catalog, letter by letter. A profile of a region (`us.`) is never taken off: it
//! has a price of its own, or none. An ARN and the name of a deployment are found only as an alias that a person set.
//!
//! *Cost.* The usual name is found before any rule runs. Otherwise a rule works in a buffer on the stack: nothing here
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

/// The provider's name as it is stored: without surrounding space, ASCII lower case, one name for each vendor and
/// platform. Allocates only where upper case has to be lowered.
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
    // The AI SDK appends the called service of the vendor: `openai.responses`.
    let stem = SDK_ENDS.iter().find_map(|end| name.strip_suffix(end))?;
    tables::provider(stem)
}

/// Whether a provider's name, as it is stored, is that of a platform.
#[must_use]
pub fn is_platform(provider: &str) -> bool {
    PLATFORMS.contains(&provider)
}

/// The platform of a call, as it is stored: the stated one under its usual name, or else the provider where that is a
/// platform, or else empty. A vendor's own name as a platform means the vendor.
#[must_use]
pub fn normalise_platform<'a>(stated: &'a str, provider: &str) -> Cow<'a, str> {
    if stated.trim().is_empty() {
        return Cow::Borrowed(PLATFORMS.iter().find(|platform| **platform == provider).copied().unwrap_or_default());
    }
    let platform = normalise_provider(stated);
    if platform == provider && !is_platform(provider) { Cow::Borrowed("") } else { platform }
}

/// The service tier under the catalog's name. A tier may carry a modifier, joined by `+`: `batch+us` is a batch that
/// was processed in the United States. Vendors' names of the standard tier are `standard`; an unknown tier stays unchanged, has
/// no price, and makes its call unpriced.
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
