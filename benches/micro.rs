//! The steps of the data plane for each record, on one core. A frame of 2,000 calls is decoded, admitted and priced,
//! and encoded into chunks. Chunks are read back, written as COPY rows, and folded into rollups. Times are of a frame,
//! or of its chunks; the throughput is in records. Beside them a client's check of a call.
//!
//! `cargo bench --bench micro -- [FILTER]`

#[path = "support/records.rs"]
mod records;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_intake::frame::{self, ClientFrame, Records};
use tallyd_intake::{Absent, Admission, Encoded, Rules};
use tallyd_model::call::Call;
use tallyd_model::pricing::{Catalog, PricingOptions};
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::dimensions::Dimensions;
use tallyd_model::rollup::fold::Fold;
use tallyd_model::rollup::guard::{KeyBounds, KeyGuard};
use tallyd_protocol::budgets::Scope;
use tallyd_protocol::check::Defaults;
use tallyd_protocol::{CallScope, Checker, limits};
use tallyd_store::load::copy_row::Layout;
use tallyd_wal::chunk::{Chunk, ChunkBuilder, Columns, Entry, PayloadReader};

use records::Calls;

const RECORDS: usize = 2_000;
/// Frames of one batch, for the fold, whose cost depends on the number of known keys.
const BATCH_FRAMES: usize = 50;
/// Bytes of a frame's length prefix.
const PREFIX: usize = 4;

fn frame_of(calls: &mut Calls) -> Vec<u8> {
    let records: Vec<_> = calls.take(RECORDS).collect();
    let mut bytes = Vec::new();
    tallyd_protocol::message::write_records_frame(&mut bytes, 1, &records);
    bytes.split_off(PREFIX)
}

fn read(body: &[u8]) -> Records<'_> {
    match frame::read(body, limits::FRAME_RECORDS).expect("a frame") {
        ClientFrame::Records(records) => records,
        ClientFrame::Hello(_) | ClientFrame::Watch => panic!("a frame of records was written"),
    }
}

fn encode(body: &[u8], admission: &Admission<'_>) -> Vec<Chunk> {
    let (mut builder, mut chunks, mut seq) = (ChunkBuilder::new(), Vec::new(), 0);
    for bytes in read(body).encoded() {
        seq += 1;
        let full =
            admission.admit(Encoded::MessagePack(bytes), |call| builder.push_call(seq, call.expect("a good record")));
        chunks.extend(full);
    }
    chunks.extend(builder.finish());
    chunks
}

fn calls_of(chunk: &Chunk) -> Vec<Call<'_>> {
    let entries = PayloadReader::new(&chunk.payload).map(|entry| entry.expect("a good payload"));
    let call = |entry| match entry {
        Entry::Call(call) => call,
        Entry::Refused(_) => panic!("nothing was refused"),
    };
    entries.map(call).collect()
}

fn steps(criterion: &mut Criterion) {
    let catalog = Catalog::builtin(&PricingOptions::default()).expect("the built-in prices");
    let rules = Rules::default();
    let admission = Admission { rules: &rules, catalog: &catalog, now_us: SystemClock.now_us() };
    let body = frame_of(&mut Calls::new(10_000, 0));
    let chunks = encode(&body, &admission);
    let columns = chunks.iter().fold(Columns::NONE, |all, chunk| all | chunk.columns);
    let layout = Layout::new("api_usage_log", columns);

    let mut group = criterion.benchmark_group("2,000 calls");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("find", |bencher| {
        bencher.iter(|| black_box(read(&body).count()));
    });
    group.bench_function("decode, admit, price", |bencher| {
        bencher.iter(|| {
            for bytes in read(&body).encoded() {
                black_box(admission.admit(Encoded::MessagePack(bytes), |call| call.expect("a good record").cost));
            }
        });
    });
    group.bench_function("decode, admit, price the long way", |bencher| {
        bencher.iter(|| {
            for bytes in read(&body).encoded() {
                let record = Encoded::MessagePack(bytes);
                black_box(admission.admit_with(record, Absent::default(), |call| call.expect("a good record").cost));
            }
        });
    });
    group.bench_function("decode, admit, price, encode", |bencher| {
        bencher.iter(|| black_box(encode(&body, &admission)));
    });
    group.bench_function("read chunks", |bencher| {
        bencher.iter(|| chunks.iter().map(|chunk| black_box(calls_of(chunk)).len()).sum::<usize>());
    });
    group.bench_function("read chunks, write COPY rows", |bencher| {
        let mut rows = Vec::new();
        bencher.iter(|| {
            rows.clear();
            for chunk in &chunks {
                calls_of(chunk).iter().for_each(|call| layout.write(&mut rows, call, 0));
            }
            black_box(rows.len())
        });
    });
    group.finish();
    fold(criterion, &admission);
    check(criterion);
}

/// A call's check with 1,000 scopes used up, half of them of a team and a model.
fn check(criterion: &mut Criterion) {
    let scope = |names: &[(&str, String)]| {
        names.iter().map(|(dimension, name)| ((*dimension).to_owned(), vec![name.clone()])).collect::<Scope>()
    };
    let users = (0..500).map(|n| scope(&[("user", format!("user-{n}"))]));
    let pairs = (0..500).map(|n| scope(&[("tag:team", "search".to_owned()), ("model", format!("model-{n}"))]));
    let checker = Checker::new(false, users.chain(pairs), []);
    let mut group = criterion.benchmark_group("check");
    for (name, team) in [("allowed", "ads"), ("refused", "search")] {
        let tags = [("customer", "c-1"), ("team", team)];
        let call = CallScope {
            provider: "claude",
            model: "model-7-20260101",
            user_id: "u",
            tags: &tags,
            ..CallScope::default()
        };
        assert_eq!(checker.check(&call, &Defaults::default()).is_allowed(), name == "allowed");
        group.bench_function(name, |bencher| bencher.iter(|| checker.check(black_box(&call), &Defaults::default())));
    }
    group.finish();
}

fn fold(criterion: &mut Criterion, admission: &Admission<'_>) {
    let mut group = criterion.benchmark_group("fold 100,000 calls");
    group.throughput(Throughput::Elements((RECORDS * BATCH_FRAMES) as u64));
    for users in [500, 10_000] {
        let mut made = Calls::new(users, 0);
        let chunks: Vec<Chunk> = (0..BATCH_FRAMES).flat_map(|_| encode(&frame_of(&mut made), admission)).collect();
        let calls: Vec<Vec<Call<'_>>> = chunks.iter().map(calls_of).collect();
        group.bench_with_input(BenchmarkId::new("users", users), &calls, |bencher, calls| {
            let guard = KeyGuard::new(KeyBounds { models: 1_000, endpoints: 2_000, apps: 200, values: 200 });
            let (mut others, dimensions) = (Vec::new(), Dimensions::default());
            bencher.iter(|| {
                let mut fold = Fold::new(&guard, Days::new(tallyd_model::zone::Tz::UTC), &dimensions);
                calls.iter().for_each(|chunk| fold.add_all(chunk, &mut others));
                black_box(others.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
