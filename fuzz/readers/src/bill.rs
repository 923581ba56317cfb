//! Vendors' exports: JSON pages and CSV. An export that is read can be compared with no calls without a panic, and its
//! days agree exactly where the bill is 0.

use tallyd_model::bill::Bill;
use tallyd_model::bill::compare::{Tolerance, compare};
use tallyd_model::pricing::Usd;

/// Words of the exports.
pub const WORDS: [&[u8]; 12] = [
    b"{\"data\": [",
    b"\"results\": [",
    b"\"starting_at\": \"2026-11-01T00:00:00Z\"",
    b"\"start_time\": 1793491200",
    b"\"object\": \"organization.costs.result\"",
    b"\"object\": \"organization.usage.completions.result\"",
    b"\"amount\": {\"value\": 1e-300, \"currency\": \"usd\"}",
    b"\"amount\": \"170141183460469231731.687303715884105727\"",
    b"usage_date_utc,model,cost_usd\n2026-11-01,m,1.5\n",
    b"start_time\tamount_value\tline_item\n1793491200\t0.5\tgpt, input\n",
    b"18446744073709551615",
    b"9999-12-31",
];

/// Reads an export, and compares it.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut bill = Bill::default();
    if let Err(error) = bill.read("export", text) {
        assert!(error.to_string().contains("export"), "{error}");
        return;
    }
    let found = compare(&bill, &[], Tolerance { usd: Usd::ZERO, permille: 0 });
    assert_eq!(found.days.len(), bill.days().len());
    for day in found.days {
        let nothing = day.billed_usd.is_none_or(|usd| usd == Usd::ZERO)
            && day.lines.iter().all(|line| line.billed_tokens.is_none_or(|tokens| tokens == Default::default()));
        assert!(!nothing || day.agrees, "{day:?}");
        assert!(day.agrees || !day.causes.is_empty(), "a difference without a cause: {day:?}");
    }
}
