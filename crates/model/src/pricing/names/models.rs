//! Finds the catalog's model for a spelling.

use super::{is_platform, known, without_date};

/// Bytes of the longest name that is searched by rules; longer ones are only compared letter by letter.
pub const NAME_BYTES: usize = 512;

/// A name in a buffer on the stack.
struct Buffer {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Buffer {
    /// The parts, one after the other; none if they do not fit.
    fn of(parts: &[&str]) -> Option<Self> {
        let mut buffer = Self { bytes: [0; NAME_BYTES], len: 0 };
        for part in parts {
            buffer.bytes.get_mut(buffer.len..buffer.len + part.len())?.copy_from_slice(part.as_bytes());
            buffer.len += part.len();
        }
        Some(buffer)
    }

    /// The text with one ASCII character replaced by another.
    fn with(text: &str, is_written: impl Fn(&[u8], usize) -> bool, other: u8) -> Option<Self> {
        let mut buffer = Self::of(&[text])?;
        for (at, byte) in buffer.bytes[..text.len()].iter_mut().enumerate() {
            if is_written(text.as_bytes(), at) {
                *byte = other;
            }
        }
        Some(buffer)
    }

    fn text(&self) -> &str {
        // The bytes are complete texts in which ASCII characters were replaced by ASCII characters.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// The name without surrounding space in ASCII lower case, the form in which aliases are stored and looked up.
pub(super) fn lowered<T>(name: &str, take: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let mut buffer = Buffer::of(&[name.trim()])?;
    buffer.bytes[..buffer.len].make_ascii_lowercase();
    take(buffer.text())
}

/// Looks a model up by its spelling at a provider or platform. `found` looks up names of the catalog, each with the
/// provider or platform that prices it; the first result is returned.
pub(crate) fn resolve<T>(provider: &str, model: &str, mut found: impl FnMut(&str, &str) -> Option<T>) -> Option<T> {
    lowered(model, |name| {
        let name = name.strip_suffix("[1m]").unwrap_or(name).trim_end();
        let mut search = Search { provider, found: &mut found };
        search.whole(name)
    })
}

/// A lookup in progress.
struct Search<'f, F> {
    provider: &'f str,
    found: &'f mut F,
}

impl<T, F: FnMut(&str, &str) -> Option<T>> Search<'_, F> {
    /// A name of the catalog, with or without its date.
    fn dated(&mut self, name: &str) -> Option<T> {
        (self.found)(self.provider, name)
            .or_else(|| without_date(name).and_then(|stem| (self.found)(self.provider, stem)))
    }

    /// A name after an optional path.
    fn whole(&mut self, name: &str) -> Option<T> {
        if let Some(result) = self.spelled(name) {
            return Some(result);
        }
        let (first, rest) = name.split_once('/')?;
        match known(first) {
            // `bedrock/us.anthropic.…` in a vendor's call: it ran on Bedrock.
            Some(named) if is_platform(named) && !is_platform(self.provider) => {
                Search { provider: named, found: &mut *self.found }.whole(rest)
            }
            // The provider's own name; or the vendor's, at a platform whose names for models do not include it.
            Some(named) if named == self.provider => self.whole(rest),
            Some(named) if !is_platform(named) && matches!(self.provider, "vertex" | "azure") => self.whole(rest),
            _ if matches!(first, "models" | "publishers" | "converse" | "invoke") => self.whole(rest),
            // `publishers/google/models/…`.
            _ if rest.starts_with("models/") => self.whole(rest),
            _ => None,
        }
    }

    /// A name without a path, by the rules of its vendor or platform.
    fn spelled(&mut self, name: &str) -> Option<T> {
        if let Some(result) = self.dated(name) {
            return Some(result);
        }
        match self.provider {
            "bedrock" => self.bedrock(name),
            "vertex" => self.vertex(name),
            "openrouter" => self.openrouter(name),
            _ if is_bedrocks(self.provider, name) => {
                Search { provider: "bedrock", found: &mut *self.found }.spelled(name)
            }
            "claude" => self.claude(name),
            "openai" => self.fine_tune(name),
            "google" => self.dated(without_number(name)?),
            _ => None,
        }
    }

    /// `claude-sonnet-4.5`, `claude-3-5-sonnet-latest`.
    fn claude(&mut self, name: &str) -> Option<T> {
        let name = name.strip_suffix("-latest").unwrap_or(name);
        self.dashed(name, Self::dated)
    }

    /// A Claude model with dashes for the dots of its version.
    fn dashed(&mut self, name: &str, next: impl FnOnce(&mut Self, &str) -> Option<T>) -> Option<T> {
        if !name.starts_with("claude-") {
            return None;
        }
        let name = Buffer::with(name, |bytes, at| bytes[at] == b'.', b'-')?;
        next(self, name.text())
    }

    /// `ft:base:org:name:id` has the price of its base model's fine-tunes.
    fn fine_tune(&mut self, name: &str) -> Option<T> {
        let (base, _) = name.strip_prefix("ft:")?.split_once(':')?;
        let name = Buffer::of(&["ft:", base])?;
        self.dated(name.text())
    }

    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0`. For other vendors a version is another model.
    fn bedrock(&mut self, name: &str) -> Option<T> {
        if let Some(short) = name.strip_prefix("claude-") {
            let name = Buffer::of(&["anthropic.claude-", short])?;
            return self.bedrock(name.text());
        }
        if !name.contains("anthropic.claude-") {
            return None;
        }
        self.dated(without_version(name))
    }

    /// `claude-sonnet-4-5@20250929`, `claude-opus-4-6@default`, `gemini-2.5-flash-001`.
    fn vertex(&mut self, name: &str) -> Option<T> {
        let stem = name.rsplit_once('@').map_or(name, |(stem, _)| stem);
        let found = self.dated(stem).or_else(|| self.dashed(stem, Self::dated));
        found.or_else(|| self.dated(without_number(stem)?))
    }

    /// OpenRouter writes a version with a dot: `anthropic/claude-sonnet-4.5`.
    fn openrouter(&mut self, name: &str) -> Option<T> {
        name.strip_prefix("anthropic/claude-")?;
        let name = without_date(name).unwrap_or(name);
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let between_digits = |bytes: &[u8], at: usize| {
            bytes[at] == b'-' && at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1))
        };
        let name = Buffer::with(name, between_digits, b'.')?;
        (self.found)(self.provider, name.text())
    }
}

/// True for Bedrock's form of a vendor's model: the vendor first, with or without a region's profile.
fn is_bedrocks(provider: &str, name: &str) -> bool {
    let vendor = |part: &str| known(part).is_some_and(|named| named == provider);
    let Some((first, rest)) = name.split_once('.') else { return false };
    vendor(first) || rest.split_once('.').is_some_and(|(second, _)| vendor(second))
}

/// Without a final `-v1:0`, `-v1`, `:0` or `-v1:0:200k`.
fn without_version(name: &str) -> &str {
    let name = name.split_once(':').map_or(name, |(stem, _)| stem);
    match name.rsplit_once("-v") {
        Some((stem, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => name,
    }
}

/// A Gemini model without the number of its stable version.
fn without_number(name: &str) -> Option<&str> {
    let (stem, number) = name.rsplit_once("-00")?;
    let is_number = matches!(number.as_bytes(), [b'1'..=b'9']);
    (stem.starts_with("gemini-") && is_number).then_some(stem)
}
