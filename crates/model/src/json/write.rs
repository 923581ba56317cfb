//! Writes JSON as `serde_json` does, except for bytes, which JSON does not have. Values that serialize as bytes are
//! JSON text here: a [`Raw`](super::Raw), a number's digits. This depends on a value's type, never on its content.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Writes bytes unchanged.
struct Verbatim<F>(F);

macro_rules! forward {
    ($($method:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, $($argument: $kind),*) -> io::Result<()> {
            self.0.$method(writer, $($argument),*)
        })*
    };
}

impl<F: Formatter> Formatter for Verbatim<F> {
    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        writer.write_all(value)
    }

    forward! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

/// Writes a value.
///
/// The writer's, or a value's own.
/// The writer's; a value's own.
pub fn to_writer(writer: impl Write, value: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
    value.serialize(&mut Serializer::with_formatter(writer, Verbatim(CompactFormatter)))
}

/// The value's text.
///
/// # Errors
/// A value's own.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::with_capacity(128);
    to_writer(&mut text, value)?;
    Ok(text)
}

/// The value's text.
///
/// # Errors
/// A value's own.
pub fn to_string(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
    to_vec(value).and_then(utf8)
}

/// The value's text, one item per line.
///
/// # Errors
/// A value's own.
pub fn to_string_pretty(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(&mut text, Verbatim(PrettyFormatter::new())))?;
    utf8(text)
}

fn utf8(text: Vec<u8>) -> Result<String, serde_json::Error> {
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}
