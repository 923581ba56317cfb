//! Compares the bill with the records: the differences by day and model, and their likely reasons.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::Serialize;

use super::{Bill, BillKey, BillTokens};
use crate::pricing::{Usd, family};

/// The recorded calls of one provider's model on one UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedDay {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// The stored name.
    pub provider: String,
    /// The model as sent.
    pub model: String,
    /// The service tier; empty if the rollups answered, which do not have it.
    pub tier: String,
    /// The price that was applied; none without one, or if the rollups answered.
    pub price_id: Option<i32>,
    /// Calls.
    pub calls: i64,
    /// Unpriced calls.
    pub unpriced: i64,
    /// Calls with other units than tokens and requests, such as web searches; 0 if the rollups answered.
    pub with_extra_units: i64,
    /// Tokens.
    pub tokens: BillTokens,
    /// The cost of the priced ones.
    pub cost_usd: Usd,
}

/// Largest differences that are not reported, because vendors round each line.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// USD per day.
    pub usd: Usd,
    /// Thousandths of the day's bill.
    pub permille: u32,
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BillLine {
    /// Day, provider, model.
    #[serde(flatten)]
    pub key: BillKey,
    /// The vendor's cost; none without a cost export.
    pub billed_usd: Option<Usd>,
    /// The records' sums.
    pub recorded_usd: Usd,
    /// The vendor's tokens; none without a usage export.
    pub billed_tokens: Option<BillTokens>,
    /// The records' tokens.
    pub recorded_tokens: BillTokens,
    /// Recorded calls.
    pub calls: i64,
    /// Those of them that are unpriced.
    pub unpriced: i64,
}

/// A provider's day: all models, and charges without a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BillDay {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// The provider.
    pub provider: &'static str,
    /// The vendor's cost; none without a cost export.
    pub billed_usd: Option<Usd>,
    /// The records' sums.
    pub recorded_usd: Usd,
    /// Recorded minus billed; none without a bill.
    pub difference_usd: Option<Usd>,
    /// True if cost and tokens agree within the tolerance.
    pub agrees: bool,
    /// Likely reasons of a difference.
    pub causes: Vec<String>,
    /// Its lines, by model.
    pub lines: Vec<BillLine>,
}

/// All days that the bill covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// True if every day agrees.
    pub agrees: bool,
    /// The days.
    pub days: Vec<BillDay>,
}

/// Compares the bill with the records. Recorded days that no export covers are left out.
#[must_use]
pub fn compare(bill: &Bill, recorded: &[RecordedDay], tolerance: Tolerance) -> Comparison {
    let days = bill.days();
    let mut lines: BTreeMap<BillKey, BillLine> = BTreeMap::new();
    for (key, sums) in bill.sums() {
        let line = lines.entry(key.clone()).or_insert_with(|| empty(key.clone()));
        line.billed_usd = sums.cost_usd;
        line.billed_tokens = sums.tokens;
    }
    for record in recorded {
        let Some((_, provider)) =
            days.iter().find(|(day, provider)| *day == record.day && *provider == record.provider)
        else {
            continue;
        };
        let key = BillKey { day: record.day, provider, model: family(&record.model).to_owned() };
        let line = lines.entry(key.clone()).or_insert_with(|| empty(key));
        line.recorded_usd = add(line.recorded_usd, record.cost_usd);
        line.calls += record.calls;
        line.unpriced += record.unpriced;
        line.recorded_tokens.add(&record.tokens);
    }
    let days: Vec<BillDay> = days.into_iter().map(|key| day(key, &lines, tolerance)).collect();
    Comparison { agrees: days.iter().all(|day| day.agrees), days }
}

fn empty(key: BillKey) -> BillLine {
    BillLine {
        key,
        billed_usd: None,
        recorded_usd: Usd::ZERO,
        billed_tokens: None,
        recorded_tokens: BillTokens::default(),
        calls: 0,
        unpriced: 0,
    }
}

/// Saturates: amounts are far from the end of 128 bits.
pub(super) fn add(left: Usd, right: Usd) -> Usd {
    Usd::from_attos(left.attos().saturating_add(right.attos()))
}

fn day((day, provider): (NaiveDate, &'static str), all: &BTreeMap<BillKey, BillLine>, tolerance: Tolerance) -> BillDay {
    let lines: Vec<BillLine> =
        all.values().filter(|line| line.key.day == day && line.key.provider == provider).cloned().collect();
    let billed: Vec<Usd> = lines.iter().filter_map(|line| line.billed_usd).collect();
    let tells_tokens = lines.iter().any(|line| line.billed_tokens.is_some());
    let recorded_usd = lines.iter().fold(Usd::ZERO, |sum, line| add(sum, line.recorded_usd));
    // A usage export alone does not have costs to compare.
    let billed_usd =
        if billed.is_empty() && tells_tokens { None } else { Some(billed.into_iter().fold(Usd::ZERO, add)) };
    let difference_usd = billed_usd.map(|billed| Usd::from_attos(recorded_usd.attos().saturating_sub(billed.attos())));
    let cost_agrees = match (difference_usd, billed_usd) {
        (Some(difference), Some(billed)) => {
            // A day with refunds only is billed below zero.
            let share = billed.attos().unsigned_abs() / 1_000 * u128::from(tolerance.permille);
            difference.attos().unsigned_abs() <= tolerance.usd.attos().unsigned_abs().max(share)
        }
        _ => true,
    };
    let tokens_agree = !tells_tokens || {
        let total = |of: fn(&BillLine) -> BillTokens| {
            let mut sum = BillTokens::default();
            lines.iter().for_each(|line| sum.add(&of(line)));
            sum.buckets()
        };
        let (billed, recorded) =
            (total(|line| line.billed_tokens.unwrap_or_default()), total(|line| line.recorded_tokens));
        billed.iter().zip(recorded).all(|(billed, recorded)| {
            u128::from(billed.abs_diff(recorded)) * 1_000 <= u128::from(*billed) * u128::from(tolerance.permille)
        })
    };
    let agrees = cost_agrees && tokens_agree;
    let causes = if agrees { Vec::new() } else { causes(&lines, tokens_agree && tells_tokens) };
    BillDay { day, provider, billed_usd, recorded_usd, difference_usd, agrees, causes, lines }
}

/// Reasons that follow from the lines, the most likely first.
fn causes(lines: &[BillLine], same_tokens: bool) -> Vec<String> {
    let mut causes = Vec::new();
    let mut say = |text: String| causes.push(text);
    let names = |wanted: &dyn Fn(&BillLine) -> bool| -> String {
        let named: BTreeSet<&str> = lines
            .iter()
            .filter(|line| !line.key.model.is_empty() && wanted(line))
            .map(|line| &*line.key.model)
            .collect();
        named.into_iter().collect::<Vec<_>>().join(", ")
    };
    let is_billed =
        |line: &BillLine| line.billed_usd.is_some_and(|usd| usd != Usd::ZERO) || line.billed_tokens.is_some();
    let unpriced: i64 = lines.iter().map(|line| line.unpriced).sum();
    if unpriced > 0 {
        let models = names(&|line| line.unpriced > 0);
        let calls = crate::wording::noun(unpriced.unsigned_abs(), "call has no price", "calls have no price");
        say(format!("{calls} ({models}): `tallyd prices check`, then `tallyd reprice`"));
    }
    if lines.iter().all(|line| line.calls == 0) {
        say("nothing was recorded: the day is before tallyd, or the calls came from elsewhere".to_owned());
        return causes;
    }
    let missing = names(&|line| is_billed(line) && line.calls == 0);
    if !missing.is_empty() {
        say(format!("billed and never recorded: {missing}; another application or workspace uses the same account"));
    }
    let extra = names(&|line| !is_billed(line) && line.calls > 0);
    if !extra.is_empty() {
        say(format!("recorded and not on the bill: {extra}; the export may be of one workspace or project alone"));
    }
    if same_tokens {
        say("the tokens agree and the cost does not: a price differs; `tallyd prices list`, or a negotiated one"
            .to_owned());
    }
    if lines.iter().any(|line| line.key.model.is_empty() && line.billed_usd.is_some()) {
        say("part of the bill names no model: web searches, code execution, or a cost export that was not grouped"
            .to_owned());
    }
    causes
}
