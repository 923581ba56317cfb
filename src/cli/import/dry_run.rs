//! `tallyd import --dry-run N`: shows the records of the first rows. Nothing is sent, and no daemon is needed.

use serde_json::{Map, Value};
use tallyd_protocol::Record;

use super::reader::FileRows;
use super::talk::Talk;
use crate::cli::output::Stream;

/// Prints the records of the first `count` rows, a line of JSON each, without fields at their defaults.
///
/// # Errors
/// If reading the file fails, or standard output cannot be written to.
pub(super) fn print(rows: &mut FileRows, count: u64, talk: &mut Talk) -> anyhow::Result<()> {
    let mut out = Stream::new();
    let mut looked_at = 0;
    while looked_at < count {
        let Some(row) = rows.next_row()? else { break };
        looked_at += 1;
        rows.take_notes().iter().for_each(|note| talk.note(note));
        match row.record {
            Err(error) => talk.refused(row.number, row.line, &error.to_string()),
            // Flushed, so that the line comes before messages about later rows.
            Ok(record) => {
                if !out.line(&describe(&record))? || !out.flush()? {
                    break;
                }
            }
        }
    }
    talk.end();
    talk.note(&format!(
        "{} looked at, nothing was sent",
        tallyd_model::wording::noun(looked_at, "row was", "rows were")
    ));
    Ok(())
}

macro_rules! describe {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// The record as in the protocol's line mode, with a readable time.
        fn describe(record: &Record) -> Value {
            let default = Record::default();
            let mut fields = Map::new();
            $(
                if record.$name != default.$name {
                    fields.insert(stringify!($name).to_owned(), shown::$kind(&record.$name));
                }
            )*
            Value::Object(fields)
        }
    };
}

tallyd_protocol::for_each_field!(describe);

/// A value as JSON: a function for each kind of field.
mod shown {
    use chrono::DateTime;
    use serde::Serialize;
    use serde_json::{Value, json};
    use tallyd_protocol::record::Text;

    pub(super) use self::{
        plain as count, plain as decimal, plain as json, plain as latency, plain as required, plain as status,
        plain as text, units as tags,
    };

    pub(super) fn plain(value: &impl Serialize) -> Value {
        json!(value)
    }

    pub(super) fn id(id: &Option<[u8; 16]>) -> Value {
        json!(id.map(uuid::Uuid::from_bytes))
    }

    pub(super) fn time(us: &Option<i64>) -> Value {
        // A time outside the calendar is shown as a number.
        us.and_then(DateTime::from_timestamp_micros).map_or_else(|| json!(us), |time| json!(time))
    }

    pub(super) fn units(units: &[(Text, Text)]) -> Value {
        units.iter().map(|(unit, quantity)| (unit.to_string(), json!(quantity))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_without_its_defaults() {
        let record = Record { occurred_at: Some(1_700_158_546_680_590), ..Record::claude("m", 0, 7) };
        let shown =
            r#"{"model":"m","occurred_at":"2023-11-16T18:15:46.680590Z","output_tokens":7,"provider":"claude"}"#;
        assert_eq!(describe(&record).to_string(), shown);
        let record = Record { extra_units: vec![("image".into(), "2".into())], requests: 0, ..Record::rentcast("/a") };
        let shown = r#"{"endpoint":"/a","extra_units":{"image":"2"},"provider":"rentcast","requests":0}"#;
        assert_eq!(describe(&record).to_string(), shown);
    }
}
