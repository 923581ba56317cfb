//! URL parameters that the driver does not know.
//!
//! | parameter | meaning |
//! |---|---|
//! | `sslmode=allow`, `verify-ca`, `verify-full`; `sslrootcert` | about certificates: [`super::tls`] |
//! | `target_session_attrs=primary` | means `read-write`, because tallyd writes |
//! | `target_session_attrs=standby`, `prefer-standby` | an error: records are written |
//! | `FOR_OTHERS` | parameters that hosting services add for other programs; ignored |

use std::path::PathBuf;

/// Parameters of Prisma and of Supabase's integrations, about their own pools and prepared statements.
const FOR_OTHERS: [&str; 4] = ["pgbouncer", "connection_limit", "pool_timeout", "supa"];

/// The parameters that the driver does not know, and the address without them.
pub(super) struct UrlParameters {
    /// The address for the driver.
    pub(super) rest: String,
    /// `sslmode`.
    pub(super) mode: Option<String>,
    /// `sslrootcert`.
    pub(super) root_certificate: Option<PathBuf>,
    /// `target_session_attrs`, where it is `primary` or `standby`.
    pub(super) session: Option<String>,
}

impl UrlParameters {
    /// Takes them out of an address.
    pub(super) fn take_from(url: &str) -> Self {
        let mut taken = Self { rest: String::new(), mode: None, root_certificate: None, session: None };
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let (base, query) = url.split_once('?').unwrap_or((url, ""));
            let kept: Vec<&str> =
                query.split('&').filter(|pair| !pair.is_empty() && !taken.take(pair, decode)).collect();
            taken.rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        } else {
            let kept: Vec<&str> = words(url).into_iter().filter(|pair| !taken.take(pair, unquote)).collect();
            taken.rest = kept.join(" ");
        }
        taken
    }

    /// Takes the parameter if it is one of these; returns false otherwise.
    fn take(&mut self, pair: &str, plain: impl Fn(&str) -> String) -> bool {
        match pair.split_once('=') {
            Some(("sslmode", value)) => self.mode = Some(plain(value)),
            // In libpq `system` means the default here: the system's certificates.
            Some(("sslrootcert", value)) => {
                self.root_certificate = Some(plain(value)).filter(|v| v != "system").map(Into::into);
            }
            Some(("target_session_attrs", value)) => match plain(value).as_str() {
                "primary" => self.session = Some("primary".into()),
                "standby" | "prefer-standby" => self.session = Some("standby".into()),
                _ => return false,
            },
            Some((name, _)) => return FOR_OTHERS.contains(&name),
            None => return false,
        }
        true
    }
}

/// Splits `key=value` pairs at white space outside of quotes.
fn words(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => quoted = !quoted,
            _ => return c.is_whitespace() && !quoted,
        }
        false
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn unquote(value: &str) -> String {
    value
        .strip_prefix('\'')
        .and_then(|value| value.strip_suffix('\''))
        .unwrap_or(value)
        .replace("\\'", "'")
        .replace("\\\\", "\\")
}

/// Decodes percent-encoded text; invalid codes stay unchanged.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
