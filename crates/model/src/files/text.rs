//! Reads text in UTF-8, or in UTF-16 with a byte order mark, and finds the separator of a delimited file.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes of one read.
const BLOCK_BYTES: usize = 1 << 15;

/// Reads text as UTF-8. UTF-16 with a byte order mark is converted; anything else passes unchanged.
pub struct Utf8<R> {
    source: R,
    /// None until the first two bytes are read.
    form: Option<Form>,
    /// Converted bytes for the next read.
    ready: Vec<u8>,
    at: usize,
    /// Bytes and half of a surrogate pair that need the following bytes.
    rest: Vec<u8>,
    high: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    AsItIs,
    Utf16 { big_endian: bool },
}

impl<R: Read> Utf8<R> {
    /// A reader of `source`.
    pub const fn new(source: R) -> Self {
        Self { source, form: None, ready: Vec::new(), at: 0, rest: Vec::new(), high: None }
    }

    fn look(&mut self) -> io::Result<Form> {
        let mut first = Vec::new();
        (&mut self.source).take(2).read_to_end(&mut first)?;
        let form = match first[..] {
            [0xff, 0xfe] => Form::Utf16 { big_endian: false },
            [0xfe, 0xff] => Form::Utf16 { big_endian: true },
            _ => {
                // Readers look for marks in their first buffer.
                (&mut self.source).take(BLOCK_BYTES as u64).read_to_end(&mut first)?;
                self.ready = first;
                Form::AsItIs
            }
        };
        self.form = Some(form);
        Ok(form)
    }

    /// Converts another block. Half of a surrogate pair becomes U+FFFD, as does a single byte at the end.
    fn translate(&mut self, big_endian: bool) -> io::Result<()> {
        self.ready.clear();
        self.at = 0;
        let mut block = std::mem::take(&mut self.rest);
        let read = (&mut self.source).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        let pairs = block.chunks_exact(2);
        self.rest = pairs.remainder().to_vec();
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        let mut units: Vec<u16> = self.high.take().into_iter().chain(pairs.map(unit)).collect();
        let at_end = read == 0;
        if !at_end && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
            self.high = units.pop();
        }
        let mut bytes = [0; 4];
        for read in char::decode_utf16(units) {
            let char = read.unwrap_or(char::REPLACEMENT_CHARACTER);
            self.ready.extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
        }
        if at_end && !self.rest.is_empty() {
            self.rest.clear();
            self.ready.extend_from_slice("\u{fffd}".as_bytes());
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let form = self.form.map_or_else(|| self.look(), Ok)?;
        if self.at == self.ready.len() {
            match form {
                Form::AsItIs => return self.source.read(buf),
                Form::Utf16 { big_endian } => {
                    self.translate(big_endian)?;
                    // A block may consist of half a character.
                    while self.ready.is_empty() && (self.high.is_some() || !self.rest.is_empty()) {
                        self.translate(big_endian)?;
                    }
                }
            }
        }
        let ready = &self.ready[self.at..];
        let given = ready.len().min(buf.len());
        buf[..given].copy_from_slice(&ready[..given]);
        self.at += given;
        Ok(given)
    }
}

/// Consumes Excel's first line, `sep=;`. Returns the separator and the line's bytes, or none without such a line.
///
/// # Errors
/// The reader's.
pub fn separator<R: Read>(reader: &mut BufReader<R>) -> io::Result<Option<(u8, usize)>> {
    let start = reader.fill_buf()?;
    let mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    let line = &start[mark..];
    let (Some(word), Some(separator)) = (line.get(..4), line.get(4)) else { return Ok(None) };
    let end = match line.get(5..) {
        Some([b'\r', b'\n', ..]) => 7,
        Some([b'\n' | b'\r', ..]) => 6,
        Some([]) => 5,
        _ => return Ok(None),
    };
    if !word.eq_ignore_ascii_case(b"sep=") || !separator.is_ascii() {
        return Ok(None);
    }
    let found = (*separator, mark + end);
    reader.consume(mark + end);
    Ok(Some(found))
}

/// Lines to add to the CSV reader's position of a row: it reports the LF of a CRLF, which is on the line before.
pub fn line_shift(start: &[u8]) -> u64 {
    let end = start.iter().position(|byte| *byte == b'\n');
    u64::from(end.is_some_and(|end| start[..end].ends_with(b"\r")))
}

/// Reads the command line's separator: one ASCII character, or `tab`.
///
/// # Errors
/// A message with the correct form.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(*byte),
            _ => Err("a separator is one character, such as ';', or tab".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> String {
        std::io::read_to_string(Utf8::new(bytes)).unwrap()
    }

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn utf16_behind_its_mark_is_read_whole_over_several_blocks() {
        // Surrogate pairs at every offset, over several blocks.
        for shift in 0..3 {
            let text = format!("{}{}", "x".repeat(shift), "ä😀,".repeat(20_000));
            for big_endian in [false, true] {
                assert_eq!(read(&utf16(&text, big_endian)), text);
            }
        }
        assert_eq!(read(b"\xff\xfea\0\x3d\xd8"), "a\u{fffd}");
        assert_eq!(read(b"\xff\xfea\0b"), "a\u{fffd}");
        for plain in ["", "a", "ab", "abc", "\u{feff}a,b"] {
            assert_eq!(read(plain.as_bytes()), plain);
        }
    }

    #[test]
    fn the_separators_line_is_taken_and_no_other() {
        let take = |text: &str| {
            let mut reader = BufReader::new(text.as_bytes());
            let found = separator(&mut reader).unwrap().map(|(separator, _)| char::from(separator));
            (found, std::io::read_to_string(reader).unwrap())
        };
        assert_eq!(take("sep=;\r\na;b\r\n"), (Some(';'), "a;b\r\n".to_owned()));
        assert_eq!(take("\u{feff}SEP=\t\na\tb"), (Some('\t'), "a\tb".to_owned()));
        assert_eq!(take("sep=;"), (Some(';'), String::new()));
        for text in ["sep=;x\na", "separator,b\n", "", "sep=", "a,sep=;\n"] {
            assert_eq!(take(text), (None, text.to_owned()));
        }
        assert_eq!((delimiter(";"), delimiter("tab")), (Ok(b';'), Ok(b'\t')));
        assert!(
            delimiter(";;").is_err() && delimiter("").is_err() && delimiter("ä").is_err() && delimiter("\"").is_err()
        );
    }
}
