//! The record of closed vendor-days: entries that are only ever added, each with the hash of the one before.
//!
//! An entry's hash is the SHA-256 of its canonical text: one line of JSON with all fields but `hash`, keys sorted, no
//! spaces. Amounts are decimal text and instants RFC 3339 in UTC with microseconds, so that the text is the same wherever
//! an entry was stored. A changed, removed or inserted entry breaks the chain from there on. Entries that were cut off at
//! the end are only noticed with a hash that was noted before.
//!
//! A day is closed (`matched` or `differs`) as often as it was compared after it had opened (`open`). The last entry of
//! a vendor's day holds.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::bill::close::Residue;
use crate::pricing::Usd;

/// Where a vendor-day stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClosingState {
    /// Bill and records agree to the cent.
    Matched,
    /// They differ; the residues say why.
    Differs,
    /// A closed day that has changed since, and waits for its next comparison.
    Open,
}

impl ClosingState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Matched, Self::Differs, Self::Open];

    /// Its name in the table and in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Differs => "differs",
            Self::Open => "open",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why a closed day opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClosingCause {
    /// Calls of the day were recorded after it was closed.
    LateCalls,
    /// Calls of the day were removed, such as duplicates.
    CallsRemoved,
    /// Stored costs were computed anew or changed.
    Repriced,
    /// An admin has amended or voided a call of the day.
    Amended,
    /// The vendor has changed the bill.
    BillCorrected,
}

impl ClosingCause {
    /// All causes.
    pub const ALL: [Self; 5] =
        [Self::LateCalls, Self::CallsRemoved, Self::Repriced, Self::Amended, Self::BillCorrected];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LateCalls => "late_calls",
            Self::CallsRemoved => "calls_removed",
            Self::Repriced => "repriced",
            Self::Amended => "amended",
            Self::BillCorrected => "bill_corrected",
        }
    }

    /// The cause of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Closed {
    /// `anthropic` or `openai`.
    pub vendor: String,
    /// The day, in UTC.
    pub day: NaiveDate,
    /// Where the day stands from this entry on.
    pub state: ClosingState,
    /// Why the day opened; null if it was closed.
    pub cause: Option<ClosingCause>,
    /// Recorded calls of the day.
    pub calls: i64,
    /// Those of them that are unpriced.
    pub unpriced_calls: i64,
    /// Their cost.
    #[schema(value_type = String, example = "31.2")]
    pub recorded_usd: Usd,
    /// The bill's cost.
    #[schema(value_type = String, example = "31.2")]
    pub billed_usd: Usd,
    /// The parts of the difference, the largest first. Empty if the day is matched or open.
    pub residues: Vec<Residue>,
    /// SHA-256 of the bill's lines of the day.
    pub bill_sha256: String,
    /// The ids of the prices of the recorded calls.
    pub price_ids: Vec<i32>,
    /// Sums of the day in `hourly_api_costs`, by which changes are noticed.
    pub sums: String,
    /// When the entry was made.
    pub at: DateTime<Utc>,
}

/// An entry of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Closing {
    /// Its place, from 1 on.
    pub number: i64,
    /// Its content.
    #[serde(flatten)]
    pub closed: Closed,
    /// The hash of the entry before; empty in the first.
    pub previous: String,
    /// The hash of this entry.
    pub hash: String,
}

/// Why a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The entry has another number than the one after its predecessor's.
    #[error("entry {found} stands where entry {expected} should be: entries were removed, added or moved")]
    Number {
        /// The number of the place.
        expected: i64,
        /// The entry's number.
        found: i64,
    },
    /// The entry does not continue its predecessor.
    #[error("entry {number} continues another entry than the one before it")]
    Previous {
        /// The entry.
        number: i64,
    },
    /// The entry was changed.
    #[error("entry {number} ({vendor}, {day}) was changed: its hash is not that of its content")]
    Hash {
        /// The entry.
        number: i64,
        /// Its vendor.
        vendor: String,
        /// Its day.
        day: NaiveDate,
    },
    /// The entries end before the noted hash.
    #[error("no entry has the hash {head}: entries were cut off at the end, or the hash is of another record")]
    Head {
        /// The noted hash.
        head: String,
    },
}

impl Closed {
    /// Recorded minus billed.
    #[must_use]
    pub fn difference(&self) -> Usd {
        Usd::from_attos(self.recorded_usd.attos().saturating_sub(self.billed_usd.attos()))
    }
}

impl Closing {
    /// The entry with this content after another one.
    #[must_use]
    pub fn after(last: Option<&Self>, closed: Closed) -> Self {
        let (number, previous) = last.map_or((1, String::new()), |last| (last.number + 1, last.hash.clone()));
        let entry = Self { number, closed, previous, hash: String::new() };
        Self { hash: entry.computed(), ..entry }
    }

    /// Reads a line of an export.
    ///
    /// # Errors
    /// A sentence, also if the line has anything that the hash does not cover.
    pub fn read(line: &str) -> Result<Self, String> {
        let value: Value = crate::json::from_str(line).map_err(|error| error.to_string())?;
        let entry: Self = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        if json!(entry) == value { Ok(entry) } else { Err("it is not as an export writes an entry".to_owned()) }
    }

    /// The hash of its content.
    fn computed(&self) -> String {
        let closed = &self.closed;
        let text = canonical(&json!({
            "at": closed.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "bill_sha256": closed.bill_sha256,
            "billed_usd": closed.billed_usd,
            "calls": closed.calls,
            "cause": closed.cause,
            "day": closed.day,
            "number": self.number,
            "previous": self.previous,
            "price_ids": closed.price_ids,
            "recorded_usd": closed.recorded_usd,
            "residues": closed.residues,
            "state": closed.state,
            "sums": closed.sums,
            "unpriced_calls": closed.unpriced_calls,
            "vendor": closed.vendor,
        }));
        format!("{:x}", Sha256::digest(text))
    }
}

/// JSON with sorted keys and without spaces.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members: Vec<String> =
                members.into_iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// Follows a chain from its first entry on.
#[derive(Debug, Default)]
pub struct Chain {
    last: Option<(i64, String)>,
}

impl Chain {
    /// Checks the next entry.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn next(&mut self, entry: &Closing) -> Result<(), ChainError> {
        let (expected, previous) = self.last.as_ref().map_or((1, ""), |(number, hash)| (number + 1, hash));
        let Closing { number, closed, .. } = entry;
        if *number != expected {
            return Err(ChainError::Number { expected, found: *number });
        }
        if entry.previous != previous {
            return Err(ChainError::Previous { number: *number });
        }
        if entry.hash != entry.computed() {
            return Err(ChainError::Hash { number: *number, vendor: closed.vendor.clone(), day: closed.day });
        }
        self.last = Some((*number, entry.hash.clone()));
        Ok(())
    }

    /// Number and hash of the last entry; none before the first.
    #[must_use]
    pub fn head(&self) -> Option<(i64, &str)> {
        self.last.as_ref().map(|(number, hash)| (*number, hash.as_str()))
    }
}

#[cfg(test)]
mod tests;
