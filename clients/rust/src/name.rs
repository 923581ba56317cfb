//! Producers' names and secrets. Names are for people, and two processes with one name are warned. Secrets distinguish them.

use tallyd_protocol::limits::PRODUCER_BYTES;

use crate::rng::Rng;

/// `<app or program>@<host>-<pid>-<random>`: unique per process, readable in the daemon log.
pub fn default_producer(app: &str, rng: &mut Rng) -> String {
    let app = if app.is_empty() { program() } else { app.to_owned() };
    let tail = format!("-{}-{:016x}", std::process::id(), rng.next_u128() >> 64);
    with_tail(format!("{app}@{}", host()), &tail)
}

/// Fits an application's name into the protocol's bounds: NUL becomes `_`; a long name is cut and gets a hash of the whole,
/// so that two long names stay different. None for an empty name.
pub fn chosen_producer(name: &str) -> Option<String> {
    let mut name = name.replace('\0', "_");
    if name.len() > PRODUCER_BYTES {
        let tail = format!("-{:016x}", fnv1a(name.as_bytes()));
        name = with_tail(name, &tail);
    }
    (!name.is_empty()).then_some(name)
}

/// The name, cut if need be, and its end.
pub fn with_tail(mut name: String, tail: &str) -> String {
    name.truncate(name.floor_char_boundary_at(PRODUCER_BYTES - tail.len()));
    name + tail
}

/// 128 random bits as hex digits: a producer's secret.
pub fn new_secret() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // The standard library's map keys come from the same source, and were drawn while it worked.
        bytes = Rng::from_entropy().next_u128().to_ne_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn program() -> String {
    let path = std::env::current_exe().ok();
    let stem = path.as_deref().and_then(|path| path.file_stem());
    stem.map_or_else(|| "app".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn host() -> String {
    // Linux first; elsewhere the shell's variable, if exported. The random tail makes the name unique in any case.
    let linux = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = linux.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "host".to_owned() } else { name.to_owned() }
}

/// FNV-1a, 64 bits. Unlike the standard hasher, it is the same in each release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

trait FloorCharBoundary {
    /// The greatest character boundary at or below `at`.
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl FloorCharBoundary for String {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        (0..=at.min(self.len())).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        let long = "é".repeat(200);
        let a = chosen_producer(&long).unwrap();
        let b = chosen_producer(&format!("{long}b")).unwrap();
        assert!(a.len() <= PRODUCER_BYTES && a.starts_with("ééé"), "{a}");
        assert_ne!(a, b);
        assert_eq!(chosen_producer("api\0-1").as_deref(), Some("api_-1"));
        assert_eq!(chosen_producer(""), None);
    }

    #[test]
    fn secrets_fit_and_differ() {
        let secrets = [new_secret(), new_secret()];
        assert_eq!(secrets[0].len(), tallyd_protocol::limits::SECRET_BYTES_MIN);
        assert_ne!(secrets[0], secrets[1]);
    }

    #[test]
    fn default_names_are_unique_and_fit() {
        let mut rng = Rng::from_entropy();
        let names = [default_producer("web", &mut rng), default_producer("web", &mut rng)];
        assert!(names[0].starts_with("web@"), "{}", names[0]);
        assert_ne!(names[0], names[1]);
        assert!(default_producer(&"é".repeat(200), &mut rng).len() <= PRODUCER_BYTES);
    }
}
