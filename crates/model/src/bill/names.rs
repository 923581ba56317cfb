//! Models as Anthropic's console names them in its files: `Claude Sonnet 4.5`.

use std::borrow::Cow;

/// The API's name of a model that a console's file names for people; any other name is as it was.
///
/// Up to version 3 the version stood before the name, `claude-3-5-haiku`; since then it stands behind, `claude-haiku-4-5`.
pub(super) fn console_model(name: &str) -> Cow<'_, str> {
    let Some(words) = name.strip_prefix("Claude ") else { return Cow::Borrowed(name) };
    let mut words = words.split_ascii_whitespace();
    let (Some(first), Some(second), None) = (words.next(), words.next(), words.next()) else {
        return Cow::Borrowed(name);
    };
    let is_version =
        |word: &str| word.starts_with(|char: char| char.is_ascii_digit()) && word.split('.').all(is_digits);
    let (line, version) = match (is_version(first), is_version(second)) {
        (false, true) => (first, second),
        (true, false) => (second, first),
        _ => return Cow::Borrowed(name),
    };
    let (line, version) = (line.to_ascii_lowercase(), version.replace('.', "-"));
    let major = version.split('-').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(u32::MAX);
    Cow::Owned(if major <= 3 { format!("claude-{version}-{line}") } else { format!("claude-{line}-{version}") })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consoles_names_become_the_apis_and_others_stay() {
        for (name, expected) in [
            ("Claude Sonnet 4.5", "claude-sonnet-4-5"),
            ("Claude Opus 4.1", "claude-opus-4-1"),
            ("Claude Sonnet 4", "claude-sonnet-4"),
            ("Claude Haiku 3.5", "claude-3-5-haiku"),
            ("Claude Opus 3", "claude-3-opus"),
            ("Claude 3.7 Sonnet", "claude-3-7-sonnet"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5"),
            ("Claude Code", "Claude Code"),
            ("Claude Sonnet latest", "Claude Sonnet latest"),
            ("Claude", "Claude"),
            ("", ""),
        ] {
            assert_eq!(console_model(name), expected);
        }
    }
}
