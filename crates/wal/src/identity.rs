//! A producer's identity: a name for people, and a secret of the client.
//!
//! A name alone could be used by anybody: another client could take it and move the mark of the producer's records. A
//! client's secret is random and lives as long as the records that it may resend; the daemon keeps a digest of it. Two
//! clients with one name are two producers: each has its own numbers, and both are warned.
//!
//! | name | secret | producer |
//! |---|---|---|
//! | `import:<digest of the secret>` | the digest of the file and of its import options | `tallyd import`; a second import of the file is the same producer |
//! | `request:<digest of scope and key>` | none | a request with a key (`batch.rs`); clients may not use such a name |
//! | any other | random, the client's own | a client |
//!
//! The WAL of an earlier version has names without secrets. A client with such a name continues its numbers, so that
//! numbers which the WAL may have are never used for other records, and resent records are recognised. That reveals a
//! number, and does no harm.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tallyd_protocol::{Hello, limits};

/// The prefix of names of file imports.
pub(crate) const IMPORT_PREFIX: &str = "import:";
/// The prefix of names of single requests.
pub const REQUEST_PREFIX: &str = "request:";

/// Bytes of the stored digest: a collision of two secrets of one name takes about 2^64 attempts.
const DIGEST_BYTES: usize = 16;

/// The digest of a name and its secret; all zeros without a secret. Only digests are compared, so the comparison's
/// duration reveals nothing about a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Proof(pub [u8; DIGEST_BYTES]);

impl Proof {
    /// The proof of a producer without a secret: a single request, or one of an earlier version.
    pub const NONE: Self = Self([0; DIGEST_BYTES]);

    fn of(name: &str, secret: &str) -> Self {
        // A name does not have a NUL, so the boundary between the two is unambiguous.
        Self(digest(Sha256::new().chain_update(name).chain_update([0]).chain_update(secret)))
    }

    /// The digest as hex digits.
    #[must_use]
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// A digest from hex digits.
    #[must_use]
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; DIGEST_BYTES];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// The digest is not shown, because its source is a secret.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::NONE { "Proof(none)" } else { "Proof(…)" })
    }
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    /// Its name; empty for one that does not number its records.
    pub name: Arc<str>,
    /// The secret that makes the name its own.
    pub proof: Proof,
}

/// Why a `hello` does not identify a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The name is outside its bounds.
    #[error("a producer's name has 1 to {} bytes and no NUL", limits::PRODUCER_BYTES)]
    Name,
    /// The secret is outside its bounds.
    #[error(
        "a producer's secret is text of {} to {} bytes without NUL, random and the client's own",
        limits::SECRET_BYTES_MIN,
        limits::SECRET_BYTES_MAX
    )]
    Secret,
    /// The name is reserved for the daemon.
    #[error(
        "names that begin with `{IMPORT_PREFIX}` or `{REQUEST_PREFIX}` are tallyd's own: give the producer another"
    )]
    Reserved,
}

impl ProducerIdentity {
    /// The identity of records without numbers.
    #[must_use]
    pub fn nobody() -> Self {
        Self::without_secret("")
    }

    /// A producer that does not need a secret: clients may not use its name, or an earlier version knew it.
    #[must_use]
    pub fn without_secret(name: &str) -> Self {
        Self { name: name.into(), proof: Proof::NONE }
    }

    /// The producer of a client's `hello`, and the name under which an earlier version may know it.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn of_hello(hello: &Hello) -> Result<(Self, String), HelloError> {
        let (name, secret) = (hello.producer.as_str(), hello.secret.as_str());
        if name.is_empty() || name.len() > limits::PRODUCER_BYTES || name.contains('\0') {
            return Err(HelloError::Name);
        }
        let fits = (limits::SECRET_BYTES_MIN..=limits::SECRET_BYTES_MAX).contains(&secret.len());
        if name.starts_with(REQUEST_PREFIX) || (name.starts_with(IMPORT_PREFIX) && name != import_name(secret)) {
            return Err(HelloError::Reserved);
        }
        if !fits || secret.contains('\0') {
            return Err(HelloError::Secret);
        }
        let former = if name.starts_with(IMPORT_PREFIX) { former_import_name(secret) } else { name.to_owned() };
        Ok((Self { name: name.into(), proof: Proof::of(name, secret) }, former))
    }

    /// True for records without numbers.
    #[must_use]
    pub(crate) fn is_nobody(&self) -> bool {
        self.name.is_empty()
    }
}

/// The name of the import with this secret. It can be used only with the secret, and therefore the file.
#[must_use]
pub fn import_name(secret: &str) -> String {
    format!("{IMPORT_PREFIX}{}", hex::encode(digest(Sha256::new().chain_update(secret))))
}

/// The import's name in the first version: half of the secret.
fn former_import_name(secret: &str) -> String {
    let half: String = secret.chars().take(2 * DIGEST_BYTES).collect();
    format!("{IMPORT_PREFIX}{half}")
}

fn digest(of: Sha256) -> [u8; DIGEST_BYTES] {
    *of.finalize().first_chunk().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(producer: &str, secret: &str) -> Result<ProducerIdentity, HelloError> {
        let hello = Hello { producer: producer.into(), secret: secret.into(), ..Hello::default() };
        ProducerIdentity::of_hello(&hello).map(|(identity, _)| identity)
    }

    #[test]
    fn a_producer_is_its_name_and_its_secret() {
        let (one, two) = ("1".repeat(32), "2".repeat(128));
        assert_eq!(of("a", &one), of("a", &one));
        assert_ne!(of("a", &one), of("a", &two));
        assert_ne!(of("a", &one).unwrap().proof, of("b", &one).unwrap().proof);
        assert_eq!(of("", &one), Err(HelloError::Name));
        assert_eq!(of("a\0", &one), Err(HelloError::Name));
        for secret in ["", &"1".repeat(31), &"1".repeat(129), &"\0".repeat(32)] {
            assert_eq!(of("a", secret), Err(HelloError::Secret), "{secret:?}");
        }
    }

    #[test]
    fn reserved_names_are_not_a_clients_to_say_and_an_imports_takes_its_secret() {
        let secret = "5".repeat(64);
        assert_eq!(of("request:1", &secret), Err(HelloError::Reserved));
        assert_eq!(of("import:1", &secret), Err(HelloError::Reserved));
        let name = import_name(&secret);
        assert!(of(&name, &secret).is_ok());
        assert_eq!(of(&name, &"6".repeat(64)), Err(HelloError::Reserved));
        let hello = Hello { producer: name, secret, ..Hello::default() };
        assert_eq!(ProducerIdentity::of_hello(&hello).unwrap().1, format!("import:{}", "5".repeat(32)));
    }

    #[test]
    fn a_proof_reads_back_from_hex_and_is_not_shown() {
        let proof = of("a", &"1".repeat(32)).unwrap().proof;
        assert_eq!(Proof::from_hex(&proof.to_hex()), Some(proof));
        assert_eq!(format!("{proof:?}"), "Proof(…)");
        for wrong in ["", "0", &"g".repeat(32), &"0".repeat(33), "ü".repeat(16).as_str()] {
            assert_eq!(Proof::from_hex(wrong), None, "{wrong}");
        }
    }
}
