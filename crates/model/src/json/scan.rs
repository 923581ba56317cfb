//! The grammar of JSON, without recursion: the open levels are a list of closing brackets, one byte each.

use std::borrow::Cow;

use super::Error;

/// A position in a text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A token for [`Scanner::walk`]'s visitor, in the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `{` or `[`.
    Open(u8),
    /// `}` or `]`.
    Close(u8),
    /// `,` or `:`.
    Between(u8),
    /// A string, with its quotes and escapes.
    String(&'a str),
    /// A number's digits.
    Number(&'a str),
    /// `true`, `false`, `null`.
    Literal(&'static str),
}

type Scanned<T> = Result<T, Error>;

impl<'a> Scanner<'a> {
    /// Starts at the text's beginning.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The position of the next byte.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to the position.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte that is not white space, not consumed; none at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Consumes the byte that was peeked.
    #[inline]
    pub const fn bump(&mut self) {
        self.at += 1;
    }

    /// An error at the position.
    pub fn wrong(&self, expected: &str) -> Error {
        match self.text[self.at..].chars().next() {
            None => Error::syntax(format!("the text ends where {expected} was expected"), self.at),
            Some(found) => Error::syntax(format!("expected {expected}, found {found:?}"), self.at),
        }
    }

    /// Consumes this byte.
    ///
    /// # Errors
    /// [`Error`].
    pub fn expect(&mut self, byte: u8, name: &str) -> Scanned<()> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(name));
        }
        self.at += 1;
        Ok(())
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`Error`].
    pub fn end(&mut self) -> Scanned<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end")),
        }
    }

    /// Skips a value.
    ///
    /// # Errors
    /// [`Error`].
    #[inline]
    pub fn skip(&mut self) -> Scanned<()> {
        self.walk(|_, _| {})
    }

    /// Walks through a value, and passes on each token and its beginning.
    ///
    /// # Errors
    /// [`Error`].
    #[inline]
    pub fn walk(&mut self, mut tell: impl FnMut(Token<'a>, usize)) -> Scanned<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            let (first, start) = (self.peek(), self.at);
            match first {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    tell(Token::Open(bracket), start);
                    // In ASCII, a closing bracket is two after its opening one.
                    let close = bracket + 2;
                    if self.peek() != Some(close) {
                        open.push(close);
                        if bracket == b'{' {
                            self.key(&mut tell)?;
                        }
                        continue;
                    }
                    tell(Token::Close(close), self.at);
                    self.at += 1;
                }
                Some(b'"') => tell(Token::String(self.quoted()?), start),
                Some(b'-' | b'0'..=b'9') => tell(Token::Number(self.number()?), start),
                Some(b't') => tell(Token::Literal(self.literal("true")?), start),
                Some(b'f') => tell(Token::Literal(self.literal("false")?), start),
                Some(b'n') => tell(Token::Literal(self.literal("null")?), start),
                _ => return Err(self.wrong("a value")),
            }
            loop {
                let Some(close) = open.last().copied() else { return Ok(()) };
                match self.peek() {
                    Some(b',') => {
                        tell(Token::Between(b','), self.at);
                        self.at += 1;
                        if close == b'}' {
                            self.key(&mut tell)?;
                        }
                        break;
                    }
                    Some(byte) if byte == close => {
                        tell(Token::Close(close), self.at);
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.wrong(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
                }
            }
        }
    }

    fn key(&mut self, tell: &mut impl FnMut(Token<'a>, usize)) -> Scanned<()> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a key in quotes"));
        }
        let start = self.at;
        tell(Token::String(self.quoted()?), start);
        if self.peek() != Some(b':') {
            return Err(self.wrong("`:`"));
        }
        tell(Token::Between(b':'), self.at);
        self.at += 1;
        Ok(())
    }

    /// Consumes one of the three literals.
    ///
    /// # Errors
    /// [`Error`].
    pub fn literal(&mut self, word: &'static str) -> Scanned<&'static str> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong(word));
        }
        self.at += word.len();
        Ok(word)
    }

    /// A number's digits as written.
    ///
    /// # Errors
    /// [`Error`].
    pub fn number(&mut self) -> Scanned<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += usize::from(bytes.get(self.at) == Some(&b'-'));
        match bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Scanned<()> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.wrong("a digit"));
        }
        self.at += count;
        Ok(())
    }

    /// A string with its quotes; its escapes are checked, not decoded.
    ///
    /// # Errors
    /// [`Error`].
    pub fn quoted(&mut self) -> Scanned<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => match bytes.get(self.at + 1) {
                    Some(b'u') if unit(bytes, self.at).is_some() => self.at += 6,
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                    _ => return Err(Error::syntax("an escape that JSON does not have", self.at)),
                },
                Some(..0x20) => return Err(Error::syntax("a control character in a string: escape it", self.at)),
                Some(_) => self.at += 1,
                None => return Err(Error::syntax("the text ends within a string", self.at)),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at])
    }

    /// A string's decoded text.
    ///
    /// # Errors
    /// [`Error`].
    pub fn string(&mut self) -> Scanned<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a string"));
        }
        Ok(unquote(self.quoted()?))
    }
}

/// The texts of an array's elements, some of which may not be JSON or UTF-8; at most `max`. None if the array's
/// brackets and quotes do not separate its elements.
#[must_use]
pub fn elements(array: &[u8], max: usize) -> Option<Vec<&[u8]>> {
    let inner = array.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (mut elements, mut start) = (Vec::new(), 0);
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                if elements.len() < max {
                    elements.push(inner[start..at].trim_ascii());
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    if elements.len() < max {
        elements.push(inner[start..].trim_ascii());
    }
    (depth == 0 && !is_string).then_some(elements)
}

/// Largest number of replacements of each kind in [`mended`], so that its result is not much longer than the source.
const MENDED_MAX: usize = 1024;

/// The text with U+FFFD in place of bytes that are not UTF-8, and of unescaped control characters in strings. None if
/// there are no such bytes, or more than [`MENDED_MAX`], in which case the damage is not a single broken letter.
#[must_use]
pub fn mended(bytes: &[u8]) -> Option<String> {
    let is_foreign = |chunk: &std::str::Utf8Chunk<'_>| !chunk.invalid().is_empty();
    if bytes.utf8_chunks().filter(is_foreign).nth(MENDED_MAX).is_some() {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let (mut is_string, mut is_escaped, mut is_broken) = (false, false, matches!(text, Cow::Owned(_)));
    let mut is_control = |character: char| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_string => is_escaped = true,
            '"' => is_string = !is_string,
            _ => {}
        }
        is_string && character < ' '
    };
    let controls: Vec<usize> =
        text.char_indices().filter(|(_, c)| is_control(*c)).map(|(at, _)| at).take(MENDED_MAX + 1).collect();
    is_broken |= !controls.is_empty();
    if !is_broken || controls.len() > MENDED_MAX {
        return None;
    }
    let (mut mended, mut from) = (String::with_capacity(text.len() + 2 * controls.len()), 0);
    for at in controls {
        mended.push_str(&text[from..at]);
        mended.push(char::REPLACEMENT_CHARACTER);
        from = at + 1;
    }
    mended.push_str(&text[from..]);
    Some(mended)
}

/// The UTF-16 unit of the escape (`\u` and four digits) at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at + 2..at + 6)?;
    digits.iter().try_fold(0u16, |value, digit| Some(value << 4 | (*digit as char).to_digit(16)? as u16))
}

/// The decoded text of a string that [`Scanner::quoted`] has checked. Half of a surrogate pair becomes U+FFFD.
#[must_use]
pub fn unquote(quoted: &str) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, length) = escape(rest.as_bytes(), at);
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of the escape at `at`, and the length of the escape in bytes.
fn escape(bytes: &[u8], at: usize) -> (char, usize) {
    match bytes.get(at + 1) {
        Some(b'u') => match char_of(bytes, at) {
            Some(found) => found,
            None => (char::REPLACEMENT_CHARACTER, 6),
        },
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        // A quote, a backslash or a slash.
        Some(other) => (*other as char, 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// The character of a `\u` escape, or of a pair of them; none for half of a surrogate pair.
fn char_of(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let first = unit(bytes, at)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 6));
    }
    let is_pair = bytes.get(at + 6..at + 8) == Some(br"\u");
    let second = if is_pair { unit(bytes, at + 6)? } else { return None };
    let decoded = char::decode_utf16([first, second]).next()?.ok()?;
    Some((decoded, 12))
}

/// True if a checked string has an escape that `jsonb` refuses: NUL, or half of a surrogate pair.
#[must_use]
pub fn is_storable(quoted: &str) -> bool {
    let bytes = quoted.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        if bytes.get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        match char_of(bytes, at) {
            None | Some(('\0', _)) => return false,
            Some((_, length)) => at += length,
        }
    }
    true
}
