//! Numbers in the forms of spreadsheets in different countries.

use std::borrow::Cow;

/// The form of numbers. The default is digits with a point: `1234.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// The separator of groups of three digits. A space also stands for non-breaking spaces.
    pub thousands: Option<char>,
    /// True if a comma precedes the decimals.
    pub decimal_comma: bool,
}

impl Numbers {
    /// Why the two do not fit together; none if they do.
    #[must_use]
    pub fn fault(self) -> Option<&'static str> {
        match (self.thousands, self.decimal_comma) {
            (Some(','), true) => Some("`,` cannot both separate thousands and stand before the decimals"),
            (Some('.'), false) => Some("`.` separates thousands where --decimal-comma is given, too"),
            _ => None,
        }
    }

    /// The number with a point and without separators. Other text stays unchanged, for the next reader to refuse.
    ///
    /// # Errors
    /// A separator that does not fit the form, with the flag that would fit.
    pub fn plain(self, text: &str) -> Result<Cow<'_, str>, String> {
        let (point, other) = if self.decimal_comma { (',', '.') } else { ('.', ',') };
        let is_separator = |char: char| {
            self.thousands.is_some_and(|thousands| char == thousands || (thousands == ' ' && is_space(char)))
        };
        let (whole, decimals) =
            text.split_once(point).map_or((text, None), |(whole, decimals)| (whole, Some(decimals)));
        let stray =
            |char: char| !is_separator(char) && (char == other || char == '\'' || char == '’' || is_space(char));
        if let Some(char) = text.chars().find(|char| stray(*char)) {
            let hint = match char {
                ',' => "give --thousands , or --decimal-comma if that is what it means",
                _ => "give --thousands with it if it separates thousands",
            };
            return Err(format!("{text:?} has {char:?} in it: {hint}"));
        }
        if decimals.is_some_and(|decimals| decimals.contains(is_separator) || decimals.contains(point)) {
            return Err(format!("{text:?} has a separator behind its decimal sign"));
        }
        if !whole.contains(is_separator) && !self.decimal_comma {
            return Ok(Cow::Borrowed(text));
        }
        let mut groups = whole.trim_start_matches(['-', '+']).split(is_separator);
        let first = groups.next().unwrap_or_default().len();
        let mut groups = groups.peekable();
        if groups.peek().is_some() && (!(1..=3).contains(&first) || groups.any(|group| group.len() != 3)) {
            return Err(format!("{text:?} does not have three digits between its separators"));
        }
        let mut plain = whole.replace(is_separator, "");
        if let Some(decimals) = decimals {
            plain.push('.');
            plain.push_str(decimals);
        }
        Ok(Cow::Owned(plain))
    }
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_read_as_the_flags_say_and_never_guessed() {
        let form = |thousands: Option<char>, decimal_comma| Numbers { thousands, decimal_comma };
        let plain = |form: Numbers, text: &str| form.plain(text).map(Cow::into_owned);
        for (form, text, expected) in [
            (form(None, false), "1234.5", "1234.5"),
            (form(None, false), "1e21", "1e21"),
            (form(Some(','), false), "1,234,567.25", "1234567.25"),
            (form(Some(','), false), "-1,234", "-1234"),
            (form(Some(','), false), "999", "999"),
            (form(Some('.'), true), "1.234.567,25", "1234567.25"),
            (form(None, true), "0,25", "0.25"),
            (form(Some(' '), true), "1\u{202f}234\u{a0}567,5", "1234567.5"),
            (form(Some('\''), false), "1'234", "1234"),
        ] {
            assert_eq!(plain(form, text), Ok(expected.to_owned()), "{text}");
        }
        // 1,234 may be 1234 or 1.234, so without a flag it is refused.
        assert!(plain(form(None, false), "1,234").unwrap_err().contains("--thousands , or --decimal-comma"));
        for (form, text) in [
            (form(Some(','), false), "1,23"),
            (form(Some(','), false), ",123"),
            (form(Some(','), false), "1234,567"),
            (form(Some(','), false), "1.234,5"),
            (form(None, true), "1.234"),
            (form(None, true), "1,2,3"),
            (form(None, false), "1 234"),
            (form(Some('.'), true), "1,234.5"),
        ] {
            assert!(plain(form, text).is_err(), "{text}");
        }
        assert!(form(Some(','), true).fault().is_some() && form(Some('.'), false).fault().is_some());
    }
}
