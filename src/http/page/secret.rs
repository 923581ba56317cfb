//! The two random values of a session, and encryption with both.
//!
//! Each has 256 bits from the operating system, which cannot be guessed, so a plain SHA-256 is stored.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use sha2::{Digest, Sha256};

pub(crate) struct SessionSecret([u8; 32]);

impl SessionSecret {
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// Reads 64 lowercase hexadecimal digits; none for any other text.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// 64 hexadecimal digits, as the browser has them.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        hex::encode(self.0)
    }

    /// The stored form.
    #[must_use]
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

/// Encrypts with a key of both values. None only if the cipher fails.
#[must_use]
pub(crate) fn seal(id: &SessionSecret, proof: &SessionSecret, plain: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let mut text = plain.to_vec();
    key(id, proof)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text).ok()?;
    Some([&nonce[..], &text].concat())
}

/// Decrypts. None if a value is wrong or the text was changed.
#[must_use]
pub(crate) fn open(id: &SessionSecret, proof: &SessionSecret, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = text.to_vec();
    let plain = key(id, proof)?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text).ok()?;
    Some(plain.to_vec())
}

fn key(id: &SessionSecret, proof: &SessionSecret) -> Option<LessSafeKey> {
    let salt = Salt::new(HKDF_SHA256, b"tallyd page session");
    let both = [id.0, proof.0].concat();
    let extracted = salt.extract(&both);
    let expanded = extracted.expand(&[b"tokens of the issuer"], &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(expanded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_64_hexadecimal_digits() {
        let secret = SessionSecret::random();
        let text = secret.text();
        assert_eq!(SessionSecret::parse(&text).unwrap().digest(), secret.digest());
        for wrong in
            ["", "00", &text[1..], &text.replace(|_: char| true, "g"), &format!("{text}0"), &format!("{text}00")]
        {
            assert!(SessionSecret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn both_values_open_what_was_sealed_and_neither_alone_does() {
        let (id, proof, other) = (SessionSecret::random(), SessionSecret::random(), SessionSecret::random());
        let mut sealed = seal(&id, &proof, b"refresh").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"refresh"));
        assert_eq!(open(&id, &proof, &sealed).as_deref(), Some(&b"refresh"[..]));
        assert!(open(&id, &other, &sealed).is_none() && open(&other, &proof, &sealed).is_none());
        assert_ne!(seal(&id, &proof, b"refresh").unwrap(), sealed, "two texts differ");
        *sealed.last_mut().unwrap() ^= 1;
        assert!(open(&id, &proof, &sealed).is_none() && open(&id, &proof, b"short").is_none());
    }
}
