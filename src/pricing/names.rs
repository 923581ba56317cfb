//! Names as vendors and clients write them, brought to the form that the catalog and the rollups use.

use std::borrow::Cow;

/// Other names of providers, each with the name that records are stored under.
const PROVIDER_ALIASES: [(&str, &str); 3] = [
    ("anthropic", "claude"),
    // What OpenTelemetry's `gen_ai.provider.name` calls the Gemini API, and its everyday name.
    ("gcp.gemini", "google"),
    ("gemini", "google"),
];

/// The provider's name as it is stored: ASCII lower case, with aliases resolved. Nothing is trimmed.
/// Allocates only where upper case has to be lowered.
#[must_use]
pub fn normalise_provider(provider: &str) -> Cow<'_, str> {
    let lower = if provider.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(provider.to_ascii_lowercase())
    } else {
        Cow::Borrowed(provider)
    };
    match PROVIDER_ALIASES.iter().find(|(alias, _)| *alias == lower) {
        Some((_, name)) => Cow::Borrowed(name),
        None => lower,
    }
}

/// The model's family, for reports: the name without its date suffix (`claude-sonnet-4-20250514` is of the family
/// `claude-sonnet-4`). A name without one is its own family.
#[must_use]
pub fn family(model: &str) -> &str {
    without_date(model).unwrap_or(model)
}

/// The name before a date suffix, none if it has no such suffix. A suffix is `-20250514`, `@20250514` or
/// `-2025-05-14`, with a year of this century, a month and a day that exist in some year.
pub(super) fn without_date(model: &str) -> Option<&str> {
    let bytes = model.as_bytes();
    let start = match bytes {
        [_, .., b'-' | b'@', y1, y2, y3, y4, m1, m2, d1, d2] if is_date([*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]) => {
            bytes.len() - 9
        }
        [_, .., b'-', y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]
            if is_date([*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]) =>
        {
            bytes.len() - 11
        }
        _ => return None,
    };
    // The byte at `start` is ASCII, so the cut is between two characters.
    model.get(..start)
}

fn is_date(digits: [u8; 8]) -> bool {
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let two = |at: usize| (digits[at] - b'0') * 10 + (digits[at + 1] - b'0');
    two(0) == 20 && (1..=12).contains(&two(4)) && (1..=31).contains(&two(6))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn providers_are_lowered_and_aliases_resolved() {
        for (given, stored) in [
            ("claude", "claude"),
            ("Anthropic", "claude"),
            ("anthropic", "claude"),
            ("RentCast", "rentcast"),
            ("gcp.gemini", "google"),
            (" claude", " claude"),
            ("", ""),
        ] {
            assert_eq!(normalise_provider(given), stored, "{given:?}");
        }
        assert!(matches!(normalise_provider("openai"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_date_suffix_is_cut_and_nothing_else_is() {
        for (model, stem) in [
            ("claude-sonnet-4-20250514", "claude-sonnet-4"),
            ("claude-sonnet-4@20250514", "claude-sonnet-4"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("x-20250514", "x"),
        ] {
            assert_eq!(family(model), stem);
        }
        for model in [
            "claude-sonnet-4-5",
            "gpt-4-0613",
            "-20250514",
            "@20250514",
            "20250514",
            "x-20251314",
            "x-20250532",
            "x-19991231",
            "x-2025051",
            "x_20250514",
            "x@2025-05-14",
            "x-2025-0514",
            "",
        ] {
            assert_eq!(family(model), model);
        }
    }

    proptest! {
        #[test]
        fn any_name_has_a_family_that_begins_it(model in "\\PC{0,8}[-@]?(20[0-9]{6})?") {
            prop_assert!(model.starts_with(family(&model)));
        }
    }
}
