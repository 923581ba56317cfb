//! Costs calculated by hand, the edges of every rule, and the sums over splits.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::pricing::PricingOptions;
use crate::pricing::usage::Tokens;

/// 2026-10-07T00:00:00Z, in microseconds: the cache reads of claude-sonnet-5-5 become cheaper.
const CHEAPER_READS_US: i64 = 1_791_331_200_000_000;

fn catalog() -> Catalog {
    Catalog::builtin(&PricingOptions::default()).unwrap()
}

fn claude(model: &str, tokens: Tokens) -> Usage<'_> {
    Usage {
        provider: "claude",
        platform: "",
        model,
        endpoint: "/v1/messages",
        service_tier: "standard",
        occurred_at_us: CHEAPER_READS_US,
        tokens,
        requests: 1,
        extra_units: &[],
    }
}

fn cost(usage: &Usage<'_>) -> String {
    match catalog().price(usage) {
        Priced::Catalog { cost, .. } => cost.to_string(),
        Priced::Unpriced(reason) => reason.name().to_owned(),
    }
}

#[test]
fn every_bucket_is_charged_at_its_own_rate() {
    let tokens = Tokens { input: 1, output: 10, cache_read: 100, cache_write_5m: 1_000, cache_write_1h: 10_000 };
    // 3 + 150 + 30 + 3,750 + 60,000 millionths.
    assert_eq!(cost(&claude("claude-sonnet-4-20250514", tokens)), "0.063933");
    let batch = Usage { service_tier: "batch", ..claude("claude-sonnet-4", tokens) };
    assert_eq!(cost(&batch), "0.0319665");
    assert_eq!(cost(&claude("claude-sonnet-4", Tokens::default())), "0");
}

#[test]
fn the_prompt_decides_the_tier_of_the_whole_request() {
    let haiku = |input, cache_read, cache_write_5m, cache_write_1h| {
        let tokens = Tokens { input, output: 1_000_000, cache_read, cache_write_5m, cache_write_1h };
        cost(&claude("claude-haiku-5-5", tokens))
    };
    assert_eq!(haiku(100_000, 0, 0, 0), "0.51", "output does not count");
    assert_eq!(haiku(100_001, 0, 0, 0), "2.5500005");
    assert_eq!(haiku(0, 100_000, 0, 0), "0.501");
    assert_eq!(haiku(0, 100_000, 0, 1), "2.505001", "every cache bucket counts");
    assert_eq!(haiku(0, 100_000, 1, 0), "2.505000625");
    let sonnet = |input| cost(&claude("claude-sonnet-4", Tokens { input, ..Tokens::default() }));
    assert_eq!((sonnet(200_000), sonnet(200_001)), ("0.6".into(), "1.200006".into()));
}

#[test]
fn a_price_holds_from_its_instant_on_and_one_without_an_instant_for_ever() {
    let at = |occurred_at_us| {
        let tokens = Tokens { cache_read: 1_000_000, ..Tokens::default() };
        cost(&Usage { occurred_at_us, ..claude("claude-sonnet-5-5", tokens) })
    };
    assert_eq!(at(CHEAPER_READS_US - 1), "0.2");
    assert_eq!(at(CHEAPER_READS_US), "0.1");
    assert_eq!(at(i64::MAX), "0.1");
    assert_eq!((at(0), at(i64::MIN)), ("0.2".into(), "0.2".into()));
}

#[test]
fn a_request_costs_the_plans_overage_rate() {
    let usage = Usage { provider: "rentcast", endpoint: "/avm/value", requests: 3, ..claude("", Tokens::default()) };
    assert_eq!(cost(&usage), "0.6");
    let tokens = Usage { tokens: Tokens { input: 1, ..Tokens::default() }, ..usage };
    assert_eq!(cost(&tokens), "unrated_unit");
}

#[test]
fn what_cannot_be_priced_in_full_is_unpriced() {
    let one = Tokens { input: 1, ..Tokens::default() };
    assert_eq!(cost(&claude("claude-sonnet-99", one)), "unknown_model");
    assert_eq!(cost(&Usage { provider: "nobody", ..claude("claude-sonnet-4", one) }), "unknown_provider");
    assert_eq!(cost(&Usage { service_tier: "priority", ..claude("claude-sonnet-4", one) }), "unknown_service_tier");
    let images = |quantity| [(Cow::Borrowed("image"), Quantity::parse(quantity).unwrap())];
    assert_eq!(cost(&Usage { extra_units: &images("0.5"), ..claude("claude-sonnet-4", one) }), "unrated_unit");
    assert_eq!(cost(&Usage { extra_units: &images("0"), ..claude("claude-sonnet-4", one) }), "0.000003");
    let huge = Tokens { output: u64::MAX, ..Tokens::default() };
    assert_eq!(cost(&claude("claude-opus-4", huge)), "overflow");
    let searches = [(Cow::Borrowed("web_search"), Quantity::from_nanos(i128::MAX).unwrap())];
    assert_eq!(cost(&Usage { extra_units: &searches, ..claude("claude-opus-4", one) }), "overflow");
}

#[test]
fn the_total_is_rounded_once_half_to_even() {
    let with_rate = r#"
        [[model]]
        provider = "p"
        name = "m"
        source = "s"
        source_date = "2026-01-01"
        [[model.price]]
        id = 1
        per_million = { input = "0.000000000001" }
        per_unit = { a = "0.000000000000000001", b = "0.01" }
        [[plan]]
        provider = "rentcast"
        name = "developer"
        id = 2
        monthly = "0"
        included_requests = 50
        request = "0.20"
        source = "s"
        source_date = "2026-01-01"
    "#;
    let catalog = Catalog::parse(with_rate, &PricingOptions::default()).unwrap();
    let attos = |input, units: &[(&'static str, &str)]| {
        let units: Vec<_> = units.iter().map(|(name, q)| (Cow::Borrowed(*name), Quantity::parse(q).unwrap())).collect();
        let tokens = Tokens { input, ..Tokens::default() };
        match catalog.price(&Usage { provider: "p", extra_units: &units, ..claude("m", tokens) }) {
            Priced::Catalog { cost, .. } => cost.attos(),
            Priced::Unpriced(reason) => panic!("{reason:?}"),
        }
    };
    assert_eq!(attos(0, &[("a", "0.5")]), 0);
    assert_eq!(attos(0, &[("a", "1.5")]), 2);
    assert_eq!(attos(1, &[("a", "0.5")]), 2, "the parity is the total's, not the units'");
    assert_eq!(attos(1, &[("a", "1.5")]), 2);
    assert_eq!(attos(0, &[("a", "0.500000001")]), 1);
    assert_eq!(attos(0, &[("a", "0.499999999")]), 0);
    assert_eq!(attos(0, &[("a", "0.25"), ("a", "0.25"), ("a", "0.25")]), 1, "one rounding, not three");
    assert_eq!(attos(0, &[("b", "0.000000001")]), 10_000_000, "exact where 18 decimals hold it");
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let count = 0..1_000_000_000u64;
    (count.clone(), count.clone(), count.clone(), count.clone(), count).prop_map(
        |(input, output, cache_read, cache_write_5m, cache_write_1h)| Tokens {
            input,
            output,
            cache_read,
            cache_write_5m,
            cache_write_1h,
        },
    )
}

proptest! {
    #[test]
    fn a_split_over_several_records_costs_the_same(parts in prop::collection::vec((tokens(), 0..10_000u32), 1..8)) {
        let catalog = catalog();
        let cost_of = |tokens: Tokens, searches: u64| {
            let quantity = Quantity::from_nanos(i128::from(searches) * Quantity::ONE.nanos()).unwrap();
            let units = [(Cow::Borrowed("web_search"), quantity)];
            match catalog.price(&Usage { extra_units: &units, ..claude("claude-opus-4-8", tokens) }) {
                Priced::Catalog { cost, .. } => cost,
                Priced::Unpriced(reason) => panic!("{reason:?}"),
            }
        };
        let (mut whole, mut searches, mut sum) = (Tokens::default(), 0, Usd::ZERO);
        for (part, part_searches) in parts {
            sum = sum.checked_add(cost_of(part, u64::from(part_searches))).unwrap();
            searches += u64::from(part_searches);
            whole.input += part.input;
            whole.output += part.output;
            whole.cache_read += part.cache_read;
            whole.cache_write_5m += part.cache_write_5m;
            whole.cache_write_1h += part.cache_write_1h;
        }
        prop_assert_eq!(cost_of(whole, searches), sum);
    }

    #[test]
    fn any_usage_is_priced_or_not_without_a_panic(
        (input, output, cache_read, cache_write_5m, cache_write_1h) in any::<(u64, u64, u64, u64, u64)>(),
        (requests, nanos, occurred_at_us) in any::<(u64, i128, i64)>(),
    ) {
        let tokens = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h };
        let units = [(Cow::Borrowed("web_search"), Quantity::from_nanos(nanos).unwrap_or_default())];
        let usage = Usage { requests, occurred_at_us, extra_units: &units, ..claude("claude-haiku-5-5", tokens) };
        if let Priced::Catalog { cost, .. } = catalog().price(&usage) {
            prop_assert!(cost.fits_a_record() && cost >= Usd::ZERO);
        }
    }
}

#[test]
fn audio_has_rates_of_its_own_and_counts_towards_the_size_of_a_prompt() {
    let units = |pairs: &[(&'static str, u64)]| {
        let quantity = |count: u64| Quantity::parse(&count.to_string()).unwrap();
        pairs.iter().map(|(unit, count)| (Cow::Borrowed(*unit), quantity(*count))).collect::<Vec<_>>()
    };
    let heard = |provider, model, input, pairs: &[(&'static str, u64)]| {
        let tokens = Tokens { input, ..Tokens::default() };
        cost(&Usage { provider, extra_units: &units(pairs), ..claude(model, tokens) })
    };
    let audio = |audio| heard("google", "gemini-2.5-pro", 100_000, &[("audio_input_token", audio)]);
    assert_eq!(audio(100_000), "0.25");
    assert_eq!(audio(100_001), "0.5000025", "the whole prompt decides, and each unit has its rate of larger ones");
    assert_eq!(heard("google", "gemini-2.5-pro", 0, &[("audio_cache_read_token", 200_001)]), "0.05000025");
    let spoken = |model| heard("openai", model, 0, &[("audio_input_token", 1_000), ("audio_output_token", 1_000)]);
    assert_eq!((spoken("gpt-4o-audio-preview"), spoken("gpt-4o-mini-audio-preview")), ("0.12".into(), "0.03".into()));
}
