//! Price files in the built-in catalog's form. Readers of other forms get a function and a line in [`run`].

use std::collections::HashSet;

use tallyd_model::pricing::{Catalog, Plan, PricingOptions, Tokens, Usage};

/// Keys of a catalog file.
pub const WORDS: [&[u8]; 10] = [
    b"\n[[model]]\nprovider = \"claude\"\nname = \"m\"\nsource = \"s\"\nsource_date = \"2026-10-24\"\n",
    b"\n[[model.price]]\nid = 1\nper_million = { input = \"3\" }\n",
    b"\n[[model.price.above]]\nprompt_tokens = 200_000\nper_million = { input = \"6\" }\n",
    b"\n[[plan]]\nprovider = \"rentcast\"\nname = \"growth\"\n",
    b"effective_from = \"2026-10-07\"\n",
    b"per_unit = { request = \"0.2\" }\n",
    b"service_tier = \"batch\"\n",
    b"170141183460469231731.687303715884105727",
    b"1e-18",
    b"9223372036854775807",
];

/// Reads a file of prices, and prices with it.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for plan in Plan::ALL {
        match Catalog::parse(text, &PricingOptions { rentcast_plan: plan, ..PricingOptions::default() }) {
            Ok(catalog) => check(&catalog),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn check(catalog: &Catalog) {
    let ids: HashSet<_> = catalog.prices().map(|price| price.id).collect();
    assert_eq!(ids.len(), catalog.prices().len(), "an id stands for one price");
    for at_us in [i64::MIN, 0, i64::MAX] {
        // Each plan has terms at every time: this panics if not.
        let _ = catalog.plan_terms(at_us);
    }
    for price in catalog.prices() {
        for count in [0, 1, 200_001, tallyd_protocol::limits::TOKENS, u64::MAX] {
            let tokens =
                Tokens { input: count, output: count, cache_read: count, cache_write_5m: count, cache_write_1h: count };
            // Too large an amount is unpriced: it neither panics nor wraps around.
            let _ = catalog.price(&Usage {
                provider: &price.provider,
                platform: "",
                model: &price.model,
                endpoint: "",
                service_tier: &price.service_tier,
                occurred_at_us: price.effective_from_us,
                tokens,
                requests: count,
                extra_units: &[],
            });
        }
    }
}
