//! Closes a vendor-day: the bill and the records agree to the cent, or their difference is split by cause.
//!
//! A vendor-day is one vendor's UTC day. It is *matched* if the costs of each model agree within half a cent, and the
//! day's costs as well. Otherwise each model that differs has one or more residues, whose amounts add up to the model's
//! difference. Rules, in this order:
//!
//! 1. Charges of workspaces that are not recorded are [`ResidueKind::OtherWorkspace`]. If none are configured, one
//!    workspace is left out if the recorded tokens are then those of the rest.
//! 2. A model without a recorded call is [`ResidueKind::UnrecordedModel`]; one without a line on the bill is
//!    [`ResidueKind::NotBilled`].
//! 3. If the bill has other tokens than the records, calls are missing on one side: [`ResidueKind::UnrecordedCalls`] or
//!    [`ResidueKind::NotBilled`].
//! 4. With equal tokens, both sides' tokens are priced by the catalog, by tier and cache lifetime. The difference is
//!    [`ResidueKind::Tier`] or [`ResidueKind::CacheLifetime`], and the rest [`ResidueKind::Price`].
//!
//! The bill has web searches and code execution without a model; the records have them in the model's cost. So charges
//! without a model are first set against models whose tokens agree, whose calls have such units, and whose recorded cost
//! is larger. The rest is [`ResidueKind::OtherCharge`].

mod notes;
mod residue;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveTime};
use sha2::{Digest, Sha256};

use self::notes::{foreign_note, recorded_calls, tiers_note, tokens_note};
use self::residue::bounded;
pub use self::residue::{Residue, ResidueKind};
use super::compare::{RecordedDay, add};
use super::{Bill, BillTokens};
use crate::pricing::catalog::Rates;
use crate::pricing::{Catalog, STANDARD_TIER, Usd, family};
use crate::wording::count;

/// Half a cent: amounts that differ by more are not equal to the cent.
const HALF_CENT: u128 = 5_000_000_000_000_000;
/// Anthropic's default workspace, which does not have an id.
const DEFAULT_WORKSPACE: &str = "default";

/// The result of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The bill's cost.
    pub billed_usd: Usd,
    /// The recorded cost.
    pub recorded_usd: Usd,
    /// Empty if the day is matched.
    pub residues: Vec<Residue>,
    /// SHA-256 of the bill's lines of the day, in hexadecimal digits.
    pub bill_sha256: String,
}

/// A model on both sides.
#[derive(Default)]
struct Model {
    /// Charges by workspace.
    charged: BTreeMap<String, Usd>,
    /// Usage by workspace and tier.
    used: BTreeMap<String, BTreeMap<String, BillTokens>>,
    /// Recorded tokens by tier.
    recorded: BTreeMap<String, BillTokens>,
    recorded_usd: Usd,
    calls: i64,
    unpriced: i64,
    with_extra_units: i64,
}

/// Closes one provider's day. `ours` are the workspaces whose calls are recorded; empty for all. The catalog prices
/// tokens of both sides alike, to size the effect of a tier or a cache lifetime.
#[must_use]
pub fn close(
    bill: &Bill,
    (day, provider): (NaiveDate, &'static str),
    recorded: &[RecordedDay],
    ours: &[String],
    catalog: &Catalog,
) -> Verdict {
    let mut models = BTreeMap::<String, Model>::new();
    for (key, part, sums) in bill.parts(day, provider) {
        let model = models.entry(key.model.clone()).or_default();
        if let Some(cost) = sums.cost_usd {
            let sum = model.charged.entry(part.workspace.clone()).or_default();
            *sum = add(*sum, cost);
        }
        if let Some(tokens) = &sums.tokens {
            let used = model.used.entry(part.workspace.clone()).or_default();
            used.entry(part.tier.clone()).or_default().add(tokens);
        }
    }
    for record in recorded.iter().filter(|record| record.day == day && record.provider == provider) {
        let model = models.entry(family(&record.model).to_owned()).or_default();
        model.recorded.entry(record.tier.clone()).or_default().add(&record.tokens);
        model.recorded_usd = add(model.recorded_usd, record.cost_usd);
        model.calls += record.calls;
        model.unpriced += record.unpriced;
        model.with_extra_units += record.with_extra_units;
    }
    let at_us = day.and_time(NaiveTime::default()).and_utc().timestamp_micros();
    let judge = Judge { provider, ours, catalog, at_us };
    let total = |of: fn(&Model) -> Usd| models.values().fold(Usd::ZERO, |sum, model| add(sum, of(model)));
    let (billed_usd, recorded_usd) = (total(Model::billed), total(|model| model.recorded_usd));
    let mut residues = judge.residues(&models, HALF_CENT);
    if residues.is_empty() && minus(recorded_usd, billed_usd).attos().unsigned_abs() > HALF_CENT {
        // Many models, each of which differs by less.
        residues = judge.residues(&models, 0);
    }
    let bill_sha256 = digest(bill, (day, provider));
    Verdict { billed_usd, recorded_usd, residues: bounded(residues), bill_sha256 }
}

/// SHA-256 of the bill's lines of a day, in hexadecimal digits. The order in which the vendor sends them does not count.
#[must_use]
pub fn digest(bill: &Bill, (day, provider): (NaiveDate, &'static str)) -> String {
    let mut digest = Sha256::new();
    for (key, part, sums) in bill.parts(day, provider) {
        let tokens = sums.tokens.map(|tokens| (tokens.buckets(), tokens.cache_write_1h));
        let line = serde_json::json!([key.model, part.workspace, part.tier, sums.cost_usd, tokens]);
        digest.update(format!("{line}\n"));
    }
    format!("{:x}", digest.finalize())
}

impl Model {
    fn billed(&self) -> Usd {
        self.charged.values().fold(Usd::ZERO, |sum, cost| add(sum, *cost))
    }

    fn workspaces(&self) -> BTreeSet<&str> {
        self.charged.keys().chain(self.used.keys()).map(String::as_str).collect()
    }

    /// The bill's tokens by tier, without those of some workspaces.
    fn used_without(&self, without: &BTreeSet<&str>) -> BTreeMap<String, BillTokens> {
        let mut used = BTreeMap::<String, BillTokens>::new();
        for (_, tiers) in self.used.iter().filter(|(workspace, _)| !without.contains(workspace.as_str())) {
            tiers.iter().for_each(|(tier, tokens)| used.entry(tier.clone()).or_default().add(tokens));
        }
        // Usage of images and audio does not have tokens.
        used.retain(|_, tokens| tokens.buckets() != [0; 4]);
        used
    }
}

struct Judge<'a> {
    provider: &'static str,
    ours: &'a [String],
    catalog: &'a Catalog,
    at_us: i64,
}

impl Judge<'_> {
    /// The residues of models that differ by more than `tolerance` attodollars.
    fn residues(&self, models: &BTreeMap<String, Model>, tolerance: u128) -> Vec<Residue> {
        let mut found = Vec::new();
        let without_model = models.get("").map(|model| minus(model.billed(), model.recorded_usd));
        let mut without_model = without_model.unwrap_or_default();
        for (name, model) in models.iter().filter(|(name, _)| !name.is_empty()) {
            let mut difference = minus(model.recorded_usd, model.billed());
            if difference > Usd::ZERO && without_model > Usd::ZERO && model.with_extra_units > 0 && same_usage(model) {
                let offset = difference.min(without_model);
                difference = minus(difference, offset);
                without_model = minus(without_model, offset);
            }
            if difference.attos().unsigned_abs() > tolerance {
                self.model(name, model, difference, tolerance, &mut found);
            }
        }
        if without_model.attos().unsigned_abs() > tolerance {
            let note = "charges without a model, such as web searches, code execution and storage".to_owned();
            found.push(residue(ResidueKind::OtherCharge, "", models.get(""), negated(without_model), note));
        }
        found
    }

    /// Splits one model's difference.
    fn model(&self, name: &str, model: &Model, difference: Usd, tolerance: u128, found: &mut Vec<Residue>) {
        let mut rest = difference;
        let foreign = self.foreign(model);
        for workspace in &foreign {
            let charged = model.charged.get(*workspace).copied().unwrap_or_default();
            rest = add(rest, charged);
            if charged != Usd::ZERO {
                found.push(Residue {
                    workspace: (*workspace).to_owned(),
                    ..residue(ResidueKind::OtherWorkspace, name, None, negated(charged), foreign_note(model, workspace))
                });
            }
        }
        if rest.attos().unsigned_abs() <= tolerance {
            return;
        }
        if model.calls == 0 {
            for (workspace, charged) in model.charged.iter().filter(|(name, _)| !foreign.contains(name.as_str())) {
                let note = "the bill has the model, and no call of it is recorded".to_owned();
                let of_workspace = residue(ResidueKind::UnrecordedModel, name, None, negated(*charged), note);
                found.push(Residue { workspace: workspace.clone(), ..of_workspace });
            }
            return;
        }
        let remaining = Model {
            charged: model.charged.iter().filter(|(name, _)| !foreign.contains(name.as_str())).map(owned).collect(),
            ..Model::default()
        };
        let used = model.used_without(&foreign);
        let push = |found: &mut Vec<Residue>, kind, amount, note| {
            found.push(residue(kind, name, Some(&remaining), amount, note));
        };
        if remaining.charged.is_empty() && used.is_empty() {
            let note = format!("{} recorded, and the bill does not have the model", recorded_calls(model.calls));
            return push(found, ResidueKind::NotBilled, rest, note);
        }
        if model.unpriced > 0 {
            let note = format!("{} recorded without a price", recorded_calls(model.unpriced));
            return push(found, ResidueKind::Price, rest, note);
        }
        let (billed, recorded) = (sum(&used), sum(&model.recorded));
        if !used.is_empty() && billed.buckets() != recorded.buckets() {
            let total =
                |tokens: &BillTokens| tokens.buckets().iter().fold(0_u64, |sum, more| sum.saturating_add(*more));
            let is_missing = total(&billed) > total(&recorded);
            let kind = if is_missing { ResidueKind::UnrecordedCalls } else { ResidueKind::NotBilled };
            return push(found, kind, rest, tokens_note(&billed, &recorded));
        }
        for (kind, amount, note) in self.same_tokens(name, &used, &model.recorded, rest) {
            if amount.attos().unsigned_abs() > tolerance {
                push(found, kind, amount, note);
            }
        }
    }

    /// The workspaces whose calls are not recorded.
    fn foreign<'m>(&self, model: &'m Model) -> BTreeSet<&'m str> {
        let workspaces = model.workspaces();
        if !self.ours.is_empty() {
            let is_ours = |id: &str| {
                let id = if id.is_empty() { DEFAULT_WORKSPACE } else { id };
                self.ours.iter().any(|ours| ours == id)
            };
            return workspaces.into_iter().filter(|id| !is_ours(id)).collect();
        }
        let recorded = sum(&model.recorded).buckets();
        if recorded == [0; 4] || sum(&model.used_without(&BTreeSet::new())).buckets() == recorded {
            return BTreeSet::new();
        }
        let explains = |id: &&str| sum(&model.used_without(&BTreeSet::from([*id]))).buckets() == recorded;
        workspaces.into_iter().find(explains).into_iter().collect()
    }

    /// Splits a difference where both sides have the same tokens: by tier, by cache lifetime, and the rest by price.
    fn same_tokens(
        &self,
        model: &str,
        used: &BTreeMap<String, BillTokens>,
        recorded: &BTreeMap<String, BillTokens>,
        rest: Usd,
    ) -> Vec<(ResidueKind, Usd, String)> {
        let (billed, ours) = (sum(used).cache_write_1h, sum(recorded).cache_write_1h);
        // Without usage on the bill, only the cost is known.
        let other_lifetime = !used.is_empty() && billed != ours;
        let other_tier = !used.is_empty() && by_tier(used) != by_tier(recorded);
        let tier_note = format!("billed {}; recorded {}", tiers_note(used), tiers_note(recorded));
        let lifetime_note =
            format!("tokens written to a cache for 1 hour: billed {}, recorded {}", count(billed), count(ours));
        let price = |amount| (ResidueKind::Price, amount, "the usage agrees, the cost does not".to_owned());
        let effect = self.cost(model, recorded).zip(self.cost(model, used)).map(|(ours, billed)| minus(ours, billed));
        match (other_tier, other_lifetime, effect) {
            (false, false, _) => vec![price(rest)],
            (true, false, Some(effect)) => vec![(ResidueKind::Tier, effect, tier_note), price(minus(rest, effect))],
            (false, true, Some(effect)) => {
                vec![(ResidueKind::CacheLifetime, effect, lifetime_note), price(minus(rest, effect))]
            }
            (true, true, Some(effect)) => {
                let lifetime = self.lifetime(model, billed, ours).unwrap_or_default();
                vec![
                    (ResidueKind::Tier, minus(effect, lifetime), tier_note),
                    (ResidueKind::CacheLifetime, lifetime, lifetime_note),
                    price(minus(rest, effect)),
                ]
            }
            // The catalog does not have a price of each tier.
            (true, _, None) => vec![(ResidueKind::Tier, rest, tier_note)],
            (false, true, None) => vec![(ResidueKind::CacheLifetime, rest, lifetime_note)],
        }
    }

    fn rates(&self, model: &str, tier: &str) -> Option<&Rates> {
        let tier = if tier.is_empty() { STANDARD_TIER } else { tier };
        self.catalog.price_at(self.provider, model, tier, self.at_us).map(|price| &price.rates)
    }

    /// Tokens at the catalog's prices; none if one is missing.
    fn cost(&self, model: &str, tiers: &BTreeMap<String, BillTokens>) -> Option<Usd> {
        let mut total = Usd::ZERO;
        for (tier, tokens) in tiers {
            let rates = self.rates(model, tier)?;
            for (tokens, rate) in [
                (tokens.input, rates.input),
                (tokens.output, rates.output),
                (tokens.cache_read, rates.cache_read),
                (tokens.cache_write.saturating_sub(tokens.cache_write_1h), rates.cache_write_5m),
                (tokens.cache_write_1h, rates.cache_write_1h),
            ] {
                if tokens > 0 {
                    total = total.checked_add(rate?.checked_mul(i128::from(tokens))?)?;
                }
            }
        }
        Some(total)
    }

    /// The effect of another cache lifetime at the standard rates.
    fn lifetime(&self, model: &str, billed: u64, ours: u64) -> Option<Usd> {
        let rates = self.rates(model, STANDARD_TIER)?;
        let step = rates.cache_write_1h?.checked_sub(rates.cache_write_5m?)?;
        step.checked_mul(i128::from(ours) - i128::from(billed))
    }
}

fn owned((name, cost): (&String, &Usd)) -> (String, Usd) {
    (name.clone(), *cost)
}

/// Saturates, as [`add`].
fn minus(left: Usd, right: Usd) -> Usd {
    Usd::from_attos(left.attos().saturating_sub(right.attos()))
}

fn negated(amount: Usd) -> Usd {
    minus(Usd::ZERO, amount)
}

fn sum(tiers: &BTreeMap<String, BillTokens>) -> BillTokens {
    let mut sum = BillTokens::default();
    tiers.values().for_each(|tokens| sum.add(tokens));
    sum
}

/// Tokens by tier, without tiers that have none.
fn by_tier(tiers: &BTreeMap<String, BillTokens>) -> BTreeMap<&str, [u64; 4]> {
    let mut found = BTreeMap::new();
    for (tier, tokens) in tiers.iter().filter(|(_, tokens)| tokens.buckets() != [0; 4]) {
        let tier = if tier.is_empty() { STANDARD_TIER } else { tier.as_str() };
        let sums: &mut [u64; 4] = found.entry(tier).or_default();
        sums.iter_mut().zip(tokens.buckets()).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
    found
}

fn same_usage(model: &Model) -> bool {
    let used = model.used_without(&BTreeSet::new());
    by_tier(&used) == by_tier(&model.recorded) && sum(&used).cache_write_1h == sum(&model.recorded).cache_write_1h
}

/// A residue of a model. Its workspace is named if there is one alone.
fn residue(kind: ResidueKind, name: &str, model: Option<&Model>, difference_usd: Usd, note: String) -> Residue {
    let workspaces = model.map(Model::workspaces).unwrap_or_default();
    let workspace = match workspaces.len() {
        1 => workspaces.first().copied().unwrap_or_default(),
        _ => "",
    };
    Residue { kind, model: name.to_owned(), workspace: workspace.to_owned(), difference_usd, note }
}

#[cfg(test)]
mod tests;
