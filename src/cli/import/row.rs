//! One row's values become a record. What a value means is the wire specification's business; what is added here is what
//! files have and the wire has not: numbers as text, times without a zone, empty cells.

use std::borrow::Cow;

use tallyd_protocol::Record;
use tallyd_protocol::record::Text;
use uuid::Uuid;

use super::json::Object;
use tallyd_model::decimal::whole;
use tallyd_model::files::{Epoch, Numbers, instant};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Form {
    /// Numbers.
    pub numbers: Numbers,
    /// What a time that is a bare number counts; none is microseconds.
    pub epoch: Option<Epoch>,
}

/// Why a row cannot be read: the field, its column, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowError {
    /// The field at fault; none if it is the row as a whole.
    pub field: Option<&'static str>,
    /// The column that the field comes from, if it has a name of its own.
    pub column: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl RowError {
    /// A field that does not read.
    pub(super) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field: Some(field), column: None, problem: problem.into() }
    }

    /// A row that does not read at all.
    pub(super) fn row(problem: impl Into<String>) -> Self {
        Self { field: None, column: None, problem: problem.into() }
    }

    /// Adds the column that the field's value was in.
    #[must_use]
    pub(super) fn in_column(mut self, column: &str) -> Self {
        self.column = (self.field != Some(column)).then(|| column.to_owned());
        self
    }
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.field, &self.column) {
            (Some(field), Some(column)) => write!(f, "{field} (column {column}): {}", self.problem),
            (Some(field), None) => write!(f, "{field}: {}", self.problem),
            (None, _) => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for RowError {}

/// Puts a text into the record. Empty text leaves the field's default.
///
/// # Errors
/// [`RowError`].
pub(super) fn set_text(record: &mut Record, field: &'static str, text: &str, form: Form) -> Result<(), RowError> {
    if text.is_empty() {
        return Ok(());
    }
    let owned = || Text::Owned(text.to_owned());
    match field {
        "id" => record.id = Some(uuid(text)?),
        "occurred_at" => {
            record.occurred_at = Some(instant(text, form.epoch).map_err(|problem| RowError::field(field, problem))?);
        }
        "provider" => record.provider = owned(),
        "model" => record.model = owned(),
        "endpoint" => record.endpoint = owned(),
        "user_id" => record.user_id = owned(),
        "app" => record.app = owned(),
        "request_id" => record.request_id = owned(),
        "service_tier" => record.service_tier = owned(),
        "platform" => record.platform = owned(),
        "cost_usd" => record.cost_usd = Some(Text::Owned(plain(field, text, form)?.into_owned())),
        "metadata" => record.metadata = Some(owned()),
        "input_tokens" => record.input_tokens = number(field, text, form)?,
        "output_tokens" => record.output_tokens = number(field, text, form)?,
        "cache_read_tokens" => record.cache_read_tokens = number(field, text, form)?,
        "cache_write_5m_tokens" => record.cache_write_5m_tokens = number(field, text, form)?,
        "cache_write_1h_tokens" => record.cache_write_1h_tokens = number(field, text, form)?,
        "requests" => record.requests = number(field, text, form)?,
        "status" => record.status = number(field, text, form)?,
        "latency_ms" => record.latency_ms = Some(number(field, text, form)?),
        "extra_units" => {
            let units = Object::read(text).map_err(|error| RowError::field(field, error.problem))?;
            record.extra_units = units.units()?;
        }
        other => return Err(RowError::field(other, "no such field")),
    }
    Ok(())
}

/// A spreadsheet writes `1234.0`, JavaScript `1e21`.
fn number<T: TryFrom<i128>>(field: &'static str, text: &str, form: Form) -> Result<T, RowError> {
    let number = whole(&plain(field, text, form)?).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| RowError::field(field, format!("{text:?} is not a whole number from 0 on that fits")))
}

fn plain<'t>(field: &'static str, text: &'t str, form: Form) -> Result<Cow<'t, str>, RowError> {
    form.numbers.plain(text).map_err(|problem| RowError::field(field, problem))
}

fn uuid(text: &str) -> Result<[u8; 16], RowError> {
    let parsed = Uuid::try_parse(text).map_err(|_| {
        RowError::field("id", format!("{text:?} is not a UUID; --key names the column of an id of another form"))
    })?;
    Ok(parsed.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_refused_and_decimals_stay_text() {
        let mut record = Record::default();
        for (field, text) in [("status", "-1"), ("status", "65536"), ("input_tokens", "1.5"), ("id", "7")] {
            let error = set_text(&mut record, field, text, Form::default()).unwrap_err().in_column("C").to_string();
            assert!(error.starts_with(&format!("{field} (column C): \"{text}\" is not")), "{error}");
        }
        assert_eq!(record, Record::default());
        set_text(&mut record, "cost_usd", "0.10000000000000000001", Form::default()).unwrap();
        assert_eq!(record.cost_usd.as_deref(), Some("0.10000000000000000001"));
        set_text(&mut record, "requests", "", Form::default()).unwrap();
        assert_eq!(record.requests, 1);
    }
}
