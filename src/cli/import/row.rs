//! One row's values become a record. What a value means is the wire specification's business; what is added here is what
//! files have and the wire has not: numbers as text, times without a zone, empty cells.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use tallyd_protocol::Record;
use tallyd_protocol::record::Text;
use uuid::Uuid;

use super::json::Object;
use crate::pricing::whole;

/// Why a row cannot be read: the field, its column, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The field at fault; none if it is the row as a whole.
    pub field: Option<&'static str>,
    /// The column that the field comes from, if it has a name of its own.
    pub column: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl RowError {
    /// A field that does not read.
    pub fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field: Some(field), column: None, problem: problem.into() }
    }

    /// A row that does not read at all.
    pub fn row(problem: impl Into<String>) -> Self {
        Self { field: None, column: None, problem: problem.into() }
    }

    /// Adds the column that the field's value was in.
    #[must_use]
    pub fn in_column(mut self, column: &str) -> Self {
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
pub fn set_text(record: &mut Record, field: &'static str, text: &str) -> Result<(), RowError> {
    if text.is_empty() {
        return Ok(());
    }
    let owned = || Text::Owned(text.to_owned());
    match field {
        "id" => record.id = Some(uuid(text)?),
        "occurred_at" => record.occurred_at = Some(time(text)?),
        "provider" => record.provider = owned(),
        "model" => record.model = owned(),
        "endpoint" => record.endpoint = owned(),
        "user_id" => record.user_id = owned(),
        "app" => record.app = owned(),
        "request_id" => record.request_id = owned(),
        "service_tier" => record.service_tier = owned(),
        "platform" => record.platform = owned(),
        "cost_usd" => record.cost_usd = Some(owned()),
        "metadata" => record.metadata = Some(owned()),
        "input_tokens" => record.input_tokens = number(field, text)?,
        "output_tokens" => record.output_tokens = number(field, text)?,
        "cache_read_tokens" => record.cache_read_tokens = number(field, text)?,
        "cache_write_5m_tokens" => record.cache_write_5m_tokens = number(field, text)?,
        "cache_write_1h_tokens" => record.cache_write_1h_tokens = number(field, text)?,
        "requests" => record.requests = number(field, text)?,
        "status" => record.status = number(field, text)?,
        "latency_ms" => record.latency_ms = Some(number(field, text)?),
        "extra_units" => {
            let units = Object::read(text).map_err(|error| RowError::field(field, error.problem))?;
            record.extra_units = units.units()?;
        }
        other => return Err(RowError::field(other, "no such field")),
    }
    Ok(())
}

/// A spreadsheet writes `1234.0`, JavaScript `1e21`.
fn number<T: TryFrom<i128>>(field: &'static str, text: &str) -> Result<T, RowError> {
    let number = whole(text).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| RowError::field(field, format!("{text:?} is not a whole number from 0 on that fits")))
}

fn uuid(text: &str) -> Result<[u8; 16], RowError> {
    let parsed = Uuid::try_parse(text).map_err(|_| RowError::field("id", format!("{text:?} is not a UUID")))?;
    Ok(parsed.into_bytes())
}

/// Microseconds since 1970. Without a zone the time is UTC; digits below a microsecond are cut off.
fn time(text: &str) -> Result<i64, RowError> {
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(micros);
    }
    // The second form is PostgreSQL's: a space, and a zone that may be hours alone.
    let zoned =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    if let Ok(time) = zoned {
        return Ok(time.timestamp_micros());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(time.and_utc().timestamp_micros());
        }
    }
    let midnight = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let time = midnight.ok_or_else(|| {
        let problem =
            format!("{text:?} is not a time: expected RFC 3339, `2026-01-31 12:00:00`, or microseconds since 1970");
        RowError::field("occurred_at", problem)
    })?;
    Ok(time.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        let cases = [
            ("2023-11-16 18:15:46.6805900", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.6805909", 1_700_158_546_680_590),
            ("2023-11-16T18:15:46.68059Z", 1_700_158_546_680_590),
            ("2023-11-16T20:15:46.68059+02:00", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.68059+00", 1_700_158_546_680_590),
            ("2023-11-16T18:15:46", 1_700_158_546_000_000),
            ("2023-11-16", 1_700_092_800_000_000),
            ("1700158546680590", 1_700_158_546_680_590),
        ];
        for (text, us) in cases {
            assert_eq!(time(text), Ok(us), "{text}");
        }
        assert!(time("16.11.2023").unwrap_err().to_string().starts_with("occurred_at: \"16.11.2023\" is not a time"));
        for text in ["2023-02-30", "2023-11-16 25:00:00", "1.7e9"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_and_decimals_stay_text() {
        let mut record = Record::default();
        for (field, text) in [("status", "-1"), ("status", "65536"), ("input_tokens", "1.5"), ("id", "7")] {
            let error = set_text(&mut record, field, text).unwrap_err().in_column("C").to_string();
            assert!(error.starts_with(&format!("{field} (column C): \"{text}\" is not")), "{error}");
        }
        assert_eq!(record, Record::default());
        set_text(&mut record, "cost_usd", "0.10000000000000000001").unwrap();
        assert_eq!(record.cost_usd.as_deref(), Some("0.10000000000000000001"));
        set_text(&mut record, "requests", "").unwrap();
        assert_eq!(record.requests, 1);
    }
}
