//! A chunk: accepted records of one producer that stay together, from the connection to PostgreSQL.
//!
//! The connection encodes a record once, in the form that the WAL stores and the flusher reads; nothing in between
//! reads the content. The form is compact rather than PostgreSQL's: bytes limit the WAL's throughput, and turning a
//! record into a COPY row takes only a tenth of a microsecond.
//!
//! ## Layout
//! A payload is a sequence of entries, each with a tag byte: [`TAG_CALL`], [`TAG_REFUSED`] or [`TAG_REFUSED_BY`].
//! Integers are LEB128 varints, signed ones zigzag. Times are differences from the previous entry. A call is in
//! `call.rs`, the rest in `write.rs` and `read.rs`.
//!
//! Repeated names (provider, model, endpoint, user, app, tier, platform, tags) are written once per chunk and referred to
//! afterwards. The varint `0` is the empty name. An odd one, `2n+1`, begins a literal of `n` bytes that joins the
//! chunk's table. An even one, `2(i+1)`, is the table's entry `i`.
//!
//! ## Bounds
//! Under load a connection fills a chunk for each lane at the same time (`bundle.rs`).
//!
//! A chunk is closed before it exceeds [`PAYLOAD_TARGET_BYTES`], so that it fits one value of the WAL. A single larger
//! record makes a chunk of its own, which the WAL stores in several parts.
//!
//! ## Versions
//! The WAL's value header carries the format number. A new field gets a new flag bit; a changed meaning a new number.

mod bundle;
mod call;
mod claims;
mod columns;
mod read;
mod varint;
mod write;

pub use bundle::{Bundle, BundleBuilder};
pub use claims::{Claim, IdentityClaims, Ticket, Verdict};
pub use columns::Columns;
pub use read::{Entry, PayloadError, PayloadReader};
pub use write::{Chunk, ChunkBuilder};

/// Intended bound of a chunk's payload in bytes: one value of the WAL (7 KB) minus its header.
pub const PAYLOAD_TARGET_BYTES: usize = 6_900;

const TAG_CALL: u8 = 1;
const TAG_REFUSED: u8 = 2;
/// A refused record whose sender is not the chunk's producer, or a number of refused records that are only counted.
const TAG_REFUSED_BY: u8 = 3;

/// A refused record: its reason, and its content as far as the dead letters keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused<'a> {
    /// The sender, if it is not the chunk's producer: a token's holder.
    pub sender: &'a str,
    /// 0: the record is kept. Otherwise the number of records that are only counted.
    pub counted: u32,
    /// The reason's stable name.
    pub code: &'a str,
    /// The field at fault, or empty.
    pub field: &'a str,
    /// The problem, for a person.
    pub message: &'a str,
    /// The payload's format, `json` or `msgpack`.
    pub payload_format: &'a str,
    /// The sent record, cut at [`REFUSED_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

/// Kept bytes of a refused record: more than the largest record within the default bounds, so that a record with a
/// wrong field can be corrected and retried.
pub const REFUSED_PAYLOAD_BYTES: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use tallyd_model::call::{Call, Cost, Stated};
    use tallyd_model::pricing::{Tokens, Usd};

    use super::*;

    #[derive(Debug, Clone)]
    struct Owned {
        texts: [String; 11],
        id: [u8; 16],
        occurred_at_us: i64,
        tokens: Tokens,
        requests: u64,
        status: u16,
        latency_ms: Option<u32>,
        cost: Cost,
        stated: Stated,
    }

    impl Owned {
        fn call(&self) -> Call<'_> {
            let [
                provider,
                model,
                endpoint,
                user_id,
                app,
                request_id,
                extra_units,
                service_tier,
                metadata,
                platform,
                tags,
            ] = &self.texts;
            Call {
                id: self.id,
                occurred_at_us: self.occurred_at_us,
                provider,
                model,
                endpoint,
                user_id,
                app,
                request_id,
                tokens: self.tokens,
                requests: self.requests,
                extra_units,
                service_tier,
                status: self.status,
                latency_ms: self.latency_ms,
                cost: self.cost,
                metadata,
                platform,
                tags,
                stated: self.stated,
            }
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), Just("standard".into()), "[ab]{1,2}", "\\PC{0,40}", Just("x".repeat(9_000))]
    }

    fn cost() -> impl Strategy<Value = Cost> {
        prop_oneof![
            Just(Cost::Unpriced),
            any::<i64>().prop_map(|nano| Cost::Client(Usd::from_attos(i128::from(nano) * 1_000_000_000))),
            any::<i128>().prop_map(|atto| Cost::Client(Usd::from_attos(atto >> 1))),
            (any::<i128>(), any::<i32>())
                .prop_map(|(atto, price_id)| Cost::Catalog { usd: Usd::from_attos(atto >> 2), price_id }),
        ]
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let texts = prop::array::uniform11(text());
        let numbers = (any::<[u8; 16]>(), any::<i64>(), any::<[u64; 5]>(), any::<u64>());
        let stated = (any::<bool>(), any::<bool>()).prop_map(|(id, response)| Stated { id, response });
        (texts, numbers, any::<u16>(), any::<Option<u32>>(), cost(), stated).prop_map(
            |(texts, (id, occurred_at_us, t, requests), status, latency_ms, cost, stated)| Owned {
                texts,
                id,
                occurred_at_us,
                tokens: Tokens {
                    input: t[0],
                    output: t[1],
                    cache_read: t[2],
                    cache_write_5m: t[3],
                    cache_write_1h: t[4],
                },
                requests,
                status,
                latency_ms,
                cost,
                stated,
            },
        )
    }

    fn read_all(chunks: &[Chunk]) -> Vec<Entry<'_>> {
        let entries = chunks.iter().flat_map(|chunk| PayloadReader::new(&chunk.payload));
        entries.collect::<Result<_, _>>().expect("what was written reads back")
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(calls in prop::collection::vec(owned(), 1..60)) {
            let mut builder = ChunkBuilder::new();
            let mut chunks = Vec::new();
            for (seq, call) in calls.iter().enumerate() {
                chunks.extend(builder.push_call(seq as u64 + 1, &call.call()));
            }
            chunks.extend(builder.finish());
            let expected: Vec<_> = calls.iter().map(|call| Entry::Call(call.call())).collect();
            prop_assert_eq!(read_all(&chunks), expected);
            prop_assert_eq!(chunks.iter().map(|chunk| chunk.records as usize).sum::<usize>(), calls.len());
            for chunk in &chunks {
                prop_assert!(chunk.records == 1 || chunk.payload.len() <= PAYLOAD_TARGET_BYTES);
            }
            for pair in chunks.windows(2) {
                prop_assert_eq!(pair[0].last_seq + 1, pair[1].first_seq);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let read = PayloadReader::new(&bytes).take_while(Result::is_ok).count();
            prop_assert!(read <= bytes.len());
        }
    }

    #[test]
    fn a_refused_record_reads_back_cut_to_its_bound() {
        let payload = vec![7; REFUSED_PAYLOAD_BYTES + 5_000];
        let refused = Refused {
            code: "nul",
            field: "model",
            message: "no",
            payload_format: "json",
            payload: &payload,
            ..Refused::default()
        };
        let mut builder = ChunkBuilder::new();
        assert!(builder.push_refused(9, &refused).is_none());
        let chunk = builder.finish().expect("one entry");
        assert_eq!((chunk.records, chunk.refused, chunk.first_seq, chunk.last_seq), (0, 1, 9, 9));
        let kept = Refused { payload: &payload[..REFUSED_PAYLOAD_BYTES], ..refused };
        assert_eq!(read_all(&[chunk]), [Entry::Refused(kept)]);
    }

    #[test]
    fn repeated_names_cost_a_byte_each() {
        let call = Call {
            id: [1; 16],
            occurred_at_us: 1_700_000_000_000_000,
            provider: "claude",
            model: "claude-sonnet-4-5",
            endpoint: "/v1/messages",
            user_id: "0192f0c1-7a10-7000-8000-000000000001",
            app: "api",
            tokens: Tokens { input: 374, output: 44, ..Tokens::default() },
            cost: Cost::Catalog { usd: Usd::from_attos(1_782_000_000_000_000), price_id: 12 },
            ..Call::default()
        };
        let mut builder = ChunkBuilder::new();
        assert!(builder.push_call(1, &call).is_none());
        assert!(builder.push_call(2, &call).is_none());
        let chunk = builder.finish().expect("two entries");
        assert!(chunk.payload.len() < 165, "two records take {} bytes", chunk.payload.len());
    }

    #[test]
    fn refusals_that_are_only_counted_share_an_entry() {
        let refused = Refused { sender: "token:1 a", counted: 1, code: "type", ..Refused::default() };
        let mut builder = ChunkBuilder::new();
        let mut chunks = Vec::new();
        for seq in 1..=100_000 {
            chunks.extend(builder.push_refused(seq, &refused));
            chunks.extend(
                (seq % 50_000 == 0).then(|| builder.push_refused(seq, &Refused { code: "nul", ..refused })).flatten(),
            );
        }
        chunks.extend(builder.finish());
        assert_eq!(chunks.iter().map(|chunk| u64::from(chunk.refused)).sum::<u64>(), 100_002);
        assert!(
            chunks.iter().all(|chunk| chunk.refused <= 65_535 && chunk.payload.len() < 100),
            "16 bits hold the count"
        );
        let mut counted = std::collections::BTreeMap::new();
        for entry in read_all(&chunks) {
            let Entry::Refused(refused) = entry else { panic!("a refusal") };
            assert_eq!((refused.sender, refused.payload), ("token:1 a", &b""[..]));
            *counted.entry(refused.code).or_insert(0) += refused.counted;
        }
        assert_eq!(counted.into_iter().collect::<Vec<_>>(), [("nul", 2), ("type", 100_000)]);
        assert_eq!((chunks[0].first_seq, chunks.last().unwrap().last_seq), (1, 100_000));
    }
}
