//! Prices above the built-in ones: layers, names, stored forms, statements.

use super::*;

/// An added price of a model, in USD for a million input tokens.
fn stored(id: i32, model: &str, effective_from_us: i64, input: &str) -> StoredPrice {
    StoredPrice {
        id,
        provider: "claude".into(),
        model: model.into(),
        service_tier: "standard".into(),
        effective_from_us,
        rates: serde_json::json!({"per_million_tokens": {"input": input}}),
        source: String::new(),
        source_date: String::new(),
    }
}

fn entry(model: &str, effective_from: Option<&str>, input: &str) -> PriceEntry {
    PriceEntry {
        provider: "Anthropic".into(),
        model: model.into(),
        service_tier: String::new(),
        effective_from: effective_from.map(str::to_owned),
        source: String::new(),
        per_million: TokenRates { input: Some(Usd::parse(input).unwrap()), ..TokenRates::default() },
        per_unit: std::collections::BTreeMap::new(),
        above: Vec::new(),
    }
}

/// 2026-10-07T00:00:00Z: the built-in price of claude-sonnet-5-5 changes.
const CHANGE_US: i64 = 1_791_331_200_000_000;

#[test]
fn a_layer_replaces_what_is_below_it_from_its_first_price_on_and_nothing_before() {
    let options = PricingOptions {
        prices: vec![entry("claude-sonnet-5-5", Some("2026-10-06T00:00:00Z"), "1.5")],
        ..PricingOptions::default()
    };
    let input_at = |catalog: &Catalog, at_us| {
        let price = catalog.find("claude", "claude-sonnet-5-5", "standard", at_us).unwrap();
        a_million_of(price.rates.input)
    };
    let configured = Catalog::builtin(&options).unwrap();
    let day = 86_400_000_000;
    assert_eq!(input_at(&configured, CHANGE_US - day - 1), "2");
    assert_eq!(input_at(&configured, CHANGE_US - day), "1.5");
    assert_eq!(input_at(&configured, CHANGE_US), "1.5", "the later built-in price does not come back");
    // An alias means the same model; of two rows for one instant the later one counts.
    let rows = [
        stored(1_000_000, "claude-sonnet-5-5", CHANGE_US + day, "7"),
        stored(1_000_001, "claude-sonnet-5.5", CHANGE_US + day, "0.5"),
    ];
    let (both, faults) = Catalog::layered(&options, &added(&rows)).unwrap();
    assert!(faults.is_empty());
    let at = |days: i64| input_at(&both, CHANGE_US + days * day);
    assert_eq!([at(-2), at(-1), at(0), at(1), at(900)], ["2", "1.5", "1.5", "0.5", "0.5"]);
    // A price from the beginning of time masks everything below it.
    let (always, _) = Catalog::layered(&options, &added(&[stored(1_000_002, "claude-sonnet-5-5", 0, "9")])).unwrap();
    assert_eq!([input_at(&always, 0), input_at(&always, i64::MAX)], ["9", "9"]);
    assert!(always.prices().any(|price| price.id == 1_032), "a masked price is still known by its id");
    assert!(always.in_force().all(|price| price.id != 1_032));
}

fn added(rows: &[StoredPrice]) -> Added {
    Added { prices: rows.to_vec(), ..Added::default() }
}

#[test]
fn a_name_that_a_person_set_stands_for_a_model_and_one_without_a_model_is_a_fault() {
    let alias = |provider: &str, name: &str, model: &str| ModelAlias {
        provider: provider.into(),
        name: name.into(),
        model: model.into(),
    };
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/AbC";
    let options =
        PricingOptions { aliases: vec![alias("azure", "from-config", "gpt-4o")], ..PricingOptions::default() };
    let aliases = vec![
        alias("AWS", arn, "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        alias("azure", "from-config", "gpt-4o-mini"),
        alias("azure", "nothing", "no-such-model"),
        alias("openai", " ", "gpt-4o"),
    ];
    let (catalog, faults) = Catalog::layered(&options, &Added { aliases, ..Added::default() }).unwrap();
    let model = |provider, model| catalog.find(provider, model, STANDARD_TIER, 0).map(|price| price.model.as_str());
    assert_eq!(model("bedrock", arn), Ok("us.anthropic.claude-sonnet-4-5"));
    let lower = arn.to_lowercase();
    assert_eq!(model("bedrock", &lower), Ok("us.anthropic.claude-sonnet-4-5"));
    assert_eq!(model("azure", " From-Config "), Ok("gpt-4o-mini"), "what was set at run time wins");
    assert_eq!(model("azure", "nothing"), Err(Miss::Model));
    assert_eq!(model("claude", arn), Err(Miss::Model), "it is a name of its provider alone");
    assert_eq!(faults.len(), 2, "{faults:?}");
}

fn a_million_of(rate: Option<Usd>) -> String {
    rate.unwrap().checked_mul(1_000_000).unwrap().to_string()
}

#[test]
fn a_row_that_is_no_price_is_left_out_and_the_others_are_applied() {
    let mut rows =
        vec![stored(1_000_000, "m-1", 0, "1"), stored(1_000_001, "m-2", 0, "-1"), stored(1_000_002, "m-3", 0, "1")];
    rows[2].rates = serde_json::json!({"per_million_tokens": {"input": 3}});
    rows.push(StoredPrice { rates: serde_json::json!({}), ..stored(1_000_003, "m-4", 0, "1") });
    rows.push(StoredPrice { rates: serde_json::json!({"per_milion": {}}), ..stored(1_000_004, "m-5", 0, "1") });
    let (catalog, faults) = Catalog::layered(&PricingOptions::default(), &added(&rows)).unwrap();
    assert!(catalog.find("claude", "m-1", "standard", 0).is_ok());
    for model in ["m-2", "m-3", "m-4", "m-5"] {
        assert!(catalog.find("claude", model, "standard", 0).is_err(), "{model}");
    }
    assert_eq!(faults.len(), 4, "{faults:?}");
}

#[test]
fn every_price_survives_its_stored_form_and_configured_ids_follow_from_what_they_say() {
    for price in builtin().prices() {
        let row = StoredPrice {
            id: price.id,
            provider: price.provider.clone(),
            model: price.model.clone(),
            service_tier: price.service_tier.clone(),
            effective_from_us: price.effective_from_us,
            rates: price.rates_json(),
            source: price.source.clone(),
            source_date: price.source_date.clone(),
        };
        assert_eq!(row.price().unwrap(), Price { origin: PriceOrigin::Stored, ..price.clone() });
    }
    let id = |input| entry("m", None, input).spec().unwrap().with_derived_id().id;
    assert_eq!(id("1"), id("1.0"));
    assert!(id("1") < 0 && id("1") != id("2"));
}

/// A statement of a price of `claude` from an instant on, with these rates.
fn statement(model: &str, from_us: i64, per_million: TokenRates, above: &[(u64, TokenRates)]) -> PriceSpec {
    let above = above.iter().map(|(prompt_tokens, per_million)| AboveEntry {
        prompt_tokens: *prompt_tokens,
        per_million: per_million.clone(),
        per_unit: std::collections::BTreeMap::new(),
    });
    let spec = PriceEntry { per_million, above: above.collect(), ..entry(model, None, "0") }.stated().unwrap();
    PriceSpec { effective_from_us: from_us, ..spec }
}

fn rates_of(pairs: &[(&str, &str)]) -> TokenRates {
    let mut rates = TokenRates::default();
    for (bucket, usd) in pairs {
        *rates.bucket_mut(bucket).unwrap() = Some(Usd::parse(usd).unwrap());
    }
    rates
}

#[test]
fn a_first_price_holds_from_its_instant_and_without_one_always() {
    let (catalog, _) =
        Catalog::layered(&PricingOptions::default(), &added(&[stored(1_000_000, "new", CHANGE_US, "1")])).unwrap();
    assert_eq!(catalog.find("claude", "new", "standard", CHANGE_US - 1).unwrap_err(), Miss::Instant);
    assert!(catalog.find("claude", "new", "standard", CHANGE_US).is_ok());
    // Built-in models have a price at all times.
    let builtin = builtin();
    for price in builtin.in_force() {
        let first = builtin.find(&price.provider, &price.model, &price.service_tier, 0).map(|first| first.id);
        assert!(first.is_ok(), "{} {} {}", price.provider, price.model, price.service_tier);
    }
}

#[test]
fn rates_that_a_statement_does_not_name_stay_unless_it_replaces_the_price() {
    let catalog = builtin();
    let stated = statement("claude-sonnet-5", CHANGE_US, rates_of(&[("input", "1.8"), ("output", "9")]), &[]);
    let amended = catalog.amend(&stated, false).unwrap();
    assert_eq!(a_million(&amended.spec.rates), ["1.8", "9", "2.5", "4", "0.2"]);
    assert_eq!(amended.spec.rates.rate("web_search"), Some(Usd::parse("0.01").unwrap()));
    let unnamed: Vec<_> = amended.unnamed.iter().map(ToString::to_string).collect();
    assert_eq!(unnamed, ["cache_read", "cache_write_5m", "cache_write_1h", "web_search"]);
    let replaced = catalog.amend(&stated, true).unwrap();
    assert_eq!(replaced.spec, stated);
    assert_eq!(replaced.unnamed, amended.unnamed, "that is what is lost");

    // Larger prompts: unnamed rates stay.
    let above = [(100_000, rates_of(&[("input", "0.7")]))];
    let haiku = statement("claude-haiku-5-5", CHANGE_US, rates_of(&[("input", "0.2")]), &above);
    let amended = catalog.amend(&haiku, false).unwrap();
    assert_eq!(a_million(&amended.spec.rates), ["0.2", "0.5", "0.125", "0.2", "0.01"]);
    assert_eq!(a_million(&amended.spec.above[0].rates), ["0.7", "2.5", "0.625", "1", "0.05"]);
    let untold = statement("claude-haiku-5-5", CHANGE_US, rates_of(&[("input", "0.2")]), &[]);
    let amended = catalog.amend(&untold, false).unwrap();
    assert_eq!(amended.spec.above[0].rates.input, Some(Usd::parse("0.0000005").unwrap()));
    assert!(amended.unnamed.iter().any(|rate| rate.to_string() == "above 100000: input"), "{amended:?}");

    // A first price has the named rates, and an empty statement is not a price.
    let first = catalog.amend(&statement("new", 0, rates_of(&[("input", "1")]), &[]), false).unwrap();
    assert!(first.old.is_none() && first.unnamed.is_empty());
    let nothing = catalog.amend(&statement("claude-sonnet-5", 0, TokenRates::default(), &[]), false);
    assert!(matches!(nothing, Err(CatalogError::NoRates { .. })));
}
