//! CSV as the vendors' consoles export it. The columns are found by their names, so their order and others do not matter.
//!
//! | vendor | export | columns that are read |
//! |---|---|---|
//! | Anthropic | cost | `usage_date_utc`, `model`, `cost_usd` |
//! | Anthropic | usage | `usage_date_utc`, `model_version` or `model`, `usage_input_tokens_no_cache`, `usage_input_tokens_cache_read`, `usage_input_tokens_cache_write_5m`, `usage_input_tokens_cache_write_1h`, `usage_output_tokens` |
//! | OpenAI | costs | `start_time`, `amount_value`, `line_item` |
//! | OpenAI | completions usage | `start_time`, `model`, `input_tokens`, `input_cached_tokens`, `output_tokens` |
//!
//! The vendors describe these files nowhere; OpenAI's names are those of its API, Anthropic's are as its console writes
//! them. A file whose columns are others is refused as unknown, never read in part.

use chrono::{DateTime, NaiveDate};
use csv::StringRecord;

use super::{BillError, BillTokens, Kind, Page, amount, openai};

struct Row<'r> {
    header: &'r StringRecord,
    fields: &'r StringRecord,
}

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        let at = self.header.iter().position(|name| name.trim() == column);
        at.and_then(|at| self.fields.get(at)).unwrap_or_default().trim()
    }

    fn count(&self, column: &str) -> Result<u64, String> {
        match self.text(column) {
            "" => Ok(0),
            text => text.parse().map_err(|_| format!("{column} is no count: {text:?}")),
        }
    }
}

type Reader = fn(&mut Page<'_>, &Row<'_>, &str) -> Result<(), BillError>;

/// The forms, each with the columns that it must have.
const FORMS: [(&[&str], Reader); 4] = [
    (&["usage_date_utc", "cost_usd"], anthropic_cost),
    (&["usage_date_utc", "usage_input_tokens_no_cache", "usage_output_tokens"], anthropic_usage),
    (&["start_time", "amount_value"], openai_cost),
    (&["start_time", "model", "input_tokens", "output_tokens"], openai_usage),
];

pub(super) fn read(page: &mut Page<'_>, text: &str) -> Result<(), BillError> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains('\t') { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| page.wrong("line 1", error.to_string()))?.clone();
    let has = |column: &&str| header.iter().any(|name| name.trim() == *column);
    let Some((_, read)) = FORMS.iter().find(|(columns, _)| columns.iter().all(has)) else {
        return Err(page.unknown());
    };
    for record in reader.records() {
        let fields = record.map_err(|error| page.wrong("as CSV", error.to_string()))?;
        let place = format!("line {}", fields.position().map_or(0, csv::Position::line));
        read(page, &Row { header: &header, fields: &fields }, &place)?;
    }
    Ok(())
}

fn anthropic_cost(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = date(page, row, place)?;
    let usd = amount(row.text("cost_usd"), 0).map_err(|reason| page.wrong(place, reason))?;
    page.add_cost((day, "claude", row.text("model")), place, usd)
}

fn anthropic_usage(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = date(page, row, place)?;
    let read = || -> Result<BillTokens, String> {
        Ok(BillTokens {
            input: row.count("usage_input_tokens_no_cache")?,
            output: row.count("usage_output_tokens")?,
            cache_read: row.count("usage_input_tokens_cache_read")?,
            cache_write: row
                .count("usage_input_tokens_cache_write_5m")?
                .saturating_add(row.count("usage_input_tokens_cache_write_1h")?),
        })
    };
    let tokens = read().map_err(|reason| page.wrong(place, reason))?;
    let model = match row.text("model_version") {
        "" => row.text("model"),
        version => version,
    };
    page.add_tokens((day, "claude", model), tokens);
    Ok(())
}

fn openai_cost(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = seconds(page, row, place)?;
    // A day without costs has an empty row.
    page.covers(day, "openai", Kind::Cost);
    let text = row.text("amount_value");
    if text.is_empty() {
        return Ok(());
    }
    let usd = amount(text, 0).map_err(|reason| page.wrong(place, reason))?;
    page.add_cost((day, "openai", openai::model_of(row.text("line_item"))), place, usd)
}

fn openai_usage(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = seconds(page, row, place)?;
    page.covers(day, "openai", Kind::Usage);
    let read = || -> Result<BillTokens, String> {
        let [input, cached, output] = ["input_tokens", "input_cached_tokens", "output_tokens"].map(|c| row.count(c));
        Ok(openai::tokens(input?, cached?, output?))
    };
    let tokens = read().map_err(|reason| page.wrong(place, reason))?;
    if tokens != BillTokens::default() {
        page.add_tokens((day, "openai", row.text("model")), tokens);
    }
    Ok(())
}

fn date(page: &Page<'_>, row: &Row<'_>, place: &str) -> Result<NaiveDate, BillError> {
    let text = row.text("usage_date_utc");
    // Some exports add the hour.
    let date = text.get(..10).and_then(|date| NaiveDate::parse_from_str(date, "%Y-%m-%d").ok());
    date.ok_or_else(|| page.wrong(place, format!("usage_date_utc is no date: {text:?}")))
}

fn seconds(page: &Page<'_>, row: &Row<'_>, place: &str) -> Result<NaiveDate, BillError> {
    let text = row.text("start_time");
    let at = text.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map(|at| at.date_naive())
        .ok_or_else(|| page.wrong(place, format!("start_time is no count of seconds: {text:?}")))
}
