//! The oracle compares the acknowledged records with the database.

use std::collections::HashMap;

use uuid::Uuid;

use crate::calls;
use crate::producers::Ledger;
use crate::support::postgres::Postgres;

/// The oracle's result. The counts are exact; `examples` has at most [`SHOWN`] entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acked: u64,
    /// Acknowledged records that are not in the database.
    pub lost: u64,
    /// Records, acknowledged or not, that are in the database more than once.
    pub doubled: u64,
    /// Records that differ from those sent.
    pub altered: u64,
    /// Records in the database that were not sent.
    pub foreign: u64,
    /// Some of these records, in words.
    pub examples: Vec<String>,
}

/// The number of examples in a verdict.
const SHOWN: usize = 10;

impl Verdict {
    /// True if no record is lost, doubled, altered or foreign.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.altered + self.foreign == 0
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < SHOWN {
            self.examples.push(what());
        }
    }
}

/// The calls and dead letters in the database.
struct Stored {
    /// By producer and number: fingerprint and number of rows.
    calls: HashMap<(u64, u64), Vec<(String, u64)>>,
    /// By payload: number of rows.
    letters: HashMap<String, u64>,
}

/// Compares. The WAL must be drained before.
pub fn judge(ledgers: &[Ledger], postgres: &Postgres) -> Verdict {
    let mut stored = read(postgres);
    let mut verdict = Verdict::default();
    for ledger in ledgers {
        for acked in &ledger.acked {
            verdict.acked += 1;
            let name = || format!("{} of producer {}", acked.seq, ledger.producer);
            if acked.refused {
                match stored.letters.remove(&acked.print) {
                    Some(1) => {}
                    Some(times) => count_doubled(&mut verdict, times, name),
                    None => count_lost(&mut verdict, name),
                }
                continue;
            }
            match stored.calls.remove(&(ledger.producer, acked.seq)) {
                Some(found) => compare(&mut verdict, &acked.print, &found, name),
                None => count_lost(&mut verdict, name),
            }
        }
        for seq in ledger.acked.len() as u64 + 1..=ledger.sent {
            forgive_unacked(&mut verdict, &mut stored, ledger.producer, seq);
        }
    }
    verdict.foreign = stored.calls.len() as u64 + stored.letters.len() as u64;
    for (producer, seq) in stored.calls.keys().take(SHOWN) {
        verdict.note(|| format!("{seq} of producer {producer} was never sent"));
    }
    if let Some(print) = stored.letters.keys().next() {
        verdict.note(|| format!("a dead letter that was never sent: {print}"));
    }
    verdict
}

/// A record that was sent and not acknowledged may be in the database: once, and unaltered.
fn forgive_unacked(verdict: &mut Verdict, stored: &mut Stored, producer: u64, seq: u64) {
    let record = calls::call(producer, seq);
    let name = || format!("{seq} of producer {producer}, not acknowledged,");
    if calls::is_refused(producer, seq) {
        if let Some(times @ 2..) = stored.letters.remove(&calls::letter(&record)) {
            count_doubled(verdict, times, name);
        }
    } else if let Some(found) = stored.calls.remove(&(producer, seq)) {
        compare(verdict, &calls::fingerprint(&record), &found, name);
    }
}

fn compare(verdict: &mut Verdict, print: &str, found: &[(String, u64)], name: impl Fn() -> String) {
    let times = found.iter().map(|(_, times)| times).sum();
    if times > 1 {
        count_doubled(verdict, times, &name);
    }
    if found.iter().any(|(is, _)| is != print) {
        verdict.altered += 1;
        verdict.note(|| format!("{} says something else", name()));
    }
}

fn count_lost(verdict: &mut Verdict, name: impl Fn() -> String) {
    verdict.lost += 1;
    verdict.note(|| format!("{} is nowhere", name()));
}

fn count_doubled(verdict: &mut Verdict, times: u64, name: impl Fn() -> String) {
    verdict.doubled += 1;
    verdict.note(|| format!("{} is there {times} times", name()));
}

fn read(postgres: &Postgres) -> Stored {
    let number = |text: &str| text.parse::<u64>().expect("a count is a number");
    let mut stored = Stored { calls: HashMap::new(), letters: HashMap::new() };
    for line in postgres.psql(calls::FINGERPRINTS).lines() {
        let parts: Vec<_> = line.split('|').collect();
        let [id, print, times] = parts[..] else { panic!("not a row of the log: {line}") };
        let id = Uuid::parse_str(id).expect("an id is a UUID");
        stored.calls.entry(calls::of_id(&id)).or_default().push((print.to_owned(), number(times)));
    }
    for line in postgres.psql(calls::LETTERS).lines() {
        let (print, times) = line.split_once('|').expect("a payload and its count");
        stored.letters.insert(print.to_owned(), number(times));
    }
    stored
}
