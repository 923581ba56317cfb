//! The text of an alert in the webhook's message.
//!
//! Senders choose the names of models, users and applications, and Slack interprets markup in a message: `<!channel>`
//! notifies everybody, `<https://…|text>` is a link, and so is a bare address. Slack's documentation escapes `&`, `<`
//! and `>` as `&amp;`, `&lt;` and `&gt;`, and has no other escapes. Other markup, here and in services that accept the
//! same message (`@channel`, `[text](address)`), is broken up by an invisible space of zero width.
//!
//! The message has `text` alone: some services refuse fields that they do not know.

use tallyd_model::quote;
pub use tallyd_model::wording::named;
use tallyd_model::wording::short;

/// Characters of a message before escaping: several times the longest one.
const TEXT_CHARS: usize = 1_000;
/// Zero width space.
const PART: char = '\u{200b}';

/// The escaped form of a message.
#[must_use]
pub fn text(message: &str) -> String {
    let message = short(&quote::line(message), TEXT_CHARS);
    let mut text = String::with_capacity(message.len() + 16);
    let mut rest = message.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            c => text.push(c),
        }
        let next = rest.peek().copied().unwrap_or(' ');
        let is_markup = match c {
            '@' | '#' => true,
            // A scheme: `https://`, `mailto:`.
            ':' => next != ' ',
            // A host without a scheme.
            '.' => next.is_alphabetic(),
            ']' => next == '(',
            _ => false,
        };
        if is_markup {
            text.push(PART);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_is_markup() {
        for (message, posted) in [
            ("12.5 of 10 USD since 2026-11-01: 100 %", "12.5 of 10 USD since 2026-11-01: 100 %"),
            ("claude-3.5", "claude-3.5"),
            (
                "<!channel> & <https://x.example|here>",
                "&lt;!channel&gt; &amp; &lt;https:\u{200b}//x.\u{200b}example|here&gt;",
            ),
            ("@channel", "@\u{200b}channel"),
            ("[a](b)", "[a]\u{200b}(b)"),
            ("a\nb\u{202e}", "a\\nb\\u{202e}"),
        ] {
            assert_eq!(text(message), posted);
        }
    }

    #[test]
    fn messages_are_bounded() {
        assert_eq!(text(&"&".repeat(5_000)).len(), 5_000 + '…'.len_utf8());
    }
}
