//! One row's values become a record. What a value means is the wire specification's business; what is added here is what
//! files have and the wire has not: numbers as text, times without a zone, empty cells.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value;
use tallyd_protocol::Record;
use uuid::Uuid;

/// Why a row cannot be read: the field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RowError {
    /// The field at fault.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl RowError {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Puts a cell's text into the record. Empty text leaves the field's default.
///
/// # Errors
/// [`RowError`].
pub fn set_text(record: &mut Record, field: &'static str, text: &str) -> Result<(), RowError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(());
    }
    let owned = || text.to_owned().into();
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
            let units =
                serde_json::from_str(text).map_err(|_| RowError::new(field, "expected a JSON object of units"))?;
            set_units(record, &units)?;
        }
        other => return Err(RowError::new(other, "no such field")),
    }
    Ok(())
}

/// Puts a JSON value into the record. Numbers keep their digits.
///
/// # Errors
/// [`RowError`].
pub fn set_json(record: &mut Record, field: &'static str, value: &Value) -> Result<(), RowError> {
    match (field, value) {
        (_, Value::Null) => Ok(()),
        (_, Value::String(text)) => set_text(record, field, text),
        ("metadata", Value::Object(_)) => {
            record.metadata = Some(value.to_string().into());
            Ok(())
        }
        ("extra_units", _) => set_units(record, value),
        (_, Value::Number(number)) => set_text(record, field, &number.to_string()),
        _ => Err(RowError::new(field, format!("{value} is neither text nor a number"))),
    }
}

fn set_units(record: &mut Record, units: &Value) -> Result<(), RowError> {
    let Value::Object(units) = units else {
        return Err(RowError::new("extra_units", "expected a JSON object of units"));
    };
    for (unit, quantity) in units {
        let quantity = match quantity {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(RowError::new("extra_units", format!("{other} is not a quantity"))),
        };
        record.extra_units.push((unit.clone().into(), quantity.into()));
    }
    Ok(())
}

fn number<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, RowError> {
    text.parse().map_err(|_| RowError::new(field, format!("{text:?} is not a whole number from 0 on that fits")))
}

fn uuid(text: &str) -> Result<[u8; 16], RowError> {
    let parsed = Uuid::try_parse(text).map_err(|_| RowError::new("id", format!("{text:?} is not a UUID")))?;
    Ok(parsed.into_bytes())
}

/// Microseconds since 1970. Without a zone the time is UTC; digits below a microsecond are cut off.
fn time(text: &str) -> Result<i64, RowError> {
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(micros);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
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
        RowError::new("occurred_at", problem)
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
            ("2023-11-16T18:15:46", 1_700_158_546_000_000),
            ("2023-11-16", 1_700_092_800_000_000),
            ("1700158546680590", 1_700_158_546_680_590),
        ];
        for (text, us) in cases {
            assert_eq!(time(text), Ok(us), "{text}");
        }
        assert!(time("16.11.2023").unwrap_err().to_string().starts_with("occurred_at: \"16.11.2023\" is not a time"));
    }

    #[test]
    fn cells_and_json_values_read_alike() {
        let mut cells = Record::default();
        let mut json = Record::default();
        let values = serde_json::json!({"input_tokens": 374, "cost_usd": "0.10", "latency_ms": null, "model": "m",
            "extra_units": {"image": 2}});
        for (field, text) in [
            ("input_tokens", "374"),
            ("cost_usd", " 0.10"),
            ("latency_ms", ""),
            ("model", "m"),
            ("extra_units", r#"{"image": 2}"#),
        ] {
            set_text(&mut cells, field, text).unwrap();
            set_json(&mut json, field, &values[field]).unwrap();
        }
        assert_eq!(cells, json);
        assert_eq!(cells.cost_usd.as_deref(), Some("0.10"));
        assert!(set_text(&mut cells, "status", "-1").is_err());
        assert!(set_json(&mut cells, "status", &serde_json::json!([1])).is_err());
    }
}
