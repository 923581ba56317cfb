//! Both forms, read exactly, and reports of unread fields.

use serde_json::Value;

use super::*;
use crate::pricing::{Catalog, PricingOptions};

/// 2026-11-01T00:00:00Z.
const FROM_US: i64 = 1_793_491_200_000_000;

fn options() -> ImportOptions {
    ImportOptions {
        providers: ["claude", "openai", "google"].map(str::to_owned).into(),
        from_us: FROM_US,
        source: "a list".into(),
        source_date: "2026-11-23".into(),
    }
}

fn json(spec: &PriceSpec) -> Value {
    spec.clone().with_id(0, PriceOrigin::Stored).rates_json()
}

const LITELLM: &str = r#"{
    "sample_spec": {"litellm_provider": "one of the documented", "mode": "chat"},
    "claude-example-1": {
        "litellm_provider": "anthropic", "mode": "chat", "max_tokens": 1, "supports_vision": true,
        "input_cost_per_token": 1.25e-07, "output_cost_per_token": 0.0000005,
        "cache_creation_input_token_cost": 1.5625e-07, "cache_creation_input_token_cost_above_1hr": 2.5e-07,
        "input_cost_per_token_above_200k_tokens": 2.5e-07,
        "input_cost_per_token_batches": 6.25e-08,
        "input_cost_per_gb": 0.1, "provider_specific_entry": {"us": 1.1, "fast": 2, "mars": 3},
        "output_cost_per_image": 0.5,
        "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_high": 0.010}
    },
    "gemini/gemini-example": {"litellm_provider": "gemini", "input_cost_per_token": 1e-07},
    "gemini-example-2": {"litellm_provider": "gemini", "input_cost_per_token": 0.1234567890123456789e-3},
    "openai/eu/gpt-example": {"litellm_provider": "openai", "input_cost_per_token": 1e-07},
    "bedrock/x": {"litellm_provider": "bedrock", "input_cost_per_token": 1e-07},
    "free-example": {"litellm_provider": "openai", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
    "Image-Example": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 5e-06,
        "output_cost_per_token": 1e-05, "output_cost_per_image_token": 3.2e-05},
    "listed-twice": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
    "night-example": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "off_peak_pricing": {"windows": []}},
    "openai/listed-twice": {"litellm_provider": "openai", "input_cost_per_token": 2e-06}
}"#;

#[test]
fn litellms_map_is_read_to_the_digit_and_what_is_not_read_is_named() {
    let (format, imported) = read(LITELLM, &options()).unwrap();
    assert_eq!(format, ListFormat::Litellm);
    let of = |model: &str, tier: &str| {
        json(imported.specs.iter().find(|spec| spec.model == model && spec.service_tier == tier).unwrap())
    };
    assert_eq!(
        of("claude-example-1", "standard"),
        serde_json::json!({
            "per_million_tokens": {"input": "0.125", "output": "0.5", "cache_write_5m": "0.15625", "cache_write_1h": "0.25"},
            "per_unit": {"image": "0.5", "web_search": "0.01"},
            "above": [{
                "prompt_tokens": 200_000,
                "per_million_tokens": {"input": "0.25", "output": "0.5", "cache_write_5m": "0.15625", "cache_write_1h": "0.25"},
                "per_unit": {"image": "0.5", "web_search": "0.01"},
            }],
        })
    );
    assert_eq!(of("claude-example-1", "batch")["per_million_tokens"], serde_json::json!({"input": "0.0625"}));
    assert_eq!(of("gemini-example", "standard")["per_million_tokens"]["input"], "0.1");
    assert_eq!(of("claude-example-1", "us")["per_million_tokens"]["input"], "0.1375");
    assert_eq!(of("claude-example-1", "batch+us")["per_million_tokens"]["input"], "0.06875");
    assert_eq!(of("claude-example-1", "fast")["per_million_tokens"]["output"], "1");
    assert_eq!(of("claude-example-1", "fast+us")["above"][0]["per_million_tokens"]["input"], "0.55");
    assert_eq!(
        of("claude-example-1", "batch")["above"],
        serde_json::json!([{"prompt_tokens": 200_000}]),
        "unknown there"
    );
    assert_eq!(of("eu/gpt-example", "standard")["per_million_tokens"]["input"], "0.1");
    assert_eq!(
        of("image-example", "standard"),
        serde_json::json!({"per_million_tokens": {"input": "5"}, "per_unit": {"image_output_token": "0.000032"}}),
        "an image is never charged at text's rate"
    );
    assert_eq!(of("listed-twice", "standard")["per_million_tokens"]["input"], "2", "the one that names the provider");
    assert_eq!(
        imported.unread.keys().collect::<Vec<_>>(),
        ["input_cost_per_gb", "input_cost_per_token", "provider_specific_entry.mars"]
    );
    let skipped: Vec<&str> = imported.skipped.iter().map(|(model, _)| model.as_str()).collect();
    assert_eq!(skipped, ["free-example", "gemini-example-2", "night-example"], "{:?}", imported.skipped);
    assert_eq!((imported.priced, imported.taken), (8, 6));
}

const GENAI: &str = r#"[{"id": "anthropic", "models": [
    {"id": "claude-example-1", "name": "x", "match": {"equals": "x"}, "prices": [
        {"prices": {"input_mtok": 3, "output_mtok": 15}},
        {"constraint": {"start_date": "2026-10-01"}, "prices": {"input_mtok": {"base": 2.5, "tiers": [{"start": 100000, "price": 5}]}, "output_mtok": 12.5}},
        {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 1, "output_mtok": 5, "input_audio_mtok": 9}},
        {"constraint": {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}, "prices": {"input_mtok": 7}}
    ], "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 1.25}}, {"when": {"region": "us"}, "prices": {}}]},
    {"id": "claude-requests", "prices": {"requests_kcount": 5, "web_searches_kcount": 10}}
]}, {"id": "elsewhere", "models": [{"id": "m", "prices": {"input_mtok": 1}}]}]"#;

#[test]
fn genai_prices_list_is_read_with_its_dates_and_variants() {
    let (format, imported) = read(GENAI, &options()).unwrap();
    assert_eq!(format, ListFormat::Genai);
    let input = |spec: &PriceSpec| json(spec)["per_million_tokens"]["input"].clone();
    let shown: Vec<_> =
        imported.specs.iter().map(|s| (s.service_tier.as_str(), s.effective_from_us, input(s))).collect();
    // 2026-12-01T00:00:00Z.
    let later = 1_796_083_200_000_000;
    let none = Value::Null;
    assert_eq!(
        shown,
        [
            ("standard", FROM_US, "2.5".into()),
            ("standard", later, "1".into()),
            ("batch", FROM_US, "1.25".into()),
            ("standard", FROM_US, none),
        ]
    );
    assert_eq!(
        json(&imported.specs[0])["above"][0]["per_million_tokens"],
        serde_json::json!({"input": "5", "output": "12.5"})
    );
    assert_eq!(json(&imported.specs[3]), serde_json::json!({"per_unit": {"request": "0.005", "web_search": "0.01"}}));
    let unread: Vec<&str> = imported.unread.keys().map(String::as_str).collect();
    assert_eq!(unread, ["constraint.end_time", "price_variants.when"]);
    assert!(imported.skipped.is_empty(), "{:?}", imported.skipped);
}

#[test]
fn a_diff_has_what_would_change_and_keeps_what_the_list_is_silent_about() {
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let list = r#"{
        "claude-opus-4-5": {"litellm_provider": "anthropic", "input_cost_per_token": 5e-06, "output_cost_per_token": 2.5e-05},
        "claude-opus-4-5-20251101": {"litellm_provider": "anthropic", "input_cost_per_token": 5e-06},
        "claude-haiku-4-5": {"litellm_provider": "anthropic", "input_cost_per_token": 2e-06},
        "claude-new-1": {"litellm_provider": "anthropic", "input_cost_per_token": 2e-06}
    }"#;
    let (_, imported) = read(list, &options()).unwrap();
    let changes = diff(&catalog, &imported.specs);
    let shown: Vec<_> = changes.iter().map(|c| (c.kind, c.model.as_str())).collect();
    assert_eq!(shown, [(ChangeKind::Changed, "claude-haiku-4-5"), (ChangeKind::Added, "claude-new-1")]);
    assert_eq!(changes[0].new["per_million_tokens"]["output"], "5");
    assert_eq!(changes[0].new["per_unit"]["web_search"], "0.01");
}

#[test]
fn what_is_no_list_is_refused() {
    assert!(matches!(read("{", &options()), Err(ImportError::Json(_))));
    assert!(matches!(read("3", &options()), Err(ImportError::Form)));
    let (_, nothing) = read("{\"a\": 3, \"b\": {}}", &options()).unwrap();
    assert!(nothing.specs.is_empty());
}
