//! Lines of the daemon log: an event is one line, even with foreign text in it.
//!
//! Producers, models and users name themselves, and errors repeat received text. Every field of every event passes
//! through [`quote`] here, so the places that log need not think of it.

use std::fmt::{self, Debug};
use std::io;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use tallyd_model::quote;

/// Fields as text: the message, and `name=value` for the others.
pub(crate) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Quoted { writer, is_first: true, done: Ok(()) };
        fields.record(&mut visitor);
        visitor.done
    }
}

struct Quoted<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    done: fmt::Result,
}

impl Quoted<'_> {
    fn write(&mut self, field: &Field, value: &dyn Debug) -> fmt::Result {
        let name = field.name();
        // Fields that the `log` crate's events have beside their message.
        if name.starts_with("log.") {
            return Ok(());
        }
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        let value = format!("{value:?}");
        let value = quote::line(&value);
        if name == "message" {
            self.writer.write_str(&value)
        } else {
            write!(self.writer, "{}={value}", name.trim_start_matches("r#"))
        }
    }
}

impl Visit for Quoted<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.done.is_ok() {
            self.done = self.write(field, value);
        }
    }
}

/// Standard error, for events as JSON, one write for each event.
#[derive(Default)]
pub(crate) struct JsonLines(());

impl io::Write for JsonLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // The formatter writes only text; other bytes would be passed on.
        match std::str::from_utf8(event) {
            Ok(text) => io::stderr().lock().write_all(quote::json(text).as_bytes())?,
            Err(_) => io::stderr().lock().write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_a_line_whatever_is_in_its_fields() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().fmt_fields(Fields).with_writer(move || writer.clone());
        let log = log.with_target(false).without_time().with_ansi(false).finish();
        let name = "a\n\u{1b}[31mb\u{202e}";
        tracing::subscriber::with_default(log, || {
            tracing::info!(producer = %name, debug = ?name, plain = name, number = 5, "of {name}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let shown = "a\\n\\u{1b}[31mb\\u{202e}";
        let expected = format!(" INFO of {shown} producer={shown} debug=\"{shown}\" plain=\"{shown}\" number=5\n");
        assert_eq!(text, expected);
    }
}
