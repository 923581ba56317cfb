//! A part of a day's difference, by its cause.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bill::compare::add;
use crate::pricing::Usd;
use crate::wording::noun;

/// Residues of a day; the smallest beyond them are added up by kind.
pub(super) const RESIDUES_MAX: usize = 200;

/// Why the records differ from the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResidueKind {
    /// A model of the bill has no recorded call.
    UnrecordedModel,
    /// The bill has more tokens of a model than the records.
    UnrecordedCalls,
    /// Recorded calls are not on the bill.
    NotBilled,
    /// The same tokens in another service tier: batch, priority, flex.
    Tier,
    /// The same tokens written to a cache for another time: 5 minutes or 1 hour.
    CacheLifetime,
    /// A workspace or project whose calls are not recorded.
    OtherWorkspace,
    /// The same usage at another price, or recorded calls without one.
    Price,
    /// A charge without a model: web searches, code execution, storage.
    OtherCharge,
}

impl ResidueKind {
    /// The name in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::UnrecordedModel => "unrecorded model",
            Self::UnrecordedCalls => "unrecorded calls",
            Self::NotBilled => "not billed",
            Self::Tier => "service tier",
            Self::CacheLifetime => "cache lifetime",
            Self::OtherWorkspace => "other workspace",
            Self::Price => "price",
            Self::OtherCharge => "other charge",
        }
    }
}

/// A part of a day's difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Residue {
    /// Its cause.
    pub kind: ResidueKind,
    /// The model; empty for charges without one.
    pub model: String,
    /// The vendor's id of the workspace or project; empty if several have a part in it, or the vendor names none.
    pub workspace: String,
    /// Recorded minus billed.
    #[schema(value_type = String, example = "-1.25")]
    pub difference_usd: Usd,
    /// The evidence, such as tokens of both sides.
    pub note: String,
}

/// The largest residues, and the rest added up by kind.
pub(super) fn bounded(mut residues: Vec<Residue>) -> Vec<Residue> {
    residues.sort_by_key(|residue| std::cmp::Reverse(residue.difference_usd.attos().unsigned_abs()));
    if residues.len() <= RESIDUES_MAX {
        return residues;
    }
    let mut rest = BTreeMap::<ResidueKind, (u64, Usd)>::new();
    for residue in residues.drain(RESIDUES_MAX..) {
        let (number, sum) = rest.entry(residue.kind).or_default();
        (*number, *sum) = (*number + 1, add(*sum, residue.difference_usd));
    }
    for (kind, (number, difference_usd)) in rest {
        let note = noun(number, "smaller residue", "smaller residues");
        let (model, workspace) = ("(other)".to_owned(), String::new());
        residues.push(Residue { kind, model, workspace, difference_usd, note });
    }
    residues
}
