//! Row 32: a WAL of each older format, kept in the repository, loads whole.
//!
//! `tests/golden/wal-v*/` hold the files of a killed daemon. `wal.tar.gz` has a sealed segment, an active one, the mark
//! and the WAL's identity; `expected.json` has the records that were sent and acknowledged. Each folder has several
//! producers and a nameless one, every field of a record, a chunk in several values, refused records in both encodings,
//! and costs from the catalog, from the client and unknown.
//!
//! A version that changes a format on disk keeps the older folders and adds one: `make golden`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tallyd_client::Record;
use tallyd_model::pricing::Usd;
use tallyd_wal::value::FORMAT;

use crate::oracle::Verdict;
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

/// 2026-03-01, earlier than the start of any daemon that reads it.
const START_US: i64 = 1_772_323_200_000_000;

/// Each kept WAL loads: as it was written, with a torn mark, and with small files whose writing was cut short.
pub fn an_older_versions_log(run: &mut Run) {
    if std::env::var_os("TALLYD_WRITE_GOLDEN").is_some() {
        write();
    }
    let kept: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(kept.iter().any(|version| version.ends_with(format!("wal-v{FORMAT}"))), "run `make golden`");
    for round in run.rounds() {
        for version in &kept {
            let mut rig = Rig::stopped(run, |daemon| daemon);
            fs::create_dir_all(rig.daemon.data()).unwrap();
            tar(&["-xzf", &path(&version.join("wal.tar.gz")), "--no-same-owner", "-C", &path(&rig.daemon.data())]);
            disturb(&rig.daemon.data().join("wal"), round);
            let expected = serde_json::from_slice(&fs::read(version.join("expected.json")).unwrap()).unwrap();
            let records = judge(&mut rig, &expected);
            run.count(&Verdict { acked: records, ..Verdict::default() });
        }
        run.step();
    }
    run.figure("formats", kept.len());
}

/// Adds the other files that a crash may leave in the WAL's folder.
fn disturb(wal: &Path, round: u32) {
    match round % 3 {
        1 => fs::write(wal.join("synced"), b"torn").unwrap(),
        2 => {
            for name in ["buffer.new", "committed.new", "00000000000000000001.new"] {
                fs::write(wal.join(name), "0badc0de {\"buf").unwrap();
            }
        }
        _ => {}
    }
}

/// Loads the WAL and compares. Returns how many records it had.
fn judge(rig: &mut Rig, expected: &Value) -> u64 {
    rig.daemon.up();
    rig.drain();
    let status = rig.daemon.until_status("it answers", |_| true);
    assert_eq!(status["wal"]["damaged"], false, "{status:#}");
    assert_same("calls", &calls(&rig.postgres), &expected["calls"]);
    assert_same("dead letters", &letters(&rig.postgres), &expected["dead_letters"]);
    for (producer, last_seq) in expected["producers"].as_object().unwrap() {
        assert_eq!(Some(rig.daemon.session(producer).last_seq()), last_seq.as_u64(), "{producer}");
    }
    // The acknowledged records are duplicates when they are sent again.
    let mut session = rig.daemon.session("golden-a");
    session.send(1, &producer_a()).unwrap();
    assert_eq!(session.recv_ack().unwrap().seq, producer_a().len() as u64);
    rig.fresh_record();
    rig.drain();
    let calls = expected["calls"].as_array().unwrap().len();
    assert_eq!(rig.postgres.psql("SELECT count(*) FROM api_usage_log"), (calls + 1).to_string());
    rig.daemon.assert_reconciled();
    (calls + expected["dead_letters"].as_array().unwrap().len()) as u64
}

#[track_caller]
fn assert_same(what: &str, found: &[Value], expected: &Value) {
    let expected = expected.as_array().unwrap();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn rows(postgres: &Postgres, columns: &str, rest: &str) -> Vec<Value> {
    let sql = format!("SELECT jsonb_build_object({columns}) FROM {rest}");
    postgres.psql(&sql).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn calls(postgres: &Postgres) -> Vec<Value> {
    let mut columns = vec![
        "'occurred_at', (extract(epoch FROM occurred_at) * 1000000)::int8".to_owned(),
        "'cost_usd', cost_usd::text".to_owned(),
        "'is_priced_by_catalog', price_id IS NOT NULL".to_owned(),
    ];
    let plain = "id provider model endpoint user_id app request_id input_tokens output_tokens cache_read_tokens \
        cache_write_5m_tokens cache_write_1h_tokens requests extra_units service_tier status latency_ms cost_source metadata";
    columns.extend(plain.split_whitespace().map(|column| format!("'{column}', {column}")));
    rows(postgres, &columns.join(", "), "api_usage_log ORDER BY id")
}

fn letters(postgres: &Postgres) -> Vec<Value> {
    let columns = "'kind', kind, 'code', code, 'field', field, 'producer', producer, 'payload_format', payload_format, \
        'payload', encode(payload, 'hex')";
    rows(postgres, columns, "dead_letters ORDER BY payload")
}

/// The row that a record must become. `cost_usd` is the cost in the acknowledgement.
fn row(record: &Record, cost_usd: Option<&str>) -> Value {
    let source = match (&record.cost_usd, cost_usd) {
        (Some(_), _) => "client",
        (None, Some(_)) => "catalog",
        (None, None) => "unpriced",
    };
    let units: serde_json::Map<_, _> =
        record.extra_units.iter().map(|(unit, count)| (unit.to_string(), json!(count))).collect();
    json!({
        "id": uuid::Uuid::from_bytes(record.id.unwrap()),
        "occurred_at": record.occurred_at,
        "provider": record.provider,
        "model": record.model,
        "endpoint": record.endpoint.split('?').next(),
        "user_id": record.user_id,
        "app": record.app,
        "request_id": record.request_id,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "cache_read_tokens": record.cache_read_tokens,
        "cache_write_5m_tokens": record.cache_write_5m_tokens,
        "cache_write_1h_tokens": record.cache_write_1h_tokens,
        "requests": record.requests,
        "extra_units": if units.is_empty() { Value::Null } else { units.into() },
        "service_tier": record.service_tier,
        "status": record.status,
        "latency_ms": record.latency_ms,
        "cost_usd": cost_usd.map(|usd| Usd::parse(usd).unwrap().to_string()),
        "cost_source": source,
        "is_priced_by_catalog": source == "catalog",
        "metadata": record.metadata.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap()),
    })
}

fn numbered(number: u8, record: Record) -> Record {
    let occurred_at = START_US + i64::from(number) * 7_654_321_987;
    Record { id: Some([number; 16]), occurred_at: Some(occurred_at), ..record }
}

/// Every field once: set, at its default, and at an edge.
fn producer_a() -> Vec<Record> {
    let full = Record {
        endpoint: "/v1/messages".into(),
        user_id: "0192f0c1-7a10-7000-8000-000000000001".into(),
        app: "front-end".into(),
        request_id: "req_011CSHoEeqs5C35K2UUqR7Fy".into(),
        cache_read_tokens: 3,
        cache_write_5m_tokens: 4,
        cache_write_1h_tokens: 5,
        requests: 2,
        extra_units: vec![("web_search".into(), "3".into())],
        status: 529,
        latency_ms: Some(1_234),
        metadata: Some(r#"{"k": "v", "n": [1.10, null, "ü"]}"#.into()),
        ..Record::claude("claude-sonnet-4-5-20250929", 374, 44)
    };
    let large = Record {
        input_tokens: 1_000_000_000_000,
        output_tokens: 1_000_000_000_000,
        user_id: "u".repeat(512).into(),
        ..full.clone()
    };
    let stated = Record { cost_usd: Some("-0.123456789012345678".into()), ..Record::rentcast("/avm/value?address=1") };
    let nano = Record { cost_usd: Some("1000000000".into()), ..stated.clone() };
    let other = Record {
        provider: "Elsewhere".into(),
        extra_units: vec![("audio_second".into(), "1.5".into()), ("image".into(), "2".into())],
        service_tier: "priority".into(),
        ..Record::claude("of-tomorrow", 1, 1)
    };
    // Each is a chunk of several values; together they exceed a segment.
    let filler = |n: u64| Record {
        metadata: Some(format!(r#"{{"filler": "{}"}}"#, "tallyd ".repeat(1_200)).into()),
        ..Record::claude("claude-haiku-4-5", n, n)
    };
    let first = [full, large, stated, nano, other, Record::rentcast("/avm/value")];
    (1..).zip(first.into_iter().chain((1..=9).map(filler))).map(|(number, record)| numbered(number, record)).collect()
}

fn producer_b() -> Vec<Record> {
    let refused = Record { model: "a\0b".into(), ..Record::claude("", 1, 1) };
    let early = Record { occurred_at: Some(0), ..Record::rentcast("/early") };
    let calls = (101..).zip([Record::claude("claude-opus-4-1", 10, 20), Record::rentcast("/markets").user("bob")]);
    let mut records: Vec<_> = calls.map(|(number, record)| numbered(number, record)).collect();
    records.insert(1, refused);
    records.push(early);
    records
}

const LINES: [&str; 3] = [
    r#"{"provider":"rentcast","endpoint":"/line","id":"f0000000-0000-7000-8000-000000000001","occurred_at":"2026-03-05T01:02:03.456789Z"}"#,
    r#"{"provider":"rentcast","input_tokens":-1}"#,
    r#"not a record at all"#,
];

/// Sends, waits for the acknowledgements, kills the daemon, and keeps the files.
fn write() {
    let folder = folder().join(format!("wal-v{FORMAT}"));
    let postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_WAL_SEGMENT_BYTES", "65536").start();
    let (mut calls, mut letters, mut producers) = (Vec::new(), Vec::new(), serde_json::Map::new());
    let mut send = |daemon: &Daemon, producer: &str, records: &[Record]| {
        let mut session = daemon.session(producer);
        session.send(1, records).unwrap();
        let ack = session.recv_ack().unwrap();
        let costs = ack.costs.unwrap();
        for ((seq, record), cost) in (1..).zip(records).zip(costs) {
            match ack.rejected.iter().find(|rejection| rejection.seq == seq) {
                None => {
                    // The daemon stores the provider in lower case.
                    let stored = Record { provider: record.provider.to_lowercase().into(), ..record.clone() };
                    calls.push(row(&stored, cost.as_deref()));
                }
                Some(rejection) => {
                    let mut bytes = Vec::new();
                    tallyd_protocol::record::write(&mut bytes, record);
                    let field = rejection.field.as_deref().unwrap_or_default();
                    letters.push(letter(&rejection.code, field, producer, "msgpack", &bytes));
                }
            }
        }
        producers.insert(producer.into(), records.len().into());
    };
    send(&daemon, "golden-a", &producer_a());
    until("a segment is sealed and another begun", || {
        let sealed = |ending: &str| {
            let entries = fs::read_dir(daemon.data().join("wal")).unwrap();
            entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == ending)).count()
        };
        if (sealed("sealed"), sealed("open")) == (1, 2) { Ok(()) } else { Err("not yet".into()) }
    });
    send(&daemon, "golden-b", &producer_b());
    let answers = daemon.lines(&format!("{}\n", LINES.join("\n")));
    let line = Record {
        id: Some(uuid::Uuid::parse_str(answers[0]["id"].as_str().unwrap()).unwrap().into_bytes()),
        occurred_at: Some(1_772_672_523_456_789),
        ..Record::rentcast("/line")
    };
    calls.push(row(&line, answers[0]["cost_usd"].as_str()));
    for (answer, line) in answers.iter().zip(LINES).skip(1) {
        let error = &answer["error"];
        let field = error["field"].as_str().unwrap_or_default();
        letters.push(letter(error["code"].as_str().unwrap(), field, "", "json", line.as_bytes()));
    }
    calls.sort_by_key(|call| call["id"].to_string());
    letters.sort_by_key(|letter| letter["payload"].to_string());
    daemon.kill();
    fs::create_dir_all(&folder).unwrap();
    let archive = path(&folder.join("wal.tar.gz"));
    let same = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "--sparse"];
    tar(&[&same[..], &["-C", &path(&daemon.data()), "-czf", &archive, "wal"]].concat());
    let expected = json!({ "calls": calls, "dead_letters": letters, "producers": producers });
    fs::write(folder.join("expected.json"), format!("{}\n", serde_json::to_string_pretty(&expected).unwrap())).unwrap();
}

fn letter(code: &str, field: &str, producer: &str, format: &str, payload: &[u8]) -> Value {
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let kind = "refused";
    json!({ "kind": kind, "code": code, "field": field, "producer": producer, "payload_format": format, "payload": hex })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn tar(arguments: &[&str]) {
    let status = Command::new("tar").args(arguments).status().expect("tar is installed");
    assert!(status.success(), "tar {arguments:?}: {status}");
}
