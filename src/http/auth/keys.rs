//! The issuer's keys: fetched from its JWKS, by `kid`.
//!
//! * The keys are kept for `auth.jwks_ttl_ms`. A token with an unknown `kid` causes a fetch at once, so that a rotation
//!   is noticed.
//! * There is at most one fetch every `auth.jwks_refetch_ms`, because the sender of a token chooses its `kid`.
//! * While the issuer does not answer, the cached keys serve for another `auth.jwks_max_stale_ms`; then every JWT is
//!   refused.
//! * Only ES256 (P-256) and RS256 (2,048 bits and more) keys for signatures are taken. The key decides the algorithm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

use super::Denied;
use crate::outbound;

/// The longest JWKS, bytes.
const SET_BYTES_MAX: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
/// The most keys that are taken from a JWKS.
const KEYS_MAX: usize = 64;
/// The smallest RSA modulus, bytes: 2,048 bits.
const RSA_BYTES_MIN: usize = 256;

/// A key with its one algorithm.
pub(crate) struct VerificationKey {
    /// ES256 or RS256.
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

struct Fetched {
    at: Instant,
    keys: HashMap<String, Arc<VerificationKey>>,
}

pub(crate) struct KeySet {
    url: String,
    ttl: Duration,
    refetch: Duration,
    max_stale: Duration,
    fetched: ArcSwapOption<Fetched>,
    /// When the last fetch began. Locked during a fetch, so that there is one at a time.
    attempted: Mutex<Option<Instant>>,
}

impl KeySet {
    #[must_use]
    pub(crate) fn new(url: String, config: &tallyd_config::Auth) -> Self {
        Self {
            url,
            ttl: config.jwks_ttl,
            refetch: config.jwks_refetch,
            max_stale: config.jwks_max_stale,
            fetched: ArcSwapOption::empty(),
            attempted: Mutex::new(None),
        }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// [`Denied::UnknownKey`], or [`Denied::Unavailable`] if the issuer's keys could not be fetched.
    pub(crate) async fn get(&self, kid: &str) -> Result<Arc<VerificationKey>, Denied> {
        let known = self.fetched.load_full();
        let found = known.as_ref().and_then(|fetched| fetched.keys.get(kid)).map(Arc::clone);
        let fresh = known.as_ref().is_some_and(|fetched| fetched.at.elapsed() < self.ttl);
        match found {
            Some(key) if fresh => return Ok(key),
            _ => self.refresh(known.as_ref()).await,
        }
        let Some(known) = self.fetched.load_full() else { return Err(Denied::Unavailable) };
        if known.at.elapsed() > self.ttl + self.max_stale {
            return Err(Denied::Unavailable);
        }
        known.keys.get(kid).map(Arc::clone).ok_or(Denied::UnknownKey)
    }

    /// Fetches the keys, unless another task has just done so.
    async fn refresh(&self, seen: Option<&Arc<Fetched>>) {
        let mut attempted = self.attempted.lock().await;
        let newer = self.fetched.load().as_ref().map(|fetched| fetched.at) != seen.map(|fetched| fetched.at);
        if newer || attempted.is_some_and(|at| at.elapsed() < self.refetch) {
            return;
        }
        *attempted = Some(Instant::now());
        let fetched = outbound::get(&self.url, SET_BYTES_MAX, PATIENCE).await.map_err(|error| error.to_string());
        match fetched.and_then(|body| parse(&body)) {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), url = self.url, "the issuer's keys were fetched");
                self.fetched.store(Some(Arc::new(Fetched { at: Instant::now(), keys })));
            }
            Err(error) => tracing::warn!(error, url = self.url, "the issuer's keys could not be fetched"),
        }
    }
}

fn parse(body: &[u8]) -> Result<HashMap<String, Arc<VerificationKey>>, String> {
    let set: JwkSet = serde_json::from_slice(body).map_err(|error| format!("no JWKS: {error}"))?;
    let keys = set.keys.iter().filter_map(|jwk| Some((jwk.common.key_id.clone()?, Arc::new(usable(jwk)?))));
    let keys: HashMap<_, _> = keys.take(KEYS_MAX).collect();
    // An empty set would refuse everybody; it is more likely a fault than a decision.
    if keys.is_empty() { Err("the JWKS holds no ES256 or RS256 key with a kid".to_owned()) } else { Ok(keys) }
}

/// The key, if it may verify signatures here.
fn usable(jwk: &Jwk) -> Option<VerificationKey> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(rsa) if URL_SAFE_NO_PAD.decode(&rsa.n).is_ok_and(|n| n.len() >= RSA_BYTES_MIN) => {
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|stated| stated != name) {
        return None;
    }
    Some(VerificationKey { algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}
