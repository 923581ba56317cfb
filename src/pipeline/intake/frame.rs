//! The records of a frame.
//!
//! A `records` message is read by hand down to its array, and each record by serde, with text borrowed from the frame.
//! If one of them does not decode, its end is found by a scan, so its neighbours are not touched. Only bytes that are
//! not MessagePack, or that end too early, are the whole frame's fault.

use serde::Deserialize;
use tallyd_protocol::{ClientMessage, Hello, scan};

use super::raw::RawRecord;
use super::refusal::{Code, Refusal};

/// What a frame says.
#[derive(Debug)]
pub enum ClientFrame<'a> {
    /// The handshake.
    Hello(Hello),
    /// Records, still encoded.
    Records(Records<'a>),
}

/// Why a frame is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the frame is not a message of this protocol: {0}")]
pub struct Malformed(String);

/// A `records` message.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    /// The first record's sequence number.
    pub first_seq: u64,
    /// How many records there are.
    pub count: u32,
    encoded: &'a [u8],
}

/// One record of a frame: decoded or refused, and its bytes.
pub struct FrameRecord<'a> {
    /// What was read.
    pub record: Result<RawRecord<'a>, Refusal>,
    /// Its encoding, for the dead letters.
    pub bytes: &'a [u8],
}

/// Reads a frame's body.
///
/// # Errors
/// [`Malformed`] says what was expected.
pub fn read(body: &[u8]) -> Result<ClientFrame<'_>, Malformed> {
    let mut rest = body;
    let entries = rmp::decode::read_map_len(&mut rest).map_err(|_| malformed("a map of one entry was expected"))?;
    if entries != 1 {
        return Err(malformed("a map of one entry was expected"));
    }
    match read_text(&mut rest)? {
        "records" => read_records(rest).map(ClientFrame::Records),
        "hello" => match rmp_serde::from_slice(body) {
            Ok(ClientMessage::Hello(hello)) => Ok(ClientFrame::Hello(hello)),
            Err(error) => Err(Malformed(format!("in `hello`: {error}"))),
        },
        _ => Err(malformed("its message is neither `hello` nor `records`")),
    }
}

fn read_records(mut rest: &[u8]) -> Result<Records<'_>, Malformed> {
    let expected = "`records` holds `first_seq`, an integer, and `records`, an array";
    let fields = rmp::decode::read_map_len(&mut rest).map_err(|_| malformed(expected))?;
    let (mut first_seq, mut records) = (None, None);
    for _ in 0..fields {
        match read_text(&mut rest)? {
            "first_seq" => {
                first_seq = Some(rmp::decode::read_int::<u64, _>(&mut rest).map_err(|_| malformed(expected))?);
            }
            "records" => {
                let bytes = scan::value_bytes(rest).map_err(|error| Malformed(error.to_string()))?;
                let (mut array, after) = rest.split_at(bytes);
                let count = rmp::decode::read_array_len(&mut array).map_err(|_| malformed(expected))?;
                records = Some((count, array));
                rest = after;
            }
            _ => return Err(malformed(expected)),
        }
    }
    match (first_seq, records) {
        (Some(first_seq), Some((count, encoded))) if first_seq >= 1 && rest.is_empty() => {
            first_seq.checked_add(u64::from(count)).ok_or_else(|| malformed("sequence numbers overflow"))?;
            Ok(Records { first_seq, count, encoded })
        }
        _ => Err(malformed(expected)),
    }
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let (text, after) =
        rmp::decode::read_str_from_slice(*rest).map_err(|_| malformed("a name was expected, and it is not text"))?;
    *rest = after;
    Ok(text)
}

fn malformed(what: &'static str) -> Malformed {
    Malformed(what.into())
}

impl<'a> Records<'a> {
    /// Hands each record to `take`, with its place in the frame.
    pub fn each(&self, mut take: impl FnMut(u32, FrameRecord<'a>)) {
        let mut rest = self.encoded;
        for index in 0..self.count {
            let mut decoder = rmp_serde::Deserializer::from_read_ref(rest);
            let (record, bytes) = match RawRecord::deserialize(&mut decoder) {
                Ok(record) => (Ok(record), rest.len() - decoder.get_ref().len()),
                // The whole array was scanned before, so every record's end is known to be there.
                Err(error) => (Err(refusal(&error.to_string())), scan::value_bytes(rest).unwrap_or(rest.len())),
            };
            let (bytes, after) = rest.split_at(bytes);
            take(index, FrameRecord { record, bytes });
            rest = after;
        }
    }
}

/// Names what serde found.
pub(super) fn refusal(error: &str) -> Refusal {
    if error.contains("unknown field") {
        return Refusal::new(Code::UnknownField, "", format!("{error}; see protocol/README.md for the fields"));
    }
    Refusal::new(Code::Invalid, "", format!("not a usage record: {error}"))
}
