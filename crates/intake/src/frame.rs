//! The records of a frame.
//!
//! A `records` message is read by hand down to its array. A scan finds the end of each record, and each is read from
//! its own bytes, with text borrowed from the frame: a record that does not decode does not affect the others. Only
//! invalid MessagePack, or bytes that end too early, fail the whole frame, and this is known before any record is
//! taken.

use serde::Deserialize;
use tallyd_protocol::record::FIELDS;
use tallyd_protocol::{ClientMessage, Hello, PROTOCOL_VERSION, scan};

use super::raw::RawRecord;
use super::refusal::{Code, Refusal};

/// The content of a frame.
#[derive(Debug)]
pub enum ClientFrame<'a> {
    /// The handshake.
    Hello(Hello),
    /// Records, still encoded.
    Records(Records<'a>),
    /// The client asks for the state of the budgets.
    Watch,
}

/// The part of `hello` that all versions have.
#[derive(Deserialize)]
struct AnyHello {
    protocol: u32,
    #[serde(default)]
    client: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnyMessage {
    Hello(AnyHello),
}

/// Why a whole frame is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It cannot be read.
    #[error("the frame is not a message of this protocol: {0}")]
    Malformed(String),
    /// It claims too many records, which are then not read.
    #[error("{count} records, at most {max} are accepted")]
    TooMany {
        /// The claimed number.
        count: usize,
        /// The accepted number.
        max: usize,
    },
}

/// A `records` message.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    /// The first record's sequence number.
    pub first_seq: u64,
    /// Each record's encoding.
    encoded: Vec<&'a [u8]>,
}

/// Largest depth of a record, as in JSON: the reader recurses, and its stack is bounded.
const DEPTH_MAX: usize = 128;

/// Reads a frame's body, with at most `records_max` records.
///
/// # Errors
/// [`FrameError`] with the expected content.
pub fn read(body: &[u8], records_max: usize) -> Result<ClientFrame<'_>, FrameError> {
    let mut rest = body;
    let entries = rmp::decode::read_map_len(&mut rest).map_err(|_| malformed("a map of one entry was expected"))?;
    if entries != 1 {
        return Err(malformed("a map of one entry was expected"));
    }
    match read_text(&mut rest)? {
        "records" => read_records(rest, records_max).map(ClientFrame::Records),
        "hello" => match rmp_serde::from_slice(body) {
            Ok(ClientMessage::Hello(hello)) => Ok(ClientFrame::Hello(hello)),
            Ok(ClientMessage::Watch(_)) => Err(malformed("two names of one message")),
            Err(error) => match rmp_serde::from_slice(body) {
                // A `hello` of another version: its version number can always be read.
                Ok(AnyMessage::Hello(AnyHello { protocol, client })) if protocol != PROTOCOL_VERSION => {
                    Ok(ClientFrame::Hello(Hello { protocol, client, ..Hello::default() }))
                }
                _ => Err(FrameError::Malformed(format!("in `hello`: {error}"))),
            },
        },
        "watch" => match rmp_serde::from_slice(body) {
            Ok(ClientMessage::Watch(_)) => Ok(ClientFrame::Watch),
            Ok(ClientMessage::Hello(_)) => Err(malformed("two names of one message")),
            Err(error) => Err(FrameError::Malformed(format!("in `watch`: {error}"))),
        },
        _ => Err(malformed("its message is none of `hello`, `records` and `watch`")),
    }
}

fn read_records(mut rest: &[u8], max: usize) -> Result<Records<'_>, FrameError> {
    let expected = "`records` holds `first_seq`, an integer, and `records`, an array";
    let fields = rmp::decode::read_map_len(&mut rest).map_err(|_| malformed(expected))?;
    let (mut first_seq, mut records) = (None, None);
    for _ in 0..fields {
        match read_text(&mut rest)? {
            "first_seq" => {
                first_seq = Some(rmp::decode::read_int::<u64, _>(&mut rest).map_err(|_| malformed(expected))?);
            }
            "records" => records = Some(split_array(&mut rest, max)?),
            _ => return Err(malformed(expected)),
        }
    }
    match (first_seq, records) {
        (Some(first_seq), Some(encoded)) if first_seq >= 1 && rest.is_empty() => {
            first_seq.checked_add(encoded.len() as u64).ok_or_else(|| malformed("sequence numbers overflow"))?;
            Ok(Records { first_seq, encoded })
        }
        _ => Err(malformed(expected)),
    }
}

/// Splits an array into its elements' encodings, and moves `rest` past it.
fn split_array<'a>(rest: &mut &'a [u8], max: usize) -> Result<Vec<&'a [u8]>, FrameError> {
    let count = rmp::decode::read_array_len(rest).map_err(|_| malformed("`records` is not an array"))? as usize;
    if count > max {
        return Err(FrameError::TooMany { count, max });
    }
    // An element has at least one byte, so a larger claim is ignored.
    let mut elements = Vec::with_capacity(rest.len().min(count));
    for _ in 0..count {
        let bytes = scan::value_bytes(rest).map_err(|error| FrameError::Malformed(error.to_string()))?;
        let (element, after) = rest.split_at(bytes);
        elements.push(element);
        *rest = after;
    }
    Ok(elements)
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, FrameError> {
    let (text, after) =
        rmp::decode::read_str_from_slice(*rest).map_err(|_| malformed("a name was expected, and it is not text"))?;
    *rest = after;
    Ok(text)
}

fn malformed(what: &'static str) -> FrameError {
    FrameError::Malformed(what.into())
}

impl<'a> Records<'a> {
    /// The number of records.
    #[must_use]
    pub fn count(&self) -> usize {
        self.encoded.len()
    }

    /// Each record's encoding, in order.
    pub fn encoded(&self) -> impl Iterator<Item = &'a [u8]> {
        self.encoded.iter().copied()
    }
}

/// Decodes one record, a map or an array. [`super::array`] is the fast path.
///
/// # Errors
/// The [`Refusal`] for the sender.
pub(crate) fn decode(bytes: &[u8]) -> Result<RawRecord<'_>, Refusal> {
    if !matches!(bytes.first(), Some(0x80..=0x9f | 0xdc..=0xdf)) {
        return Err(Refusal::new(Code::Type, "", "a record is a map or an array"));
    }
    // serde stops at the last known field; the rest of a longer array would be lost in silence.
    if matches!(bytes.first(), Some(0xdc | 0xdd))
        && rmp::decode::read_array_len(&mut &*bytes).is_ok_and(|fields| fields as usize > FIELDS.len())
    {
        let message = format!("the record's array has more than the {} fields of this protocol", FIELDS.len());
        return Err(Refusal::new(Code::UnknownField, "", message));
    }
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    RawRecord::deserialize(&mut decoder).map_err(|error| refusal(&error.to_string()))
}

/// Characters of a sender's text in a message.
const ECHO_CHARS: usize = 64;

/// Names the value that serde found.
pub(super) fn refusal(error: &str) -> Refusal {
    if let Some(name) = quoted_after(error, "unknown field `") {
        let message = format!("no field is called `{name}`; see protocol/README.md for the fields");
        return Refusal::new(Code::UnknownField, name, message);
    }
    if let Some(name) = quoted_after(error, "duplicate field `") {
        return Refusal::new(Code::Invalid, name, "the field is there twice");
    }
    let error: String = error.chars().take(4 * ECHO_CHARS).collect();
    Refusal::new(Code::Invalid, "", format!("not a usage record: {error}"))
}

/// The name in backticks after `heading`. It is the sender's text, so characters that cannot be stored or printed are
/// left out.
fn quoted_after(error: &str, heading: &str) -> Option<String> {
    let (_, quoted) = error.split_once(heading)?;
    // The name is followed by the known fields, or the place in the text.
    let end = quoted.find("`, expected").or_else(|| quoted.rfind('`')).unwrap_or(quoted.len());
    let name = &quoted[..end];
    Some(name.chars().filter(|character| !character.is_control()).take(ECHO_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use tallyd_protocol::{Record, limits, message};

    use super::*;
    use crate::raw_value::Field;

    fn body(records: &[Record]) -> Vec<u8> {
        let mut frame = Vec::new();
        message::write_records_frame(&mut frame, 5, records);
        frame.split_off(4)
    }

    #[test]
    fn each_record_is_decoded_from_its_own_bytes() {
        let records: Vec<_> = (0..40).map(|tokens| Record::claude("m", tokens, 1)).collect();
        let body = body(&records);
        let Ok(ClientFrame::Records(read)) = read(&body, limits::FRAME_RECORDS) else { panic!("records") };
        assert_eq!((read.first_seq, read.count()), (5, 40));
        let mut tokens = Vec::new();
        read.encoded().for_each(|bytes| tokens.push(decode(bytes).unwrap().input_tokens));
        // A trailing default is left off, and reads back as absent.
        let expected = (0..40).map(|tokens| Field::Given(i128::from(tokens)));
        assert_eq!(tokens, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_broken_record_leaves_its_neighbours_alone() {
        let mut body = Vec::new();
        message::write_records_head(&mut body, 1, 4);
        tallyd_protocol::record::write(&mut body, &Record::rentcast("/a"));
        body.push(7);
        body.extend_from_slice(&[0x81, 0xa1, b'x', 1]);
        tallyd_protocol::record::write(&mut body, &Record::rentcast("/b"));
        let Ok(ClientFrame::Records(records)) = read(&body, limits::FRAME_RECORDS) else { panic!("records") };
        let mut codes = Vec::new();
        records.encoded().for_each(|bytes| codes.push(decode(bytes).map(drop).map_err(|refusal| refusal.code)));
        assert_eq!(codes, [Ok(()), Err(Code::Type), Err(Code::UnknownField), Ok(())]);
    }

    #[test]
    fn metadata_of_messagepack_never_costs_the_record() {
        let metadata = [
            (&b"\x81\xa1a\xc4\x02\xff\x41"[..], r#"{"a":"\u{fffd}A"}"#),
            (b"\x81\xa1a\xa2\xff\x41", r#"{"a":"\u{fffd}A"}"#),
            (b"\x81\xa1a\xd4\x05\x01", r#"{"a":"(a MessagePack extension)"}"#),
            (b"\x82\x07\x01\xa1b\xa1c", r#"{"7":1,"b":"c"}"#),
            (b"\x84\xc3\x01\xff\x02\xc0\x03\xcb\x3f\xf8\0\0\0\0\0\0\x04", r#"{"true":1,"-1":2,"null":3,"1.5":4}"#),
            (b"\x83\xc4\x01k\x01\xa1\xfe\x02\xd4\x01\x01\x03", r#"{"k":1,"\u{fffd}":2,"(a MessagePack extension)":3}"#),
            (b"\x82\x91\x01\x01\x81\x01\x02\x02", r#"{"(a container)":1,"(a container)":2}"#),
        ];
        for (value, text) in metadata {
            let mut record = b"\x82\xa8provider\xa1x\xa8metadata".to_vec();
            record.extend_from_slice(value);
            let read = decode(&record).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
            let text = text.replace("\\u{fffd}", "\u{fffd}");
            assert_eq!(read.metadata.0, Field::Given(text.clone().into()), "{text}");
        }
    }

    #[test]
    fn what_is_told_of_a_field_does_not_depend_on_where_it_stands() {
        for (error, code, name) in [
            ("duplicate field `model` at line 1 column 45", Code::Invalid, "model"),
            ("duplicate field `model`", Code::Invalid, "model"),
            ("unknown field `a`b`, expected one of `id`, `model` at line 1 column 9", Code::UnknownField, "a`b"),
            ("unknown field `", Code::UnknownField, ""),
        ] {
            let refusal = refusal(error);
            assert_eq!((refusal.code, &*refusal.field), (code, name), "{error}");
        }
    }

    #[test]
    fn a_record_of_too_many_fields_is_refused() {
        let mut body = Vec::new();
        message::write_records_head(&mut body, 1, 1);
        body.extend_from_slice(&[0xdc, 0, FIELDS.len() as u8 + 1]);
        body.extend_from_slice(&[0xc0; FIELDS.len() + 1]);
        let Ok(ClientFrame::Records(records)) = read(&body, limits::FRAME_RECORDS) else { panic!("records") };
        records.encoded().for_each(|bytes| assert_eq!(decode(bytes).unwrap_err().code, Code::UnknownField));
    }

    #[test]
    fn a_claim_of_too_many_records_is_refused_before_any_is_looked_at() {
        let mut body = Vec::new();
        message::write_records_head(&mut body, 1, 3);
        // The claimed records are missing.
        assert_eq!(read(&body, 2).unwrap_err(), FrameError::TooMany { count: 3, max: 2 });
        assert!(matches!(read(&body, 3), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn a_frame_that_ends_too_early_is_refused_whole() {
        let body = body(&[Record::rentcast("/a"), Record::rentcast("/b")]);
        for end in 0..body.len() {
            assert!(read(&body[..end], limits::FRAME_RECORDS).is_err(), "{end} of {} bytes", body.len());
        }
    }
}
