//! The chain: whole, and changed in every way.

use super::*;
use crate::bill::close::ResidueKind;

fn closed(day: u32, state: ClosingState) -> Closed {
    let usd = |text: &str| Usd::parse(text).unwrap();
    let residue = Residue {
        kind: ResidueKind::Tier,
        model: "claude-opus-4-5".to_owned(),
        workspace: "wrkspc_1".to_owned(),
        difference_usd: usd("0.000000000000000001"),
        note: "billed batch 10 tokens; recorded standard 10 tokens".to_owned(),
    };
    Closed {
        vendor: "anthropic".to_owned(),
        day: NaiveDate::from_ymd_opt(2026, 11, day).unwrap(),
        state,
        cause: (state == ClosingState::Open).then_some(ClosingCause::LateCalls),
        calls: 3,
        unpriced_calls: 0,
        recorded_usd: usd("2.5"),
        billed_usd: usd("2.499999999999999999"),
        residues: if state == ClosingState::Differs { vec![residue] } else { Vec::new() },
        bill_sha256: "ab".repeat(32),
        price_ids: vec![7, 1_000_001],
        sums: "3 0 2.5 10 0 0 0 0".to_owned(),
        at: "2026-11-30T06:00:00.000120Z".parse().unwrap(),
    }
}

fn chain() -> Vec<Closing> {
    let mut entries: Vec<Closing> = Vec::new();
    for (day, state) in [(1, ClosingState::Matched), (2, ClosingState::Differs), (1, ClosingState::Open)] {
        entries.push(Closing::after(entries.last(), closed(day, state)));
    }
    entries
}

fn verified(entries: &[Closing]) -> Result<Chain, ChainError> {
    let mut chain = Chain::default();
    entries.iter().try_for_each(|entry| chain.next(entry)).map(|()| chain)
}

#[test]
fn a_chain_survives_its_export_and_every_change_of_it_is_found() {
    let entries = chain();
    let text: Vec<String> = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
    let read: Vec<Closing> = text.iter().map(|line| Closing::read(line).unwrap()).collect();
    assert_eq!(read, entries);
    assert_eq!(verified(&read).unwrap().head(), Some((3, entries[2].hash.as_str())));
    // If any text of an entry is changed, its hash is not that of its content.
    let changes: [(&str, &str); 9] = [
        ("\"matched\"", "\"differs\""),
        ("\"2.5\"", "\"2.4\""),
        ("\"2.499999999999999999\"", "\"2.5\""),
        ("\"calls\":3", "\"calls\":4"),
        ("2026-11-01", "2026-11-03"),
        ("anthropic", "openai"),
        ("00120Z", "00121Z"),
        ("[7,", "[8,"),
        ("abab", "abac"),
    ];
    for (from, to) in changes {
        assert!(text[0].contains(from), "{from}: {}", text[0]);
        let mut changed = entries.clone();
        changed[0] = Closing::read(&text[0].replacen(from, to, 1)).unwrap();
        assert!(matches!(verified(&changed), Err(ChainError::Hash { number: 1, .. })), "{from}");
    }
    let mut changed = entries.clone();
    changed[1].closed.residues[0].note.push('.');
    assert!(matches!(verified(&changed), Err(ChainError::Hash { number: 2, .. })));
    // An entry that was changed with its hash is not the one that the next continues.
    changed[1] = Closing::after(Some(&entries[0]), changed[1].closed.clone());
    assert_eq!(verified(&changed).unwrap_err(), ChainError::Previous { number: 3 });
    assert_eq!(verified(&entries[1..]).unwrap_err(), ChainError::Number { expected: 1, found: 2 });
    let without = [entries[0].clone(), entries[2].clone()];
    assert_eq!(verified(&without).unwrap_err(), ChainError::Number { expected: 2, found: 3 });
    assert!(verified(&[]).unwrap().head().is_none());
    for line in [text[0].replacen('{', "{\"more\":1,", 1), text[0].replace("\"2.5\"", "\"2.50\""), "{}".to_owned()] {
        assert!(Closing::read(&line).is_err(), "{line}");
    }
}

#[test]
fn the_hash_of_an_entry_is_the_same_in_every_version() {
    let entries = chain();
    assert_eq!(entries[1].hash, "8eb480db1e7fb574f525a3352a8d518ad1f17d334b6ffc371251aed79b46ec4c");
}
