//! The readers of foreign bytes, each as a function of bytes alone: for fuzzers and for tests.
//!
//! The code under test is in `tallyd-intake`, `tallyd-wal`, `tallyd-model`, `tallyd-config`, `tallyd-store` and
//! `tallyd-protocol`.
//!
//! Three callers run the same functions: `cargo fuzz` (`make fuzz`, hours), `tests/corpus.rs` (`make test`: the corpus
//! and a few thousand seeded mutations of it), and regression tests for earlier finds.
//!
//! A target checks more than the absence of panics:
//!
//! * an accepted record keeps every bound of the wire specification ([`admitted`]);
//! * an accepted record survives each encoding on its way: chunk, WAL value, wire;
//! * a refusal has a code, and a message that can be stored and printed;
//! * no memory is allocated because of a claimed length. `tests/corpus.rs` counts the bytes, cargo-fuzz has a limit.
//!
//! ## A new target
//! A file with a `run` here, a line in [`TARGETS`], a file in `fuzz/fuzz_targets/`, seeds in [`seeds`]. A test compares
//! the three lists; with `TALLYD_WRITE_SEEDS=1` it writes the corpus' seeds and the dictionaries of `fuzz/dictionaries/`.
//! Readers of other price formats belong beside [`prices`].

pub mod admitted;
pub mod bill;
pub mod config;
pub mod frame;
pub mod letters;
pub mod line;
pub mod mutate;
pub mod otlp;
pub mod prices;
pub mod records;
pub mod reply;
pub mod seeds;
pub mod token;
pub mod value;

/// A reader, with the checks of its results.
pub struct Target {
    /// The name of its corpus and of its program in `fuzz/`.
    pub name: &'static str,
    /// Reads the bytes. Panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Words of its language, which a blind mutation would not find.
    pub words: &'static [&'static [u8]],
}

/// Words with a special meaning for some parser, or for a database behind it. Part of every target's dictionary.
pub const MAGIC: [&[u8]; 12] = [
    b"$serde_json::private::RawValue",
    b"$serde_json::private::Number",
    br#"{"$serde_json::private::RawValue":"#,
    br#"{"$serde_json::private::Number":"1"}"#,
    b"tallyd::json::Raw",
    b"$__toml_private_datetime",
    b"1e999999",
    b"1e131071",
    br"\u0000",
    br"\ud83d",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    br#"{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":"#,
];

impl Target {
    /// The words of its language, and [`MAGIC`].
    #[must_use]
    pub fn dictionary(&self) -> Vec<&'static [u8]> {
        [self.words, &MAGIC].concat()
    }

    /// The dictionary as libFuzzer reads it.
    #[must_use]
    pub fn dictionary_file(&self) -> String {
        let quoted = |word: &&[u8]| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        self.dictionary().iter().map(|word| format!("\"{}\"\n", quoted(word))).collect()
    }
}

/// All targets; `tests/corpus.rs` compares them with the programs in `fuzz/fuzz_targets/`.
pub const TARGETS: [Target; 11] = [
    Target { name: "frame", run: frame::run, words: &frame::WORDS },
    Target { name: "line", run: line::run, words: &line::WORDS },
    Target { name: "value", run: value::run, words: &[] },
    Target { name: "reply", run: reply::run, words: &reply::WORDS },
    Target { name: "prices", run: prices::run, words: &prices::WORDS },
    Target { name: "bill", run: bill::run, words: &bill::WORDS },
    Target { name: "otlp", run: otlp::run, words: &otlp::WORDS },
    Target { name: "records", run: records::run, words: &records::WORDS },
    Target { name: "letters", run: letters::run, words: &letters::WORDS },
    Target { name: "token", run: token::run, words: &token::WORDS },
    Target { name: "config", run: config::run, words: &config::WORDS },
];
