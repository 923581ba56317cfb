//! CSV exports of the vendors' consoles. The columns are found by their names, in any order and among others.
//!
//! | vendor | export | columns that are read |
//! |---|---|---|
//! | Anthropic | cost | `usage_date_utc`, `model`, `cost_usd` |
//! | Anthropic | usage | `usage_date_utc`, `model_version` or `model`, `usage_input_tokens_no_cache`, `usage_input_tokens_cache_read`, `usage_input_tokens_cache_write_5m`, `usage_input_tokens_cache_write_1h`, `usage_output_tokens` |
//! | OpenAI | costs | `start_time`, `amount_value`, `line_item` |
//! | OpenAI | completions usage | `start_time`, `model`, `input_tokens`, `input_cached_tokens`, `output_tokens` |
//! | OpenRouter | activity | `created_at`, `model_permaslug`, `cost_total`, `byok_usage_inference`, `tokens_prompt`, `tokens_cached`, `tokens_completion` |
//!
//! Dates and numbers may have gone through a spreadsheet: see [`crate::files`]. The vendors do not describe these
//! files. OpenAI's names are those of its API, Anthropic's are those of its console's exports. A file with other
//! columns is refused as unknown, never read in part.

use std::borrow::Cow;
use std::io::BufReader;

use chrono::{DateTime, NaiveDate};
use csv::StringRecord;

use super::{BillError, BillTokens, Kind, Line, Page, amount, openai};
use crate::files;
use crate::pricing::Usd;

struct Row<'r> {
    header: &'r StringRecord,
    fields: &'r StringRecord,
    form: super::BillForm,
}

/// Columns with the currency of a row's amount.
const CURRENCIES: [&str; 3] = ["amount_currency", "currency", "cost_currency"];

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        let at = self.header.iter().position(|name| name.trim() == column);
        at.and_then(|at| self.fields.get(at)).unwrap_or_default().trim()
    }

    fn count(&self, column: &str) -> Result<u64, String> {
        match self.text(column) {
            "" => Ok(0),
            text => {
                let plain = self.form.numbers.plain(text).map_err(|reason| format!("{column}: {reason}"))?;
                plain.parse().map_err(|_| format!("{column} is not a count: {text:?}"))
            }
        }
    }

    /// An amount in USD. Another currency, named by a column or a sign, is refused, because the amount is compared with
    /// dollars.
    fn usd(&self, column: &str) -> Result<Usd, String> {
        let foreign = |currency: &str| format!("amounts are in {currency}, and only USD is kept");
        let stated = CURRENCIES.iter().map(|column| self.text(column)).find(|currency| !currency.is_empty());
        if let Some(currency) = stated.filter(|currency| !currency.eq_ignore_ascii_case("usd")) {
            return Err(foreign(currency));
        }
        let text = self.text(column);
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        let digits = ["US$", "USD", "$"].iter().find_map(|mark| digits.strip_prefix(mark)).unwrap_or(digits);
        let digits = ["USD", "$"].iter().find_map(|mark| digits.strip_suffix(mark)).unwrap_or(digits).trim();
        // A single letter is an exponent.
        let letters: String = digits.chars().filter(|char| char.is_alphabetic()).collect();
        let mark = digits.chars().find(|char| "€£¥₹₩₽₺฿₴₦₫₱¢$".contains(*char));
        if letters.chars().count() > 1 || mark.is_some() {
            return Err(foreign(text));
        }
        let plain = self.form.numbers.plain(digits).map_err(|reason| format!("{column}: {reason}"))?;
        amount(&format!("{sign}{plain}"), 0)
    }

    fn day(&self, column: &str) -> Result<NaiveDate, String> {
        files::day(self.text(column), self.form.dates).map_err(|reason| format!("{column}: {reason}"))
    }
}

type Reader = fn(&mut Page<'_>, &Row<'_>, &str) -> Result<(), BillError>;

/// The forms, each with its required columns. The first form whose columns are all there is used.
const FORMS: [(&[&str], Reader); 5] = [
    (&["usage_date_utc", "cost_usd"], anthropic_cost),
    (&["usage_date_utc", "usage_input_tokens_no_cache", "usage_output_tokens"], anthropic_usage),
    (&["start_time", "amount_value"], openai_cost),
    (&["start_time", "model", "input_tokens", "output_tokens"], openai_usage),
    (&["generation_id", "created_at", "cost_total"], openrouter),
];

/// Cell separators; the one with which the first line has a known form is used.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

pub(super) fn read(page: &mut Page<'_>, text: &str) -> Result<(), BillError> {
    let mut rest = BufReader::new(text.as_bytes());
    // The reader is text in memory, so it does not fail.
    let said = files::separator(&mut rest).ok().flatten();
    let (said, skipped) = said.map_or((None, 0), |(separator, bytes)| (Some(separator), bytes));
    let text = text.get(skipped..).unwrap_or_default();
    let lines_before = u64::from(skipped > 0) + files::line_shift(text.as_bytes());
    let reader =
        |delimiter: u8| csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let form = said.into_iter().chain(SEPARATORS).find_map(|delimiter| {
        let header = reader(delimiter).headers().ok()?.clone();
        let has = |column: &&str| header.iter().any(|name| name.trim() == *column);
        let (_, read) = FORMS.iter().find(|(columns, _)| columns.iter().all(has))?;
        Some((delimiter, header, *read))
    });
    let Some((delimiter, header, read)) = form else { return Err(page.unknown()) };
    let form = page.bill.form;
    for record in reader(delimiter).records() {
        let fields = record.map_err(|error| page.wrong("as CSV", error.to_string()))?;
        let place = format!("line {}", lines_before + fields.position().map_or(0, csv::Position::line));
        read(page, &Row { header: &header, fields: &fields, form }, &place)?;
    }
    Ok(())
}

fn anthropic_cost(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let (day, usd) = (row.day("usage_date_utc"), row.usd("cost_usd"));
    let (day, usd) =
        (day.map_err(|reason| page.wrong(place, reason))?, usd.map_err(|reason| page.wrong(place, reason))?);
    page.add_cost(Line::whole(day, "claude", &console_model(row.text("model"))), place, usd)
}

fn anthropic_usage(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = row.day("usage_date_utc").map_err(|reason| page.wrong(place, reason))?;
    let read = || -> Result<BillTokens, String> {
        let long = row.count("usage_input_tokens_cache_write_1h")?;
        Ok(BillTokens {
            input: row.count("usage_input_tokens_no_cache")?,
            output: row.count("usage_output_tokens")?,
            cache_read: row.count("usage_input_tokens_cache_read")?,
            cache_write: row.count("usage_input_tokens_cache_write_5m")?.saturating_add(long),
            cache_write_1h: long,
        })
    };
    let tokens = read().map_err(|reason| page.wrong(place, reason))?;
    let model = match row.text("model_version") {
        "" => row.text("model"),
        version => version,
    };
    page.add_tokens(Line::whole(day, "claude", &console_model(model)), Kind::Usage, tokens);
    Ok(())
}

fn openai_cost(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let day = seconds(page, row, place)?;
    // A day without costs has an empty row.
    page.covers(day, "openai", Kind::Cost);
    if row.text("amount_value").is_empty() {
        return Ok(());
    }
    let usd = row.usd("amount_value").map_err(|reason| page.wrong(place, reason))?;
    page.add_cost(Line::whole(day, "openai", openai::model_of(row.text("line_item"))), place, usd)
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
        page.add_tokens(Line::whole(day, "openai", row.text("model")), Kind::Usage, tokens);
    }
    Ok(())
}

/// A generation. A vendor's charge for the customer's own key is included, as on OpenRouter's page.
fn openrouter(page: &mut Page<'_>, row: &Row<'_>, place: &str) -> Result<(), BillError> {
    let read = || -> Result<(NaiveDate, Usd, BillTokens), String> {
        let own_key = match row.text("byok_usage_inference") {
            "" => Usd::ZERO,
            _ => row.usd("byok_usage_inference")?,
        };
        let usd = row.usd("cost_total")?.checked_add(own_key).ok_or("the sum is too large an amount")?;
        let [prompt, cached, output] = ["tokens_prompt", "tokens_cached", "tokens_completion"].map(|c| row.count(c));
        Ok((row.day("created_at")?, usd, openai::tokens(prompt?, cached?, output?)))
    };
    let (day, usd, tokens) = read().map_err(|reason| page.wrong(place, reason))?;
    let line = || Line::whole(day, "openrouter", row.text("model_permaslug"));
    page.add_cost(line(), place, usd)?;
    page.add_tokens(line(), Kind::Usage, tokens);
    Ok(())
}

fn seconds(page: &Page<'_>, row: &Row<'_>, place: &str) -> Result<NaiveDate, BillError> {
    let text = row.text("start_time");
    let at = text.parse().ok().filter(|seconds: &i64| *seconds > 100_000);
    let day = at.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).map(|at| at.date_naive());
    // A spreadsheet may have turned it into a date.
    day.map_or_else(|| row.day("start_time"), Ok).map_err(|reason| page.wrong(place, reason))
}

/// The API's name of a model, for the console's display name; other names stay unchanged.
///
/// Up to version 3 the version was before the name, `claude-3-5-haiku`; since then it is behind, `claude-haiku-4-5`.
pub(super) fn console_model(name: &str) -> Cow<'_, str> {
    let Some(words) = name.strip_prefix("Claude ") else { return Cow::Borrowed(name) };
    let mut words = words.split_ascii_whitespace();
    let (Some(first), Some(second), None) = (words.next(), words.next(), words.next()) else {
        return Cow::Borrowed(name);
    };
    let is_version =
        |word: &str| word.starts_with(|char: char| char.is_ascii_digit()) && word.split('.').all(is_digits);
    let (line, version) = match (is_version(first), is_version(second)) {
        (false, true) => (first, second),
        (true, false) => (second, first),
        _ => return Cow::Borrowed(name),
    };
    let (line, version) = (line.to_ascii_lowercase(), version.replace('.', "-"));
    let major = version.split('-').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(u32::MAX);
    Cow::Owned(if major <= 3 { format!("claude-{version}-{line}") } else { format!("claude-{line}-{version}") })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consoles_names_become_the_apis_and_others_stay() {
        for (name, expected) in [
            ("Claude Sonnet 4.5", "claude-sonnet-4-5"),
            ("Claude Opus 4.1", "claude-opus-4-1"),
            ("Claude Sonnet 4", "claude-sonnet-4"),
            ("Claude Haiku 3.5", "claude-3-5-haiku"),
            ("Claude Opus 3", "claude-3-opus"),
            ("Claude 3.7 Sonnet", "claude-3-7-sonnet"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5"),
            ("Claude Code", "Claude Code"),
            ("Claude Sonnet latest", "Claude Sonnet latest"),
            ("Claude", "Claude"),
            ("", ""),
        ] {
            assert_eq!(console_model(name), expected);
        }
    }

    #[test]
    fn no_form_hides_another() {
        for (at, (columns, _)) in FORMS.iter().enumerate() {
            for (later, _) in &FORMS[at + 1..] {
                let hides = columns.iter().all(|column| later.contains(column));
                assert!(!hides, "a file with {later:?} is read as one with {columns:?}: put the longer form first");
            }
        }
    }
}
