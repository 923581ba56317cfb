//! The corpus before any fuzzing: one good example of each element of a target's language.

use serde_json::Value;
use tallyd_protocol::{Record, ServerMessage, frame, message, record};

use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::pricing::{Tokens, Usd};
use tallyd_wal::chunk::{ChunkBuilder, Refused};
use tallyd_wal::identity::Proof;
use tallyd_wal::value::{self, Stamp};

/// A target's first inputs. `vectors` gives the parsed files of `clients/vectors` by name.
#[must_use]
pub fn of(target: &str, vectors: &dyn Fn(&str) -> Vec<Value>) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(vectors),
        "line" => vectors("ndjson.json").iter().filter_map(|vector| text(&vector["line"])).collect(),
        "value" => values(),
        "reply" => replies(vectors),
        "prices" => prices(),
        "bill" => bills(),
        "otlp" => super::otlp::seeds(),
        "records" => super::records::seeds(),
        "letters" => super::letters::seeds(),
        "token" => super::token::seeds(),
        "config" => vec![
            include_bytes!("../../../config.toml").to_vec(),
            uncommented(include_str!("../../../config.toml")).into_bytes(),
            b"\0TALLYD_WAL_MAX_BYTES=1000000000\nDATABASE_URL=postgres://u:p@h/d?sslmode=require\nPORT=8080\n".to_vec(),
            b"[listen]\ntcp = \"127.0.0.1:7421\"\ntcp_tokens = [\"0123456789abcdef\"]\n[wal]\nsync = \"os\"\n".to_vec(),
        ],
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| text.as_bytes().to_vec())
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    hex::decode(value.as_str()?).ok()
}

/// Whole frames, and each record of the vectors as the only one of a frame.
fn frames(vectors: &dyn Fn(&str) -> Vec<Value>) -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = vectors("frames.json").iter().filter_map(|vector| hex(&vector["hex"])).collect();
    seeds.extend(vectors("malformed.json").iter().filter_map(|vector| hex(&vector["hex"])));
    let lists =
        [("records.json", "array_hex"), ("records.json", "map_hex"), ("accepted.json", "hex"), ("refused.json", "hex")];
    for (file, field) in lists {
        for record in vectors(file).iter().filter_map(|vector| hex(&vector[field])) {
            let mut seed = Vec::new();
            frame::write(&mut seed, |body| {
                message::write_records_head(body, 1, 1);
                body.extend_from_slice(&record);
            });
            seeds.push(seed);
        }
    }
    let mut mixed = Vec::new();
    frame::write(&mut mixed, |body| {
        message::write_records_head(body, 7, 3);
        record::write(body, &Record::rentcast("/avm/value?address=1"));
        body.push(7);
        record::write(body, &Record::claude("claude-sonnet-4-5", 10, 20).user("u"));
    });
    seeds.push(mixed);
    // Beyond a few kilobytes an input teaches a fuzzer nothing more.
    seeds.retain(|seed| seed.len() <= 2_048);
    seeds
}

fn replies(vectors: &dyn Fn(&str) -> Vec<Value>) -> Vec<Vec<u8>> {
    let frames = vectors("frames.json");
    let daemons = frames.iter().filter(|vector| vector["sender"] != "client");
    let mut seeds: Vec<_> =
        daemons.filter_map(|vector| Some(hex(&vector["hex"])?.split_off(frame::PREFIX_BYTES))).collect();
    let mut error = Vec::new();
    let message = tallyd_protocol::ErrorFrame { code: "fenced".into(), message: "taken over".into() };
    ServerMessage::Error(message).write_frame(&mut error);
    seeds.push(error.split_off(frame::PREFIX_BYTES));
    seeds
}

/// A value of each kind of entry, a payload without a value, a chunk's second part.
fn values() -> Vec<Vec<u8>> {
    let call = Call {
        id: [7; 16],
        occurred_at_us: 1_795_000_000_000_001,
        provider: "claude",
        model: "claude-sonnet-4-5",
        endpoint: "/v1/messages",
        user_id: "u-1",
        app: "api",
        request_id: "req_1",
        tokens: Tokens { input: 1, output: 2, cache_read: 3, cache_write_5m: 4, cache_write_1h: 5 },
        requests: 2,
        extra_units: r#"{"image":"1.5"}"#,
        service_tier: "batch",
        status: 529,
        latency_ms: Some(17),
        cost: Cost::Catalog { usd: Usd::from_attos(1_782_000_000_000_001), price_id: 12 },
        metadata: r#"{"k":"v"}"#,
        platform: "bedrock",
        tags: r#"{"team":"search"}"#,
        stated: Stated { id: true, response: true },
    };
    let plain = Call {
        id: call.id,
        occurred_at_us: call.occurred_at_us,
        provider: "rentcast",
        endpoint: call.endpoint,
        user_id: call.user_id,
        app: call.app,
        tokens: call.tokens,
        cost: Cost::Client(Usd::from_attos(-200_000_000_000_000_000)),
        ..Call::default()
    };
    let unpriced = Call { cost: Cost::Unpriced, tokens: Tokens::default(), ..plain };
    let refused = Refused {
        code: "nul",
        field: "model",
        message: "no",
        payload_format: "json",
        payload: b"{}",
        ..Default::default()
    };
    let mut builder = ChunkBuilder::new();
    for (seq, call) in (1..).zip([&call, &plain, &unpriced, &call]) {
        assert!(builder.push_call(seq, call).is_none(), "a few calls fit a chunk");
    }
    assert!(builder.push_refused(5, &refused).is_none(), "a small refusal fits, too");
    let chunk = builder.finish().expect("entries were pushed");
    let (producer, lane, more) = ("api-1", 1, false);
    let proof = Proof([7; 16]);
    let stamp = Stamp { synced: 8, written_us: 1_795_000_000_000_002, producer, proof, lane, more };
    let mut seeds = Vec::new();
    for (part, parts) in [(0, 1), (0, 2), (1, 2)] {
        let mut value = Vec::new();
        value::encode(&mut value, 9, stamp, &chunk, part, parts);
        seeds.push([&9u64.to_be_bytes()[..], &value].concat());
    }
    seeds.push([&9u64.to_be_bytes()[..], &chunk.payload].concat());
    seeds
}

/// The built-in catalog is too large to be mutated with any luck: a short one, and its first entries.
fn prices() -> Vec<Vec<u8>> {
    let builtin = include_str!("../../../crates/model/src/pricing/catalog.toml");
    let plans = builtin.find("[[plan]]").map_or("", |at| &builtin[at..]);
    let short = "[[model]]\nprovider = \"claude\"\nname = \"m\"\naliases = [\"n\"]\nsource = \"s\"\nsource_date = \"2026-10-24\"\n\
        [[model.price]]\nid = 9999\nper_million = { input = \"3\", output = \"15\" }\nper_unit = { web_search = \"0.01\" }\n\
        [[model.price.above]]\nprompt_tokens = 200_000\nper_million = { input = \"6\", output = \"22.5\" }\n\
        [[model.price]]\nid = 9998\nservice_tier = \"batch\"\neffective_from = \"2026-10-07\"\nper_million = { input = \"1.5\" }\n";
    vec![short.into(), format!("{short}{plans}").into_bytes(), plans.into()]
}

/// The sample file with every key switched on.
fn uncommented(sample: &str) -> String {
    let lines = sample.lines().map(|line| match line.strip_prefix("# ").or_else(|| line.strip_prefix('#')) {
        Some(key)
            if key.split_once(" = ").is_some_and(|(name, _)| {
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            }) =>
        {
            key
        }
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// An export of each form.
fn bills() -> Vec<Vec<u8>> {
    [
        r#"{"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"amount": "123.45", "currency": "USD",
            "model": "claude-sonnet-4-5-20250929", "cost_type": "tokens"}, {"amount": "10", "model": null}]}]}"#,
        r#"[{"data": [{"starting_at": "2026-11-01T22:00:00+01:00", "results": [{"uncached_input_tokens": 1500,
            "output_tokens": 500, "cache_read_input_tokens": 200, "model": "claude-opus-4-5",
            "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500}}]}]}]"#,
        r#"{"object": "page", "data": [{"start_time": 1793491200, "results": [{"object": "organization.costs.result",
            "amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-4o-mini, input"}]}]}"#,
        r#"{"data": [{"start_time": 1793491200, "results": [{"object": "organization.usage.completions.result",
            "input_tokens": 1000, "input_cached_tokens": 800, "output_tokens": 50, "model": "gpt-4o-mini"}]}]}"#,
        "usage_date_utc,model,cost_usd\n2026-11-01,claude-haiku-4-5,1.5\n",
        "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_output_tokens\n2026-11-01 13:00,m,7,8\n",
        "start_time\tamount_value\tline_item\n1793491200\t0.8958740000000000\t\n1793577600\t\t\n",
        "start_time,model,input_tokens,output_tokens,input_cached_tokens\n1793491200,gpt-4o,10,5,3\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
