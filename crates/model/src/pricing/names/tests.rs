//! Every rule alone, and real spellings through the built-in catalog.

use proptest::prelude::*;

use super::*;
use crate::pricing::{Catalog, PricingOptions};

#[test]
fn providers_are_lowered_and_aliases_resolved() {
    for (given, stored) in [
        ("claude", "claude"),
        ("Anthropic", "claude"),
        ("anthropic", "claude"),
        ("RentCast", "rentcast"),
        ("gcp.gemini", "google"),
        (" claude\n", "claude"),
        ("openai.responses", "openai"),
        ("aws.bedrock", "bedrock"),
        ("VertexAI", "vertex"),
        ("my.chat", "my.chat"),
        ("", ""),
    ] {
        assert_eq!(normalise_provider(given), stored, "{given:?}");
    }
    assert!(matches!(normalise_provider("openai"), Cow::Borrowed(_)));
}

#[test]
fn a_date_suffix_is_cut_and_nothing_else_is() {
    for (model, stem) in [
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("x-20250514", "x"),
    ] {
        assert_eq!(family(model), stem);
    }
    for model in [
        "claude-sonnet-4-5",
        "gpt-4-0613",
        "-20250514",
        "@20250514",
        "20250514",
        "x-20251314",
        "x-20250532",
        "x-19991231",
        "x-2025051",
        "x_20250514",
        "x@2025-05-14",
        "x-2025-0514",
        "",
    ] {
        assert_eq!(family(model), model);
    }
}

proptest! {
    #[test]
    fn any_name_has_a_family_that_begins_it(model in "\\PC{0,8}[-@]?(20[0-9]{6})?") {
        prop_assert!(model.starts_with(family(&model)));
    }
}

#[derive(serde::Deserialize)]
struct Spelling {
    provider: String,
    model: String,
    #[serde(default)]
    means: String,
}

#[derive(serde::Deserialize)]
struct Vendor {
    name: String,
    spellings: Vec<Spelling>,
}

#[derive(serde::Deserialize)]
struct Spellings {
    vendor: Vec<Vendor>,
    unpriced: Unpriced,
}

#[derive(serde::Deserialize)]
struct Unpriced {
    spellings: Vec<Spelling>,
}

/// The catalog's name for a spelling: `bedrock/us.anthropic.claude-sonnet-4-5`, or the reason why it does not have one.
fn means(catalog: &Catalog, provider: &str, platform: &str, model: &str) -> String {
    let provider = normalise_provider(provider);
    let platform = normalise_platform(platform, &provider);
    let scope = if platform.is_empty() { &provider } else { &platform };
    let price = catalog.price_at(scope, model, STANDARD_TIER, i64::MAX);
    price.map_or_else(|| "unpriced".into(), |price| format!("{}/{}", price.provider, price.model))
}

#[test]
fn every_spelling_means_one_model_and_no_neighbour() {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let known: Spellings = toml::from_str(include_str!("../../../../../tests/prices/spellings.toml")).unwrap();
    let mut wrong = Vec::new();
    let mut check = |each: &Spelling, expected: &str| {
        let meant = means(&catalog, &each.provider, "", &each.model);
        if meant != expected {
            wrong.push(format!("{} {:?} means {meant}, not {expected}", each.provider, each.model));
        }
    };
    for vendor in &known.vendor {
        assert!(vendor.spellings.len() >= 20 || vendor.name == "others", "{}", vendor.name);
        vendor.spellings.iter().for_each(|each| check(each, &each.means));
    }
    known.unpriced.spellings.iter().for_each(|each| check(each, "unpriced"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_stated_platform_decides_the_price() {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    for (provider, platform, model, expected) in [
        ("claude", "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/us.anthropic.claude-sonnet-4-5"),
        ("claude", "AWS", "claude-sonnet-4-6", "bedrock/anthropic.claude-sonnet-4-6"),
        ("anthropic", "anthropic", "claude-sonnet-4-5", "claude/claude-sonnet-4-5"),
        ("openai", "azure", "gpt-4o", "azure/gpt-4o"),
        ("google", "vertex_ai", "gemini-2.5-pro", "vertex/gemini-2.5-pro"),
        ("claude", "elsewhere", "claude-sonnet-4-5", "unpriced"),
    ] {
        assert_eq!(means(&catalog, provider, platform, model), expected, "{provider} at {platform}");
    }
}

#[test]
fn vendors_names_of_tiers_are_ours_and_others_stay() {
    for (given, stored) in [
        ("", "standard"),
        (" ", "standard"),
        ("standard", "standard"),
        ("default", "standard"),
        ("AUTO", "standard"),
        ("standard_only", "standard"),
        ("ON_DEMAND", "standard"),
        ("Flex", "flex"),
        ("ON_DEMAND_PRIORITY", "priority"),
        ("priority", "priority"),
        ("Batch", "batch"),
        ("standard+global", "standard"),
        ("standard+fast", "fast"),
        ("us", "us"),
        ("standard+us", "us"),
        ("us+batch", "batch+us"),
        ("batch+us", "batch+us"),
        ("default+fast+us", "fast+us"),
        ("batch+priority", "batch+priority"),
        ("us+eu", "us+eu"),
        ("provisioned_throughput", "provisioned_throughput"),
        ("Unheard-of", "Unheard-of"),
    ] {
        assert_eq!(normalise_tier(given), stored, "{given:?}");
    }
}

proptest! {
    #[test]
    fn any_name_is_read_without_a_panic_and_to_an_equal_price(name in "\\PC{0,40}|[a-z/.:@-]{0,600}") {
        // Normalising a normalised name changes nothing.
        let provider = normalise_provider(&name).into_owned();
        prop_assert_eq!(normalise_provider(&provider), provider.as_str());
        let tier = normalise_tier(&name).into_owned();
        prop_assert_eq!(normalise_tier(&tier), tier.as_str());
        for provider in ["claude", "openai", "google", "bedrock", "vertex", "azure", "openrouter"] {
            prop_assert_eq!(resolve::<()>(provider, &name, |_, _| None), None);
        }
    }
}
