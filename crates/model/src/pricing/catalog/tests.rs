//! The catalog's rules, and its data compared with figures that were written down independently of it.

mod layers;

use super::*;
use crate::pricing::STANDARD_TIER;
use crate::pricing::Usd;

/// USD for a million tokens: input, output, 5-minute write, 1-hour write, cache read. Copied from a price survey with
/// evidence up to 2026-10-24, not from `catalog.toml`.
const CLAUDE: [(&str, [&str; 5]); 18] = [
    ("claude-fable-5-1", ["10", "50", "12.5", "20", "0.25"]),
    ("claude-fable-5", ["10", "50", "12.5", "20", "1"]),
    ("claude-opus-5-5", ["4", "20", "5", "8", "0.2"]),
    ("claude-opus-5", ["5", "25", "6.25", "10", "0.5"]),
    ("claude-opus-4-8", ["5", "25", "6.25", "10", "0.5"]),
    ("claude-opus-4-7", ["5", "25", "6.25", "10", "0.5"]),
    ("claude-opus-4-6", ["5", "25", "6.25", "10", "0.5"]),
    ("claude-opus-4-5", ["5", "25", "6.25", "10", "0.5"]),
    ("claude-opus-4-1", ["15", "75", "18.75", "30", "1.5"]),
    ("claude-opus-4", ["15", "75", "18.75", "30", "1.5"]),
    ("claude-sonnet-5-5", ["2", "10", "2.5", "4", "0.1"]),
    ("claude-sonnet-5", ["2", "10", "2.5", "4", "0.2"]),
    ("claude-sonnet-4-6", ["3", "15", "3.75", "6", "0.3"]),
    ("claude-sonnet-4-5", ["3", "15", "3.75", "6", "0.3"]),
    ("claude-sonnet-4", ["3", "15", "3.75", "6", "0.3"]),
    ("claude-haiku-5-5", ["0.1", "0.5", "0.125", "0.2", "0.01"]),
    ("claude-haiku-4-5", ["1", "5", "1.25", "2", "0.1"]),
    ("claude-haiku-3-5", ["0.8", "4", "1", "1.6", "0.08"]),
];

/// 2026-10-24T00:00:00Z, in microseconds.
const TABLE_DATE_US: i64 = 1_792_800_000_000_000;

const A_PLAN: &str = r#"
[[plan]]
provider = "rentcast"
name = "developer"
id = 1
monthly = "0"
included_requests = 50
request = "0.20"
source = "s"
source_date = "2026-01-01"
"#;

fn builtin() -> Catalog {
    Catalog::builtin(&PricingOptions::default()).unwrap()
}

fn parse(model: &str) -> Result<Catalog, CatalogError> {
    Catalog::parse(&format!("{model}{A_PLAN}"), &PricingOptions::default())
}

/// A model entry with the given prices.
fn model(name: &str, rest: &str) -> String {
    format!("[[model]]\nprovider = \"p\"\nname = \"{name}\"\nsource = \"s\"\nsource_date = \"2026-01-01\"\n{rest}\n")
}

fn a_million(rates: &Rates) -> [String; 5] {
    [rates.input, rates.output, rates.cache_write_5m, rates.cache_write_1h, rates.cache_read]
        .map(|rate| rate.unwrap().checked_mul(1_000_000).unwrap().to_string())
}

#[test]
fn every_figure_of_the_claude_table_is_in_the_catalog() {
    let catalog = builtin();
    for (name, expected) in CLAUDE {
        let price = catalog.find("claude", name, "standard", TABLE_DATE_US).unwrap();
        assert_eq!(a_million(&price.rates), expected, "{name}");
        let web_search = price.rates.extra.iter().find(|(unit, _)| unit == "web_search");
        assert_eq!(web_search.unwrap().1.to_string(), "0.01", "{name}");
        assert_eq!(price.above.is_empty(), !matches!(name, "claude-haiku-5-5" | "claude-sonnet-4"), "{name}");
    }
}

/// A tier that keeps its rates while the standard ones rise would be priced too low from that day on.
#[test]
fn an_announced_change_is_one_of_every_tier_of_its_model() {
    let catalog = builtin();
    let mut starts = std::collections::BTreeMap::<_, std::collections::BTreeMap<_, Vec<i64>>>::new();
    for price in catalog.prices().filter(|price| price.plan.is_none()) {
        let tiers = starts.entry((&price.provider, &price.model)).or_default();
        let days = tiers.entry(&price.service_tier).or_default();
        // After the day that the lists were written for.
        days.extend(Some(price.effective_from_us).filter(|start| *start > 1_795_910_400_000_000));
    }
    assert!(starts[&(&"google".to_owned(), &"gemini-4-argon".to_owned())].values().all(|days| days.len() == 1));
    for (model, tiers) in starts {
        assert!(tiers.values().all(|days| Some(days) == tiers.values().next()), "{model:?}: {tiers:?}");
    }
}

#[test]
fn large_prompts_have_the_rates_of_the_table() {
    let catalog = builtin();
    let above = |model, at_us| {
        let price = catalog.find("claude", model, "standard", at_us).unwrap();
        price.above.iter().map(|tier| (tier.prompt_tokens, a_million(&tier.rates))).collect::<Vec<_>>()
    };
    let rates = |text: [&str; 5]| text.map(str::to_owned);
    assert_eq!(above("claude-haiku-5-5", TABLE_DATE_US), [(100_000, rates(["0.5", "2.5", "0.625", "1", "0.05"]))]);
    // 2026-05-01T00:00:00Z: the 1M-token beta of Sonnet 4.5 had been retired the day before.
    let retired_us = 1_777_593_600_000_000;
    for (model, at_us) in [("claude-sonnet-4-5", retired_us - 1), ("claude-sonnet-4", TABLE_DATE_US)] {
        assert_eq!(above(model, at_us), [(200_000, rates(["6", "22.5", "7.5", "12", "0.6"]))]);
    }
    assert_eq!(above("claude-sonnet-4-5", retired_us), []);
    // 2026-03-13T00:00:00Z: the surcharge on large prompts ended.
    let ended_us = 1_773_360_000_000_000;
    for model in ["claude-opus-4-6", "claude-sonnet-4-6"] {
        assert_eq!(above(model, ended_us - 1).len(), 1, "{model}");
        assert_eq!(above(model, ended_us).len(), 0, "{model}");
    }
}

#[test]
fn batch_is_half_of_every_claude_token_rate() {
    let catalog = builtin();
    let claude = |tier| {
        catalog
            .prices()
            // Ids from 10001 are from lists, which do not have both tiers of every model.
            .filter(move |price| price.provider == "claude" && price.service_tier == tier && price.id < 10_000)
            .collect::<Vec<_>>()
    };
    let (standard, batch) = (claude("standard"), claude("batch"));
    assert_eq!(standard.len(), batch.len());
    assert!(standard.len() >= CLAUDE.len());
    for (standard, batch) in standard.iter().zip(batch) {
        assert_eq!((&standard.model, standard.effective_from_us), (&batch.model, batch.effective_from_us));
        assert_eq!(standard.rates.extra, batch.rates.extra);
        let sizes = |price: &Price| {
            let above = price.above.iter().map(|tier| (tier.prompt_tokens, tier.rates.clone()));
            std::iter::once((0, price.rates.clone())).chain(above).collect::<Vec<_>>()
        };
        for ((size, full), (batch_size, half)) in sizes(standard).into_iter().zip(sizes(batch)) {
            assert_eq!(size, batch_size);
            for ((bucket, full), (_, half)) in full.token_rates().into_iter().zip(half.token_rates()) {
                assert_eq!(full.unwrap(), half.unwrap().checked_mul(2).unwrap(), "{} {bucket}", batch.model);
            }
        }
    }
}

#[test]
fn every_plan_has_the_terms_of_the_price_list() {
    let expected = [
        (Plan::Developer, "0", 50, "0.2"),
        (Plan::Foundation, "74", 1_000, "0.06"),
        (Plan::Growth, "199", 5_000, "0.03"),
        (Plan::Scale, "449", 25_000, "0.015"),
    ];
    assert_eq!(expected.map(|(plan, ..)| plan), Plan::ALL);
    for (plan, monthly, included, overage) in expected {
        let catalog = Catalog::builtin(&PricingOptions { rentcast_plan: plan, ..PricingOptions::default() }).unwrap();
        let terms = catalog.plan_terms(0);
        let (terms_monthly, terms_overage) = (terms.monthly.to_string(), terms.overage.to_string());
        assert_eq!((&*terms_monthly, terms.included_requests, &*terms_overage), (monthly, included, overage));
        let price = catalog.find("rentcast", "", "standard", 0).unwrap();
        assert_eq!((price.id, price.plan, price.rates.request), (terms.price_id, Some(plan), Some(terms.overage)));
    }
}

#[test]
fn a_plans_bill_is_the_fee_and_what_lies_beyond_it() {
    let catalog =
        Catalog::builtin(&PricingOptions { rentcast_plan: Plan::Foundation, ..PricingOptions::default() }).unwrap();
    let bill = |requests| catalog.plan_terms(0).bill(requests).unwrap().to_string();
    assert_eq!([bill(0), bill(1_000), bill(1_001), bill(2_000)], ["74", "74", "74.06", "134"]);
    assert!(catalog.plan_terms(0).bill(u64::MAX).is_some());
}

#[test]
fn a_model_is_found_by_name_alias_or_date_suffix_and_never_by_resemblance() {
    let catalog = builtin();
    let found = |model| catalog.find("claude", model, STANDARD_TIER, 0).map(|price| price.model.as_str());
    for model in [
        "claude-sonnet-4",
        "claude-sonnet-4-0",
        "claude-sonnet-4-20250514",
        "claude-sonnet-4@20250514",
        "claude-sonnet-4-2025-05-14",
        "claude-sonnet-4-0-20250514",
    ] {
        assert_eq!(found(model), Ok("claude-sonnet-4"), "{model}");
    }
    assert_eq!(found("claude-sonnet-4-5-20250929"), Ok("claude-sonnet-4-5"));
    for model in ["claude-sonnet-4-9", "claude-sonnet", "claude-sonnet-4-2025051", "sonnet-4", ""] {
        assert_eq!(found(model), Err(Miss::Model), "{model}");
    }
    let openai = |model| catalog.find("openai", model, STANDARD_TIER, 0).unwrap().id;
    assert_ne!(openai("gpt-4o-2024-05-13"), openai("gpt-4o-2024-08-06"), "an exact name wins over its date suffix");
    assert_eq!(openai("gpt-4o-2024-08-06"), openai("gpt-4o"));
}

#[test]
fn misses_say_what_is_unknown() {
    let catalog = builtin();
    let miss = |provider, model, tier| catalog.find(provider, model, tier, 0).map(|price| price.id).unwrap_err();
    assert_eq!(miss("nobody", "claude-sonnet-4", "standard"), Miss::Provider);
    assert_eq!(miss("claude", "nothing", "standard"), Miss::Model);
    assert_eq!(miss("claude", "claude-sonnet-4", "priority"), Miss::ServiceTier);
    assert!(
        catalog.find("rentcast", "whatever it says", "standard", 0).is_ok(),
        "a provider-wide price ignores the model"
    );
}

#[test]
fn the_json_of_a_price_is_what_the_file_says() {
    let catalog = parse(&model(
        "m",
        r#"[[model.price]]
        id = 7
        per_million = { input = "3", cache_read = "0.30" }
        per_unit = { request = "1", image = "0.04" }
        [[model.price.above]]
        prompt_tokens = 200_000
        per_million = { input = "6", cache_read = "0.6" }"#,
    ))
    .unwrap();
    let price = catalog.prices().next().unwrap();
    let per_unit = serde_json::json!({"request": "1", "image": "0.04"});
    let expected = serde_json::json!({
        "per_million_tokens": {"input": "3", "cache_read": "0.3"},
        "per_unit": per_unit,
        "above": [{
            "prompt_tokens": 200_000,
            "per_million_tokens": {"input": "6", "cache_read": "0.6"},
            "per_unit": per_unit,
        }],
    });
    assert_eq!(price.rates_json(), expected);
    let plan = catalog.prices().find(|price| price.provider == "rentcast").unwrap();
    assert_eq!(plan.rates_json(), serde_json::json!({"per_unit": {"request": "0.2"}, "plan": "developer"}));
}

#[test]
fn contradictions_are_refused_by_name() {
    let price = |id: i32, from: &str| {
        format!("[[model.price]]\nid = {id}\neffective_from = \"{from}\"\nper_million = {{ input = \"1\" }}\n")
    };
    let (first, second) = (price(5, "2026-01-01"), price(6, "2026-01-01T00:00:00Z"));
    assert_eq!(parse(&model("m", &format!("{first}{second}"))).unwrap_err(), CatalogError::Order { id: 6 });
    let twice = format!("{}{}", model("m", &first), model("n", &first));
    assert_eq!(parse(&twice).unwrap_err(), CatalogError::DuplicateId { id: 5 });
    let none = parse(&model("m", "[[model.price]]\nid = 5")).unwrap_err();
    assert_eq!(none, CatalogError::NoRates { id: 5 });
    let alias =
        format!("{}{}", model("m", &first), model("n", &format!("aliases = [\"m\"]\n{}", price(8, "2026-01-01"))));
    assert!(matches!(parse(&alias).unwrap_err(), CatalogError::AmbiguousName { name, .. } if name == "m"));
    let date = parse(&model("m", &price(5, "yesterday"))).unwrap_err();
    assert!(date.to_string().starts_with("m: \"yesterday\" is not a date"), "{date}");
    for (rates, id) in [("input = \"-1\"", 5), ("input = \"0.0000000000001\"", 5)] {
        let error =
            parse(&model("m", &format!("[[model.price]]\nid = {id}\nper_million = {{ {rates} }}"))).unwrap_err();
        assert!(
            matches!(error, CatalogError::NegativeRate { id: 5, .. } | CatalogError::RateTooPrecise { id: 5, .. }),
            "{error}"
        );
    }
    let above = format!("{first}[[model.price.above]]\nprompt_tokens = 9\nper_million = {{ output = \"1\" }}\n");
    assert_eq!(parse(&model("m", &above)).unwrap_err(), CatalogError::SizeTiers { id: 5 });
    let plan = PricingOptions { rentcast_plan: Plan::Scale, ..PricingOptions::default() };
    assert_eq!(Catalog::parse(A_PLAN, &plan).unwrap_err(), CatalogError::MissingPlan { plan: Plan::Scale });
}

#[test]
fn unknown_keys_and_binary_floats_are_refused() {
    for rest in [
        "[[model.price]]\nid = 5\nper_milion = { input = \"1\" }",
        "[[model.price]]\nid = 5\nper_million = { inputs = \"1\" }",
        "[[model.price]]\nid = 5\nper_million = { input = 1.5 }",
    ] {
        assert!(matches!(parse(&model("m", rest)), Err(CatalogError::Toml(_))), "{rest}");
    }
}
