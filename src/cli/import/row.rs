//! Turns one row's values into a record. The wire specification defines the values. Files add numbers as text, times
//! without a zone and empty cells.

use std::borrow::Cow;

use tallyd_protocol::Record;
use tallyd_protocol::record::Text;
use uuid::Uuid;

use super::json::{Object, scalar, shown};
use tallyd_model::decimal::whole;
use tallyd_model::files::{Epoch, Numbers, instant};
use tallyd_model::json::Raw;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Form {
    pub numbers: Numbers,
    /// The unit of a time that is a bare number; none is microseconds.
    pub epoch: Option<Epoch>,
}

/// Why a row cannot be read: the field, its column, and the problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowError {
    /// The field at fault; none for the row as a whole.
    pub field: Option<&'static str>,
    /// The field's column, if its name differs from the field's.
    pub column: Option<String>,
    /// The fault, with the expected form.
    pub problem: String,
}

impl RowError {
    pub(super) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field: Some(field), column: None, problem: problem.into() }
    }

    pub(super) fn row(problem: impl Into<String>) -> Self {
        Self { field: None, column: None, problem: problem.into() }
    }

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

macro_rules! set_text {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// Puts a text into the record. Empty text leaves the field's default.
        ///
        /// # Errors
        /// [`RowError`].
        pub(super) fn set_text(
            record: &mut Record,
            field: &'static str,
            text: &str,
            form: Form,
        ) -> Result<(), RowError> {
            if text.is_empty() {
                return Ok(());
            }
            match field {
                $(stringify!($name) => record.$name = cell::$kind(field, text, form)?,)*
                other => return Err(RowError::field(other, "no such field")),
            }
            Ok(())
        }
    };
}

tallyd_protocol::for_each_field!(set_text);

/// A cell's text as a value: a function for each kind of field.
mod cell {
    use super::{Form, Object, RowError, Text, Uuid, instant, plain, scalar, shown, whole};

    pub(super) use self::number as count;
    pub(super) use self::number as status;
    pub(super) use self::text as required;

    type Cell<T> = Result<T, RowError>;

    pub(super) fn id(_: &'static str, text: &str, _: Form) -> Cell<Option<[u8; 16]>> {
        let parsed = Uuid::try_parse(text).map_err(|_| {
            RowError::field("id", format!("{text:?} is not a UUID; --key names the column of an id of another form"))
        })?;
        Ok(Some(parsed.into_bytes()))
    }

    pub(super) fn time(field: &'static str, text: &str, form: Form) -> Cell<Option<i64>> {
        instant(text, form.epoch).map(Some).map_err(|problem| RowError::field(field, problem))
    }

    pub(super) fn text(_: &'static str, text: &str, _: Form) -> Cell<Text> {
        Ok(Text::Owned(text.to_owned()))
    }

    /// Also the forms of spreadsheets, `1234.0`, and of JavaScript, `1e21`.
    pub(super) fn number<T: TryFrom<i128>>(field: &'static str, text: &str, form: Form) -> Cell<T> {
        let number = whole(&plain(field, text, form)?).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| RowError::field(field, format!("{text:?} is not a whole number from 0 on that fits")))
    }

    pub(super) fn latency(field: &'static str, text: &str, form: Form) -> Cell<Option<u32>> {
        number(field, text, form).map(Some)
    }

    pub(super) fn units(field: &'static str, text: &str, _: Form) -> Cell<Vec<(Text, Text)>> {
        let object = Object::read(text).map_err(|problem| RowError::field(field, problem))?;
        let units = object.0.into_iter().map(|(unit, quantity)| match scalar(quantity) {
            Some(Some(quantity)) => Ok((unit.into(), quantity.into())),
            _ => Err(RowError::field(field, format!("{unit}: {} is not a quantity", shown(quantity)))),
        });
        units.collect()
    }

    pub(super) fn tags(field: &'static str, text: &str, _: Form) -> Cell<Vec<(Text, Text)>> {
        let object = Object::read(text).map_err(|problem| RowError::field(field, problem))?;
        let tags = object.0.into_iter().map(|(tag, value)| match scalar(value) {
            Some(value) => Ok((tag.into(), value.unwrap_or_default().into())),
            None => Err(RowError::field(field, format!("{tag}: {} is neither text nor a number", shown(value)))),
        });
        tags.collect()
    }

    pub(super) fn decimal(field: &'static str, text: &str, form: Form) -> Cell<Option<Text>> {
        Ok(Some(Text::Owned(plain(field, text, form)?.into_owned())))
    }

    pub(super) fn json(_: &'static str, text: &str, _: Form) -> Cell<Option<Text>> {
        Ok(Some(Text::Owned(text.to_owned())))
    }
}

fn plain<'t>(field: &'static str, text: &'t str, form: Form) -> Result<Cow<'t, str>, RowError> {
    form.numbers.plain(text).map_err(|problem| RowError::field(field, problem))
}

/// Puts a JSON value into the record. Null leaves the field's default.
///
/// # Errors
/// [`RowError`].
pub(super) fn set_json(record: &mut Record, field: &'static str, value: Raw<'_>, form: Form) -> Result<(), RowError> {
    let is_object = value.get().starts_with('{');
    match (field, scalar(value)) {
        (_, Some(Some(text))) => set_text(record, field, &text, form),
        (_, Some(None)) => Ok(()),
        ("metadata" | "extra_units" | "tags", None) if is_object => set_text(record, field, value.get(), form),
        _ => Err(RowError::field(field, format!("{} is neither text nor a number", shown(value)))),
    }
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

    fn read(line: &str) -> Result<Record, RowError> {
        let mut record = Record::default();
        for (key, value) in Object::read(line).map_err(RowError::row)?.0 {
            let field = tallyd_protocol::record::FIELDS.iter().find(|field| **field == key).unwrap();
            set_json(&mut record, field, value, Form::default())?;
        }
        Ok(record)
    }

    #[test]
    fn values_keep_what_is_written() {
        let line = r#"{"cost_usd": 0.10000000000000000001, "metadata": {"b": 1.50, "a": "é"}, "latency_ms": null,
            "extra_units": {"image": 2, "audio_second": "1.5"}, "user_id": " u\n", "input_tokens": 374}"#;
        let record = read(line).unwrap();
        assert_eq!(record.cost_usd.as_deref(), Some("0.10000000000000000001"));
        assert_eq!(record.metadata.as_deref(), Some(r#"{"b": 1.50, "a": "é"}"#));
        assert_eq!(record.extra_units, [("image".into(), "2".into()), ("audio_second".into(), "1.5".into())]);
        assert_eq!((record.user_id.as_ref(), record.input_tokens, record.latency_ms), (" u\n", 374, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |line: &str| read(line).unwrap_err().to_string();
        assert_eq!(error(r#"{"status": [1]}"#), "status: [1] is neither text nor a number");
        assert_eq!(error(r#"{"status": true}"#), "status: true is neither text nor a number");
        assert_eq!(error(r#"{"extra_units": {"image": {}}}"#), "extra_units: image: {} is not a quantity");
        assert!(
            error(r#"{"status": 1"#)
                .starts_with("not a JSON object: the text ends where `,` or `}` was expected at column ")
        );
        assert!(error("[1]").starts_with("not a JSON object: "));
    }
}
