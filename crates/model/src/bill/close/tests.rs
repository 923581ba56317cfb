//! Each cause of a difference alone and together; charges without a model; workspaces.

use super::residue::RESIDUES_MAX;
use super::*;
use crate::bill::Kind;
use crate::pricing::PricingOptions;

const DAY: &str = "2026-11-01";

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

fn day() -> NaiveDate {
    DAY.parse().unwrap()
}

/// A line of the bill: model, workspace, tier, tokens (input, output, cache writes for 5 minutes and for 1 hour), cents.
type Billed<'b> = (&'b str, &'b str, &'b str, [u64; 4], &'b str);

/// Anthropic's reports with these lines, and with charges without a model in cents.
fn bill(lines: &[Billed<'_>], others: &[&str]) -> Bill {
    let report = |results: Vec<String>| {
        let bucket = format!(r#"{{"starting_at": "{DAY}T00:00:00Z", "results": [{}]}}"#, results.join(","));
        format!(r#"{{"data": [{bucket}], "has_more": false}}"#)
    };
    let workspace = |id: &str| if id.is_empty() { "null".to_owned() } else { format!("{id:?}") };
    let cost = |(model, id, tier, _, cents): &Billed<'_>| {
        let id = workspace(id);
        format!(
            r#"{{"amount": "{cents}", "currency": "USD", "model": "{model}", "workspace_id": {id}, "service_tier": "{tier}"}}"#
        )
    };
    let usage = |(model, id, tier, [input, output, short, long], _): &Billed<'_>| {
        let id = workspace(id);
        let writes = format!(r#"{{"ephemeral_5m_input_tokens": {short}, "ephemeral_1h_input_tokens": {long}}}"#);
        format!(
            r#"{{"uncached_input_tokens": {input}, "output_tokens": {output}, "cache_creation": {writes},
            "model": "{model}", "workspace_id": {id}, "service_tier": "{tier}"}}"#
        )
    };
    let other = |cents: &&str| format!(r#"{{"amount": "{cents}", "currency": "USD", "model": null}}"#);
    let costs = lines.iter().map(cost).chain(others.iter().map(other)).collect();
    let mut bill = Bill::default();
    bill.read_report("claude", Kind::Cost, "costs", &report(costs)).unwrap();
    bill.read_report("claude", Kind::Usage, "usage", &report(lines.iter().map(usage).collect())).unwrap();
    bill
}

fn recorded(model: &str, tier: &str, [input, output, short, long]: [u64; 4], cost: &str) -> RecordedDay {
    let cache_write = short + long;
    RecordedDay {
        day: day(),
        provider: "claude".to_owned(),
        model: model.to_owned(),
        tier: tier.to_owned(),
        price_id: Some(1),
        calls: 2,
        unpriced: 0,
        with_extra_units: 0,
        tokens: BillTokens { input, output, cache_read: 0, cache_write, cache_write_1h: long },
        cost_usd: usd(cost),
    }
}

/// Each residue as kind, model, workspace and amount.
fn residues(bill: &Bill, recorded: &[RecordedDay], ours: &[&str]) -> Vec<String> {
    let ours: Vec<String> = ours.iter().map(|id| (*id).to_owned()).collect();
    let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
    let verdict = close(bill, (day(), "claude"), recorded, &ours, &catalog);
    let sum = verdict.residues.iter().fold(Usd::ZERO, |sum, residue| add(sum, residue.difference_usd));
    let rest = minus(minus(verdict.recorded_usd, verdict.billed_usd), sum);
    assert!(rest.attos().unsigned_abs() <= HALF_CENT || verdict.residues.is_empty(), "{rest}: {verdict:?}");
    let shown = |residue: &Residue| {
        assert!(!residue.note.is_empty(), "{residue:?}");
        format!("{:?} {} {:?} {}", residue.kind, residue.model, residue.workspace, residue.difference_usd)
    };
    verdict.residues.iter().map(shown).collect()
}

// claude-sonnet-4-5 costs 3 USD a million input tokens, 15 output, 3.75 and 6 cache writes for 5 minutes and an hour;
// half of it as a batch.
const SONNET: &str = "claude-sonnet-4-5";
const MILLION: [u64; 4] = [1_000_000, 0, 0, 0];

#[test]
fn a_day_is_matched_to_the_cent_and_no_further() {
    let ours = [recorded(SONNET, "standard", MILLION, "3")];
    assert!(
        residues(&bill(&[("claude-sonnet-4-5-20250929", "", "standard", MILLION, "300")], &[]), &ours, &[]).is_empty()
    );
    assert!(residues(&bill(&[(SONNET, "", "standard", MILLION, "300.5")], &[]), &ours, &[]).is_empty(), "half a cent");
    assert_eq!(
        residues(&bill(&[(SONNET, "", "standard", MILLION, "300.51")], &[]), &ours, &[]),
        ["Price claude-sonnet-4-5 \"\" -0.0051"]
    );
    assert!(residues(&bill(&[], &[]), &[], &[]).is_empty(), "a day without calls and charges");
    // Two errors do not cancel out.
    let two = [recorded(SONNET, "standard", MILLION, "3"), recorded("claude-haiku-4-5", "standard", MILLION, "1")];
    let swapped = [(SONNET, "", "standard", MILLION, "100"), ("claude-haiku-4-5", "", "standard", MILLION, "300")];
    assert_eq!(residues(&bill(&swapped, &[]), &two, &[]).len(), 2);
    // Many models, none of which differs by half a cent.
    let names: Vec<String> = (0..4).map(|number| format!("m{number}")).collect();
    let lines: Vec<Billed<'_>> = names.iter().map(|name| (name.as_str(), "", "standard", MILLION, "0.4")).collect();
    let ours: Vec<RecordedDay> = names.iter().map(|name| recorded(name, "standard", MILLION, "0")).collect();
    assert_eq!(residues(&bill(&lines, &[]), &ours, &[]).len(), 4);
}

#[test]
fn every_cause_alone_is_named_with_its_amount() {
    let one = |line: Billed<'_>, ours: RecordedDay| residues(&bill(&[line], &[]), &[ours], &[]).join("; ");
    let batch = (SONNET, "w", "batch", MILLION, "150");
    assert_eq!(one(batch, recorded(SONNET, "standard", MILLION, "3")), "Tier claude-sonnet-4-5 \"w\" 1.5");
    let long = (SONNET, "w", "standard", [0, 0, 0, 1_000_000], "600");
    let short = recorded(SONNET, "standard", [0, 0, 1_000_000, 0], "3.75");
    assert_eq!(one(long, short), "CacheLifetime claude-sonnet-4-5 \"w\" -2.25");
    let dear = (SONNET, "w", "standard", MILLION, "330");
    assert_eq!(one(dear, recorded(SONNET, "standard", MILLION, "3")), "Price claude-sonnet-4-5 \"w\" -0.3");
    let unpriced = RecordedDay { unpriced: 1, ..recorded(SONNET, "standard", MILLION, "0") };
    assert_eq!(one(dear, unpriced), "Price claude-sonnet-4-5 \"w\" -3.3");
    let more = (SONNET, "w", "standard", [2_000_000, 0, 0, 0], "600");
    assert_eq!(one(more, recorded(SONNET, "standard", MILLION, "3")), "UnrecordedCalls claude-sonnet-4-5 \"w\" -3");
    let fewer = (SONNET, "w", "standard", [500_000, 0, 0, 0], "150");
    assert_eq!(one(fewer, recorded(SONNET, "standard", MILLION, "3")), "NotBilled claude-sonnet-4-5 \"w\" 1.5");
    let nothing = residues(&bill(&[], &[]), &[recorded(SONNET, "standard", MILLION, "3")], &[]);
    assert_eq!(nothing, ["NotBilled claude-sonnet-4-5 \"\" 3"]);
    let unknown = [(SONNET, "w", "standard", MILLION, "300"), (SONNET, "v", "standard", MILLION, "301")];
    assert_eq!(
        residues(&bill(&unknown, &[]), &[], &[]),
        ["UnrecordedModel claude-sonnet-4-5 \"v\" -3.01", "UnrecordedModel claude-sonnet-4-5 \"w\" -3"]
    );
}

#[test]
fn causes_that_meet_are_told_apart_by_the_catalog_and_the_rest_is_the_price() {
    let lines =
        [(SONNET, "w", "batch", [1_000_000, 0, 0, 0], "150"), (SONNET, "w", "standard", [0, 0, 0, 1_000_000], "700")];
    let ours = [recorded(SONNET, "standard", [1_000_000, 0, 1_000_000, 0], "6.75")];
    assert_eq!(
        residues(&bill(&lines, &[]), &ours, &[]),
        [
            "CacheLifetime claude-sonnet-4-5 \"w\" -2.25",
            "Tier claude-sonnet-4-5 \"w\" 1.5",
            "Price claude-sonnet-4-5 \"w\" -1",
        ]
    );
    // The catalog does not have the model: the tier alone is seen.
    let lines = [("m", "w", "batch", MILLION, "150")];
    assert_eq!(residues(&bill(&lines, &[]), &[recorded("m", "standard", MILLION, "3")], &[]), ["Tier m \"w\" 1.5"]);
}

#[test]
fn another_workspace_is_known_by_the_setting_or_by_its_tokens() {
    let lines = [(SONNET, "ours", "standard", MILLION, "300"), (SONNET, "theirs", "standard", [7, 9, 0, 0], "33")];
    let mine = [recorded(SONNET, "standard", MILLION, "3")];
    let expected = ["OtherWorkspace claude-sonnet-4-5 \"theirs\" -0.33"];
    assert_eq!(residues(&bill(&lines, &[]), &mine, &[]), expected, "without it the tokens agree");
    assert_eq!(residues(&bill(&lines, &[]), &mine, &["ours"]), expected);
    // The rest of the difference is judged without the other workspace.
    let dear = [recorded(SONNET, "standard", MILLION, "2")];
    assert_eq!(
        residues(&bill(&lines, &[]), &dear, &["ours"]),
        ["Price claude-sonnet-4-5 \"ours\" -1", "OtherWorkspace claude-sonnet-4-5 \"theirs\" -0.33"]
    );
    let default = [(SONNET, "", "standard", MILLION, "300"), (SONNET, "theirs", "standard", MILLION, "33")];
    assert_eq!(residues(&bill(&default, &[]), &mine, &["default"]), expected);
}

#[test]
fn charges_without_a_model_are_set_against_calls_that_had_such_units() {
    let lines = [(SONNET, "", "standard", MILLION, "300")];
    let searched = RecordedDay { with_extra_units: 1, ..recorded(SONNET, "standard", MILLION, "3.02") };
    assert!(residues(&bill(&lines, &["2"]), std::slice::from_ref(&searched), &[]).is_empty());
    assert_eq!(residues(&bill(&lines, &["7"]), std::slice::from_ref(&searched), &[]), ["OtherCharge  \"\" -0.05"]);
    assert_eq!(residues(&bill(&lines, &["1"]), &[searched], &[]), ["Price claude-sonnet-4-5 \"\" 0.01"]);
    // A surplus of calls without such units is another cause.
    let plain = recorded(SONNET, "standard", MILLION, "3.02");
    assert_eq!(residues(&bill(&lines, &["2"]), &[plain], &[]).len(), 2);
}

#[test]
fn the_digest_is_of_the_lines_and_not_of_their_order() {
    let lines = [(SONNET, "w", "standard", MILLION, "300"), ("claude-haiku-4-5", "w", "batch", MILLION, "50")];
    let of = |lines: &[Billed<'_>]| digest(&bill(lines, &[]), (day(), "claude"));
    let turned = [lines[1], lines[0]];
    assert_eq!(of(&lines), of(&turned));
    for changed in [(SONNET, "w", "standard", MILLION, "301"), (SONNET, "v", "standard", MILLION, "300")] {
        assert_ne!(of(&lines), of(&[changed, lines[1]]));
    }
    assert_ne!(of(&lines), digest(&bill(&lines, &[]), (day(), "openai")));
}

#[test]
fn a_bill_of_very_many_parts_is_bounded_and_its_sum_stays() {
    let names: Vec<String> = (0..300).map(|number| format!("m{number:03}")).collect();
    let lines: Vec<Billed<'_>> = names.iter().map(|name| (name.as_str(), "w", "standard", MILLION, "2")).collect();
    let found = residues(&bill(&lines, &[]), &[], &[]);
    assert_eq!(found.len(), RESIDUES_MAX + 1);
    assert_eq!(found[RESIDUES_MAX], "UnrecordedModel (other) \"\" -2");
}

#[test]
fn reports_cover_their_days_and_are_what_they_are_said_to_be() {
    let empty = format!(r#"{{"data": [{{"starting_at": "{DAY}T00:00:00Z", "results": []}}], "has_more": false}}"#);
    let mut bill = Bill::default();
    bill.read_report("claude", Kind::Cost, "costs", &empty).unwrap();
    assert!(!bill.is_whole(day(), "claude"));
    bill.read_report("claude", Kind::Usage, "usage", &empty).unwrap();
    assert!(bill.is_whole(day(), "claude"));
    assert!(bill.read_report("claude", Kind::Usage, "usage", &empty).is_err(), "given twice");
    let usage = r#"{"data": [{"start_time": 1793491200, "results": [{"object": "organization.usage.embeddings.result",
        "input_tokens": 7, "model": "text-embedding-3-small", "project_id": "p"}]}]}"#;
    let refused = Bill::default().read_report("openai", Kind::Usage, "usage", usage);
    assert!(refused.is_err(), "embeddings are not completions");
    let mut bill = Bill::default();
    bill.read_report("openai", Kind::Other("embeddings"), "usage", usage).unwrap();
    let tokens: Vec<u64> = bill.parts(day(), "openai").filter_map(|(_, _, sums)| Some(sums.tokens?.input)).collect();
    assert_eq!(tokens, [7]);
}
