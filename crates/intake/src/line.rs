//! Newline-delimited JSON: a record a line.

use super::frame::refusal;
use super::raw::RawRecord;
use super::refusal::{Code, Refusal};
use tallyd_model::json;

/// Reads one line.
///
/// # Errors
/// The [`Refusal`] that answers it.
pub(crate) fn read(line: &[u8]) -> Result<RawRecord<'_>, Refusal> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        Refusal::new(Code::Encoding, "", format!("the line is not UTF-8 from byte {at} on"))
    })?;
    if !text.starts_with('{') && json::check(text).is_ok() {
        return Err(Refusal::new(Code::Type, "", "a record is a JSON object"));
    }
    json::from_str(text).map_err(|error| {
        if error.is_data() {
            return refusal(&error.to_string());
        }
        Refusal::new(Code::Format, "", format!("the line is not a JSON object: {error}"))
    })
}
