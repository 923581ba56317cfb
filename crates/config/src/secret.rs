//! Values that must not be printed, and text that contains one.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// The replacement of a secret.
const REDACTED: &str = "***";

/// A token. Prints, and serializes, as `***`. Compare tokens that a client sent in constant time, not with `==`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself: for the check or the connection that needs it, and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if the value is in a file or a variable, and is read when it is needed.
    #[must_use]
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.0.starts_with("file:") || self.0.starts_with("env:")
    }

    /// The secret, or the content of the file or variable that it names: `file:PATH`, `env:NAME`. A file is read each time,
    /// so that its content can be changed while the daemon runs.
    ///
    /// # Errors
    /// A sentence without the secret.
    pub fn read(&self) -> Result<String, String> {
        if let Some(path) = self.0.strip_prefix("file:") {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
            return Ok(text.trim().to_owned());
        }
        match self.0.strip_prefix("env:") {
            Some(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set")),
            None => Ok(self.0.clone()),
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// A connection string. Prints, and serializes, without its password: see [`redact_url`].
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The string itself, for the connection.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A PostgreSQL URL or `key=value` string with `***` in place of every password.
///
/// Where a string is malformed (a password with a raw `@` or `/` in it) too much is hidden rather than too little.
#[must_use]
pub fn redact_url(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => redact_parameters(&format!("{scheme}://{}", redact_user(rest)), true),
        None => redact_parameters(text, false),
    }
}

/// Hides the text between the first `:` and the last `@`: the password, if there is one.
fn redact_user(rest: &str) -> String {
    match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{REDACTED}@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    }
}

/// Hides the value of each parameter whose name ends with `password`.
fn redact_parameters(text: &str, is_url: bool) -> String {
    const NAME: &str = "password";
    let lower = text.to_ascii_lowercase();
    let mut redacted = String::new();
    let mut at = 0;
    while let Some(found) = lower[at..].find(NAME) {
        let name_end = at + found + NAME.len();
        redacted.push_str(&text[at..name_end]);
        at = name_end;
        let rest = &text[name_end..];
        let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let value_start = text.len() - value.len();
        redacted.push_str(&text[name_end..value_start]);
        redacted.push_str(REDACTED);
        at = value_start + value_bytes(value, is_url);
    }
    redacted.push_str(&text[at..]);
    redacted
}

/// Where a parameter's value ends: in a URL at `&`; else at a space, or at the closing quote, where a backslash takes
/// the next character along. A quote that is never closed takes the rest.
fn value_bytes(value: &str, is_url: bool) -> usize {
    if is_url {
        return value.find('&').unwrap_or(value.len());
    }
    let quoted = value.starts_with('\'');
    let mut escaped = false;
    for (at, character) in value.char_indices().skip(usize::from(quoted)) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return at + 1,
            _ if !quoted && character.is_whitespace() => return at,
            _ => {}
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_they_can_stand() {
        for (text, redacted) in [
            ("postgres://u:pw@h:5432/db?sslmode=require", "postgres://u:***@h:5432/db?sslmode=require"),
            ("postgresql://u@h/db", "postgresql://u@h/db"),
            ("postgresql:///db?host=/run&user=u", "postgresql:///db?host=/run&user=u"),
            ("postgres://u:p@w/o:rd@h/db", "postgres://u:***@h/db"),
            ("postgres://u:@h", "postgres://u:***@h"),
            ("postgres://h/db?user=u&PassWord=pw&x=1", "postgres://h/db?user=u&PassWord=***&x=1"),
            ("postgres://h/db?sslpassword=pw", "postgres://h/db?sslpassword=***"),
            ("host=h password=pw user=u", "host=h password=*** user=u"),
            ("password = 'p w\\' x' user=u", "password = *** user=u"),
            ("password='never closed user=u", "password=***"),
            ("password=p\\ w user=u", "password=*** user=u"),
            ("application_name=passwords user=u", "application_name=passwords user=u"),
            ("", ""),
        ] {
            assert_eq!(redact_url(text), redacted);
        }
    }

    #[test]
    fn no_form_of_a_secret_shows_it() {
        let (secret, url) = (Secret::from("hidden".to_owned()), SecretUrl::from("postgres://u:hidden@h".to_owned()));
        let forms = [
            format!("{secret} {secret:?} {url} {url:?} {:?}", Some(&secret)),
            serde_json::to_string(&(&secret, &url)).unwrap(),
        ];
        for form in forms {
            assert!(!form.contains("hidden"), "{form}");
        }
        assert_eq!((secret.expose(), url.expose()), ("hidden", "postgres://u:hidden@h"));
    }

    proptest! {
        #[test]
        fn a_password_in_a_url_never_shows(password in "Q[^\\PC]{1,20}Q", user in "[a-z]{1,5}") {
            let redacted = redact_url(&format!("postgres://{user}:{password}@h/db"));
            prop_assert!(!redacted.contains(&password), "{}", redacted);
        }

        #[test]
        fn any_text_is_taken_without_a_panic(text in "(\\PC|password|=|'|://|@){0,12}") {
            prop_assert!(redact_url(&text).is_empty() == text.is_empty());
        }
    }
}
