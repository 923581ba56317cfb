//! Escapes foreign text on a terminal and in the daemon log.
//!
//! Senders choose the names of users, producers and models. Printed unchanged, such a name could move the cursor, forge
//! a line, or reorder the text around it. So each invisible or active character becomes its escape, as in Rust: `\n`,
//! `\u{1b}`.

use std::borrow::Cow;

/// True if a character is invisible, or affects the terminal or the text around it.
const fn acts(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Writing direction: marks, embeddings, overrides, isolates.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // Ends of lines and paragraphs.
        | '\u{2028}' | '\u{2029}'
        // Zero width. Joiners (200C, 200D) stay, because words of Persian and emoji need them.
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Text for one line.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, acts, |c| c.escape_debug().to_string())
}

/// Text of several lines: line ends and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| acts(c) && !matches!(c, '\n' | '\t'), |c| c.escape_debug().to_string())
}

/// JSON, which stays the same JSON: in its strings such characters become JSON escapes. Line ends stay.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    escape(text, |c| acts(c) && c != '\n', escaped)
}

fn escape(text: &str, which: impl Fn(char) -> bool, escaped: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&which) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if which(c) { out.push_str(&escaped(c)) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_seen_stays() {
        for seen in ["", "gpt-4.1", "Zoë", "日本語", "می‌خواهم", "👩‍💻", "a\\b \"c\""] {
            assert_eq!(line(seen), seen);
        }
        for (text, escaped) in [
            ("a\nb", "a\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(line(text), escaped);
        }
        assert_eq!(lines("a\n\tb\r\u{7f}"), "a\n\tb\\r\\u{7f}");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "name": "a\u{9b}b\u{202e}c\u{e0041}\u{7f}\n" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let quoted = json(&text);
        assert!(!quoted.contains(|c| acts(c) && c != '\n'), "{quoted}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&quoted).unwrap(), value);
    }
}
