//! The vendor's bill, read from its exports and compared with the recorded calls.
//!
//! | module | content |
//! |---|---|
//! | `anthropic` | pages of the Admin API's cost report and usage report |
//! | `openai` | pages of the organization's costs and completions usage |
//! | `openrouter` | answers of the activity endpoint |
//! | `table` | CSV exports of the vendors' consoles, by the names of their columns |
//! | [`compare`] | the difference by day and model, and likely reasons |
//! | [`close`] | a vendor-day: matched, or its residue by cause |
//!
//! A bill is a sum by UTC day, provider and model, because the vendors bill UTC days. A model is named by its family,
//! so that `claude-sonnet-4-5-20250929` on the bill matches `claude-sonnet-4-5` in the records. Charges without a model
//! (web searches, a total that was not grouped) have the empty name and count only in the day's total.
//!
//! Costs and usage come in different exports, and each period may be given once of each. A second export of a period is
//! refused, because it would count twice. Money is exact, except where a vendor writes a binary float's digits beyond
//! 10^-18 USD.

mod anthropic;
pub mod close;
pub mod compare;
mod openai;
mod openrouter;
mod table;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::json::Value;
use chrono::NaiveDate;
use serde::Serialize;

use crate::files::{DateOrder, Numbers};
use crate::pricing::{Usd, family};

/// Known vendors: the provider's name in the records, and the vendor's name in help and errors.
pub const VENDORS: [(&str, &str); 3] = [("claude", "Anthropic"), ("openai", "OpenAI"), ("openrouter", "OpenRouter")];

/// The number and date formats of the tables. The default is the vendors' own.
#[derive(Debug, Clone, Copy, Default)]
pub struct BillForm {
    /// Numbers.
    pub numbers: Numbers,
    /// The order of a date such as `8/5/2026`; none refuses such dates.
    pub dates: Option<DateOrder>,
}

/// The key of a bill's line. `model` is a family, or empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BillKey {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// The provider's name in the records; one of [`VENDORS`].
    pub provider: &'static str,
    /// The model's family; empty for charges that are not split by model.
    pub model: String,
}

/// Tokens in disjoint buckets. Some exports have fewer: OpenAI does not have cache writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BillTokens {
    /// Neither read from nor written to a cache.
    pub input: u64,
    /// Output, with thinking.
    pub output: u64,
    /// Read from a cache.
    pub cache_read: u64,
    /// Written to a cache, for any duration.
    pub cache_write: u64,
    /// Those of `cache_write` that were written for an hour; 0 where an export does not tell.
    pub cache_write_1h: u64,
}

impl BillTokens {
    pub(super) const fn add(&mut self, more: &Self) {
        self.input = self.input.saturating_add(more.input);
        self.output = self.output.saturating_add(more.output);
        self.cache_read = self.cache_read.saturating_add(more.cache_read);
        self.cache_write = self.cache_write.saturating_add(more.cache_write);
        self.cache_write_1h = self.cache_write_1h.saturating_add(more.cache_write_1h);
    }

    /// The counts that every usage export has.
    pub(super) const fn buckets(&self) -> [u64; 4] {
        [self.input, self.output, self.cache_read, self.cache_write]
    }
}

/// The finer key of a charge or of usage. Texts are empty where the export does not tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct BillPart {
    /// The id of the workspace (Anthropic) or project (OpenAI).
    pub workspace: String,
    /// The service tier, by the catalog's name.
    pub tier: String,
}

/// The charges under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BillSums {
    /// From a cost export.
    pub cost_usd: Option<Usd>,
    /// From a usage export.
    pub tokens: Option<BillTokens>,
}

/// The content of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Costs.
    Cost,
    /// Usage of models that answer: Anthropic's messages, OpenAI's completions.
    Usage,
    /// Another usage of OpenAI's, such as `embeddings`.
    Other(&'static str),
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Cost => "costs",
            Self::Usage => "usage",
            Self::Other(name) => name,
        }
    }
}

/// A vendor's bill.
#[derive(Debug, Default)]
pub struct Bill {
    form: BillForm,
    sums: BTreeMap<BillKey, BillSums>,
    /// The same, by finer keys.
    parts: BTreeMap<(BillKey, BillPart), BillSums>,
    /// Days that the exports cover, including those without a line, each with its file.
    covered: BTreeMap<(NaiveDate, &'static str, Kind), String>,
}

/// Why a file is not a bill.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// Its form is none that is known.
    #[error(
        "{file} is not a known export. hint: Anthropic's cost_report or usage_report/messages, OpenAI's \
         organization/costs or organization/usage/completions (and the other usage of models), OpenRouter's activity as JSON, or the CSV that their \
         consoles and OpenRouter's activity page export"
    )]
    Unknown {
        /// The file.
        file: String,
    },
    /// A value in it cannot be read.
    #[error("{file}, {place}: {reason}")]
    Wrong {
        /// The file.
        file: String,
        /// The line or the bucket.
        place: String,
        /// Its error.
        reason: String,
    },
    /// Two files have the same day.
    #[error(
        "{file} and {other} both have {provider}'s {kind} of {day}: it would count twice. hint: give each period once"
    )]
    Twice {
        /// The file.
        file: String,
        /// The earlier file.
        other: String,
        /// The provider.
        provider: &'static str,
        /// `costs` or `usage`.
        kind: &'static str,
        /// The day.
        day: NaiveDate,
    },
}

impl Bill {
    /// An empty bill, for tables of this form.
    #[must_use]
    pub fn in_form(form: BillForm) -> Self {
        Self { form, ..Self::default() }
    }

    /// Adds an export's text. `file` is for errors.
    ///
    /// # Errors
    /// [`BillError`]; the bill must then be dropped.
    pub fn read(&mut self, file: &str, text: &str) -> Result<(), BillError> {
        self.read_of(file, text, None)
    }

    /// Adds the pages of a vendor's report, one after the other. Each of its days is covered, also if none has a result.
    ///
    /// # Errors
    /// [`BillError`], also if the report has other content; the bill must then be dropped.
    pub fn read_report(&mut self, provider: &'static str, kind: Kind, file: &str, text: &str) -> Result<(), BillError> {
        self.read_of(file, text, Some((provider, kind)))
    }

    fn read_of(&mut self, file: &str, text: &str, report: Option<(&'static str, Kind)>) -> Result<(), BillError> {
        let mut page = Page { bill: self, file, days: BTreeSet::new(), buckets: BTreeSet::new(), report };
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with(['{', '[']) {
            read_json(&mut page, text)?;
        } else {
            table::read(&mut page, text)?;
        }
        if report.is_some_and(|report| page.days.iter().any(|(_, provider, kind)| (*provider, *kind) != report)) {
            return Err(page.unknown());
        }
        let days = page.days;
        for (day, provider, kind) in days {
            if let Some(other) = self.covered.insert((day, provider, kind), file.to_owned()) {
                let kind = kind.name();
                return Err(BillError::Twice { file: file.to_owned(), other, provider, kind, day });
            }
        }
        Ok(())
    }

    /// The lines, by day, provider and model.
    #[must_use]
    pub const fn sums(&self) -> &BTreeMap<BillKey, BillSums> {
        &self.sums
    }

    /// The lines of a provider's day, by model, workspace and tier.
    pub fn parts(
        &self,
        day: NaiveDate,
        provider: &'static str,
    ) -> impl Iterator<Item = (&BillKey, &BillPart, &BillSums)> {
        let parts = self.parts.iter().filter(move |((key, _), _)| key.day == day && key.provider == provider);
        parts.map(|((key, part), sums)| (key, part, sums))
    }

    /// True if there are both costs and usage of a provider's day.
    #[must_use]
    pub fn is_whole(&self, day: NaiveDate, provider: &'static str) -> bool {
        [Kind::Cost, Kind::Usage].iter().all(|kind| self.covered.contains_key(&(day, provider, *kind)))
    }

    /// The days that the exports cover, by provider.
    #[must_use]
    pub fn days(&self) -> BTreeSet<(NaiveDate, &'static str)> {
        self.covered.keys().map(|(day, provider, _)| (*day, *provider)).collect()
    }
}

/// The file being read.
struct Page<'b> {
    bill: &'b mut Bill,
    file: &'b str,
    days: BTreeSet<(NaiveDate, &'static str, Kind)>,
    /// The beginnings of the buckets read so far, as the vendor writes them.
    buckets: BTreeSet<(String, Kind)>,
    /// The expected content of a report; none of a file.
    report: Option<(&'static str, Kind)>,
}

/// A charge's or usage's day, provider, model as the vendor names it, and finer key.
struct Line<'l> {
    day: NaiveDate,
    provider: &'static str,
    model: &'l str,
    part: BillPart,
}

impl<'l> Line<'l> {
    /// Of an export without finer keys.
    fn whole(day: NaiveDate, provider: &'static str, model: &'l str) -> Self {
        Self { day, provider, model, part: BillPart::default() }
    }
}

impl Page<'_> {
    fn unknown(&self) -> BillError {
        BillError::Unknown { file: self.file.to_owned() }
    }

    fn wrong(&self, place: impl Into<String>, reason: impl Into<String>) -> BillError {
        BillError::Wrong { file: self.file.to_owned(), place: place.into(), reason: reason.into() }
    }

    /// Notes that the file covers a day, with or without usage.
    fn covers(&mut self, day: NaiveDate, provider: &'static str, kind: Kind) {
        debug_assert!(VENDORS.iter().any(|(known, _)| *known == provider), "{provider} is not in bill::VENDORS");
        self.days.insert((day, provider, kind));
    }

    /// Notes a bucket with results, to detect a page that is in the file twice.
    fn once(&mut self, place: &str, kind: Kind) -> Result<(), BillError> {
        if self.buckets.insert((place.to_owned(), kind)) {
            return Ok(());
        }
        Err(self.wrong(place, format!("its {} stand here a second time: give each page once", kind.name())))
    }

    /// The sums of a line: by model, and by model and part.
    fn sums(&mut self, line: Line<'_>) -> [&mut BillSums; 2] {
        let key = BillKey { day: line.day, provider: line.provider, model: family(line.model).to_owned() };
        let sum = self.bill.sums.entry(key.clone()).or_default();
        [sum, self.bill.parts.entry((key, line.part)).or_default()]
    }

    fn add_cost(&mut self, line: Line<'_>, place: &str, cost: Usd) -> Result<(), BillError> {
        self.covers(line.day, line.provider, Kind::Cost);
        let total = |sums: &BillSums| sums.cost_usd.unwrap_or_default().checked_add(cost);
        let [sum, part] = self.sums(line);
        if let (Some(of_sum), Some(of_part)) = (total(sum), total(part)) {
            (sum.cost_usd, part.cost_usd) = (Some(of_sum), Some(of_part));
            return Ok(());
        }
        Err(self.wrong(place, "the sum is too large an amount"))
    }

    fn add_tokens(&mut self, line: Line<'_>, kind: Kind, tokens: BillTokens) {
        self.covers(line.day, line.provider, kind);
        for sums in self.sums(line) {
            sums.tokens.get_or_insert_default().add(&tokens);
        }
    }
}

/// One page, an array of pages, or pages one after the other.
fn read_json(page: &mut Page<'_>, text: &str) -> Result<(), BillError> {
    let mut buckets = Vec::new();
    for document in Value::read_all(text).map_err(|error| page.wrong("as JSON", error.to_string()))? {
        let pages = match document {
            Value::Array(pages) => pages,
            page => vec![page],
        };
        for each in pages {
            match each {
                Value::Object(mut fields) => match fields.remove("data") {
                    Some(Value::Array(data)) => buckets.extend(data),
                    _ => return Err(page.unknown()),
                },
                _ => return Err(page.unknown()),
            }
        }
    }
    if buckets.first().is_some_and(openrouter::is_item) {
        return openrouter::read(page, &buckets);
    }
    if let Some((provider, kind)) = page.report {
        for day in buckets.iter().filter_map(|bucket| openai::day(bucket).or_else(|| anthropic::day(bucket))) {
            page.covers(day, provider, kind);
        }
    }
    // A bucket without results has the kind of the other buckets.
    let kind = buckets.iter().find_map(|bucket| bucket["results"].as_array().and_then(|results| results.first()));
    match kind {
        Some(first) if first["object"].is_string() => openai::read(page, &buckets),
        Some(_) => anthropic::read(page, &buckets),
        None if buckets.iter().any(|bucket| bucket["results"].is_array()) => Ok(()),
        None => Err(page.unknown()),
    }
}

/// A count of an export: a missing one is 0, and any other invalid value is an error.
fn count(of: &Value, field: &str) -> Result<u64, String> {
    match &of[field] {
        Value::Null => Ok(0),
        value => value.as_u64().ok_or_else(|| format!("{field} is not a count: {value}")),
    }
}

/// A vendor's amount, times ten to the `-shift`.
fn amount(text: &str, shift: u32) -> Result<Usd, String> {
    let exact = Usd::parse(text).or_else(|error| match error {
        crate::decimal::DecimalError::TooPrecise { .. } => Usd::parse(&cut(text)),
        _ => Err(error),
    });
    let usd = exact.map_err(|error| format!("{text:?} is not an amount: {error}"))?;
    Ok(Usd::from_attos(usd.attos() / 10_i128.pow(shift)))
}

/// The digits of a binary float from the vendor, without those beyond 10^-18 USD.
fn cut(text: &str) -> Cow<'_, str> {
    let kept = text.find('.').map_or(text.len(), |point| point + 1 + usize::from(Usd::DECIMALS));
    match text.parse::<f64>() {
        // Tiny amounts with an exponent: their digits are noise.
        Ok(float) if text.contains(['e', 'E']) => Cow::Owned(format!("{float:.18}")),
        _ => Cow::Borrowed(text.get(..kept).unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests;
