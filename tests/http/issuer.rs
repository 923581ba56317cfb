//! A stand-in for Supabase Auth that signs JWTs and serves its keys.

use crate::stub::serve;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub const AUDIENCE: &str = "authenticated";

/// Made for these tests with `openssl ecparam -name prime256v1 -genkey` and `openssl genrsa`; they protect nothing.
pub const EC_KEYS: [&str; 2] = [include_str!("keys/ec-1.pem"), include_str!("keys/ec-2.pem")];
pub const RSA_KEY: &str = include_str!("keys/rsa.pem");

/// A key that signs.
pub struct Signer {
    pub kid: String,
    pub algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub fn ec(kid: &str, pem: &str) -> Self {
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        Self { kid: kid.into(), algorithm: Algorithm::ES256, key }
    }

    pub fn rsa(kid: &str, pem: &str) -> Self {
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Self { kid: kid.into(), algorithm: Algorithm::RS256, key }
    }

    pub fn secret(kid: &str, secret: &[u8]) -> Self {
        Self { kid: kid.into(), algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        serde_json::to_value(jwk).unwrap()
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// An `Authorization` header with a token of these claims.
    pub fn bearer(&self, claims: &Value) -> String {
        format!("Bearer {}", self.sign(claims))
    }
}

/// The server of the keys.
pub struct Issuer {
    pub url: String,
    keys: Arc<Mutex<Option<Value>>>,
    fetches: Arc<AtomicUsize>,
}

impl Issuer {
    pub fn start(signers: &[&Signer]) -> Self {
        let (keys, fetches) = (Arc::<Mutex<Option<Value>>>::default(), Arc::<AtomicUsize>::default());
        let (served, counted) = (Arc::clone(&keys), Arc::clone(&fetches));
        let host = serve(move |asked| {
            counted.fetch_add(1, Ordering::SeqCst);
            let found = asked.line == "GET /auth/v1/.well-known/jwks.json";
            let body = served.lock().unwrap().as_ref().filter(|_| found).map(ToString::to_string);
            body.map_or((500, String::new()), |body| (200, body))
        });
        let issuer = Self { url: format!("{host}/auth/v1"), keys, fetches };
        issuer.publish(signers);
        issuer
    }

    /// Serves these keys from now on.
    pub fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        *self.keys.lock().unwrap() = Some(json!({ "keys": keys }));
    }

    /// Answers with errors from now on.
    pub fn fail(&self) {
        *self.keys.lock().unwrap() = None;
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// The claims of an admin's token.
    pub fn claims(&self) -> Value {
        admin_claims(&self.url)
    }
}

/// The claims of an admin's token by this issuer.
pub fn admin_claims(issuer: &str) -> Value {
    let now = now();
    json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "5e0e2c5f-3b5e-4c7b-9a55-6a0a3f0f7d11", "role": "authenticated",
        "iat": now, "exp": now + 3600, "app_metadata": {"role": "admin"}, "user_metadata": {},
    })
}

#[expect(clippy::disallowed_methods, reason = "tokens are made for the daemon's clock, which is the machine's")]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
