//! Environment variables as settings.
//!
//! | variable | sets |
//! |---|---|
//! | `TALLYD_<SECTION>_<KEY>` | that key; lists are separated by commas |
//! | `TALLYD_SOCKET`, `TALLYD_LOG` | `listen.socket`, `log.filter`, unless the full name is set too |
//! | `DATABASE_URL` | `database.url`, unless `TALLYD_DATABASE_URL` is set |
//! | `PORT` | `http.listen`, as `0.0.0.0:PORT`, unless `TALLYD_HTTP_LISTEN` is set |
//! | `TALLYD_CONFIG` | nothing here: the command line finds the file by it |
//! | one of [`CLIENT_VARIABLES`] | nothing here: the client libraries read it; one environment serves both |
//!
//! Any other `TALLYD_` variable is an error, except those that Kubernetes adds for a service called `tallyd`
//! (`TALLYD_SERVICE_HOST`, `TALLYD_PORT_7420_TCP` …).

use std::collections::BTreeMap;

use super::error::{Fault, Faults, Origin, closest};

const PREFIX: &str = "TALLYD_";
/// Read by the command line.
const FILE_VARIABLE: &str = "TALLYD_CONFIG";
/// The port that the platform assigned to the container.
const PORT: &str = "PORT";
/// Variables of the client libraries, which the daemon ignores. `TALLYD_SOCKET`, which both read, is not in the list.
pub const CLIENT_VARIABLES: [&str; 9] = [
    "TALLYD_ENDPOINT",
    "TALLYD_TOKEN",
    "TALLYD_HTTP",
    "TALLYD_HTTP_TOKEN",
    "TALLYD_APP",
    "TALLYD_DAILY_BUDGET_USD",
    "TALLYD_ALERT_THRESHOLD_PERCENT",
    "TALLYD_DISABLED",
    "TALLYD_SPOOL",
];
/// Shorter names of keys.
const SHORT_NAMES: [(&str, &str); 2] = [("TALLYD_SOCKET", "listen.socket"), ("TALLYD_LOG", "log.filter")];

/// The variable of a key: `wal.max_bytes` is set by `TALLYD_WAL_MAX_BYTES`.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// One setting: the variable, the key that it sets, and the value's text.
type Setting = (String, String, String);

/// Finds the settings among all variables.
pub(super) fn settings<'a>(
    variables: impl IntoIterator<Item = (String, String)>,
    keys: impl Iterator<Item = &'a str>,
    faults: &mut Faults,
) -> Vec<Setting> {
    let keys: BTreeMap<String, &str> = keys.map(|key| (variable(key), key)).collect();
    // By key: of two variables for one key, the one with the lower rank applies.
    let mut chosen: BTreeMap<String, (u8, Setting)> = BTreeMap::new();
    for (name, text) in variables {
        let Some((rank, key)) = setting(&name, &text, &keys, faults) else { continue };
        let stronger = chosen.get(&key).is_none_or(|(present, _)| rank < *present);
        if stronger {
            chosen.insert(key.clone(), (rank, (name, key, text)));
        }
    }
    let chosen = chosen.into_values().filter_map(|(_, (name, key, text))| {
        // Checked last: a port that is not used may have any value.
        let text = if name == PORT { listen_on(&text, faults)? } else { text };
        Some((name, key, text))
    });
    chosen.collect()
}

/// The effect of one variable: its rank among the variables of its key, and the key. None without an effect.
fn setting(name: &str, text: &str, keys: &BTreeMap<String, &str>, faults: &mut Faults) -> Option<(u8, String)> {
    if let Some(key) = keys.get(name) {
        return Some((0, (*key).to_owned()));
    }
    if let Some((_, key)) = SHORT_NAMES.iter().find(|(short, _)| *short == name) {
        return Some((1, (*key).to_owned()));
    }
    match name {
        // Platforms leave variables empty for which they have no value.
        "DATABASE_URL" | PORT if text.is_empty() => None,
        "DATABASE_URL" => Some((1, "database.url".to_owned())),
        PORT => Some((1, "http.listen".to_owned())),
        FILE_VARIABLE => None,
        _ if CLIENT_VARIABLES.contains(&name) => None,
        _ if !name.starts_with(PREFIX) || is_service_link(name) => None,
        _ => {
            faults.push(unknown(name, keys));
            None
        }
    }
}

/// The address for a port that the platform assigned: it connects from outside of the container.
fn listen_on(port: &str, faults: &mut Faults) -> Option<String> {
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Some(format!("0.0.0.0:{port}")),
        _ => {
            faults.push(Fault::Value {
                origin: Origin::Variable(PORT.to_owned()),
                key: "http.listen".to_owned(),
                reason: format!("{port:?} is not a port; set PORT to a number between 1 and 65535, or unset it"),
            });
            None
        }
    }
}

/// True if Kubernetes made the variable for a service called `tallyd`. No section is called `service` or `port`.
fn is_service_link(name: &str) -> bool {
    let rest = &name[PREFIX.len()..];
    rest == "PORT" || rest == "SERVICE_HOST" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_PORT")
}

fn unknown(name: &str, keys: &BTreeMap<String, &str>) -> Fault {
    let short = SHORT_NAMES.iter().map(|(short, _)| *short);
    let known = keys.keys().map(String::as_str).chain(short).chain([FILE_VARIABLE]);
    let closest = closest(name, known).map_or(FILE_VARIABLE, |(closest, _)| closest);
    Fault::UnknownVariable { name: name.to_owned(), closest: closest.to_owned() }
}
