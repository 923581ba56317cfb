//! The evidence of a residue in words.

use std::collections::BTreeMap;

use super::{Model, by_tier, sum};
use crate::bill::BillTokens;
use crate::wording::{count, noun};

pub(super) fn recorded_calls(number: i64) -> String {
    noun(number.unsigned_abs(), "call is", "calls are")
}

pub(super) fn foreign_note(model: &Model, workspace: &str) -> String {
    let tokens = model.used.get(workspace).map(sum).unwrap_or_default();
    format!(
        "{} input and {} output tokens of a workspace that is not recorded",
        count(tokens.input),
        count(tokens.output)
    )
}

pub(super) fn tokens_note(billed: &BillTokens, recorded: &BillTokens) -> String {
    let names = ["input", "output", "cache read", "cache write"];
    let pairs = names.iter().zip(billed.buckets().into_iter().zip(recorded.buckets()));
    let differing = pairs.filter(|(_, (billed, recorded))| billed != recorded);
    let notes: Vec<String> = differing
        .map(|(name, (billed, recorded))| {
            format!("{name} tokens: billed {}, recorded {}", count(billed), count(recorded))
        })
        .collect();
    notes.join("; ")
}

/// `batch 1,000 tokens, standard 20 tokens`.
pub(super) fn tiers_note(tiers: &BTreeMap<String, BillTokens>) -> String {
    let total = |buckets: [u64; 4]| buckets.iter().fold(0_u64, |sum, more| sum.saturating_add(*more));
    let notes: Vec<String> = by_tier(tiers)
        .into_iter()
        .map(|(tier, buckets)| format!("{tier} {}", noun(total(buckets), "token", "tokens")))
        .collect();
    notes.join(", ")
}
