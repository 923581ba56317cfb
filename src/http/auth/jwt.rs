//! JSON Web Tokens of the configured issuer.
//!
//! Checked in this order: size, header, algorithm (on the list *and* the key's own), key by `kid`, signature, issuer,
//! audience, times. So a token that is signed with HS256 and the public key as its secret fails at the algorithm: a
//! public key verifies only ES256 or RS256, and HS256 takes only `auth.hs256_secret`.
//!
//! Times are compared here and not by the library, with the daemon's clock and a leeway of [`LEEWAY_S`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Deserializer};

use super::Denied;
use super::keys::{KeySet, VerificationKey};
use tallyd_base::clock::Clock;
use tallyd_intake::token::TokenHeader;

/// The most that the issuer's clock may differ from the daemon's, seconds.
const LEEWAY_S: i64 = 30;
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The longest subject, bytes.
const SUBJECT_BYTES_MAX: usize = 256;

/// Claims of a verified token.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Claims {
    /// The user's id.
    pub sub: String,
    /// Seconds since 1970.
    #[serde(default)]
    exp: Option<Seconds>,
    #[serde(default)]
    nbf: Option<Seconds>,
    /// Set by the issuer's administrators. (`user_metadata`, which users write themselves, is not read.)
    #[serde(default)]
    app_metadata: AppMetadata,
}

/// A time in a token, whole seconds since 1970. The specification allows a fraction, and JSON an exponent.
#[derive(Debug, Clone, Copy)]
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // Up to 2^53 each second is exact. Larger values saturate: such a token never expires, or never begins.
        Ok(Self(seconds.floor() as i64))
    }
}

/// Only `role` is read; any type of value is accepted.
#[derive(Debug, Clone, Default)]
struct AppMetadata {
    is_admin: bool,
}

impl<'de> Deserialize<'de> for AppMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { is_admin: value.get("role").and_then(serde_json::Value::as_str) == Some("admin") })
    }
}

impl Claims {
    #[must_use]
    pub(crate) const fn says_admin(&self) -> bool {
        self.app_metadata.is_admin
    }
}

impl Claims {
    /// When the token stops being accepted, seconds since 1970. A verified token always has such a time.
    #[must_use]
    pub(crate) fn ends_at_s(&self) -> Option<i64> {
        self.exp.map(|Seconds(expires)| expires.saturating_add(LEEWAY_S))
    }
}

pub(crate) struct Verifier {
    keys: Option<KeySet>,
    shared: Option<Arc<VerificationKey>>,
    validation: Validation,
    clock: Arc<dyn Clock>,
}

impl Verifier {
    /// None if no issuer is configured.
    #[must_use]
    pub(crate) fn new(config: &tallyd_config::Auth, clock: &Arc<dyn Clock>) -> Option<Self> {
        let issuer = config.issuer.as_ref()?;
        super::signatures::install();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let shared = config.hs256_secret.as_ref().map(|secret| {
            let key = DecodingKey::from_secret(secret.expose().as_bytes());
            Arc::new(VerificationKey { algorithm: Algorithm::HS256, key })
        });
        let keys = config.keys_url().map(|url| KeySet::new(url, config));
        Some(Self { keys, shared, validation, clock: Arc::clone(clock) })
    }

    /// Verifies a token; returns its claims.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn verify(&self, token: &str) -> Result<Claims, Denied> {
        let header = header(token)?;
        let key = self.key(&header).await?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![key.algorithm];
        let verified = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
        let claims = verified.map_err(|error| reason(error.kind()))?.claims;
        self.check_times(&claims)?;
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX || claims.sub.contains('\0') {
            return Err(Denied::Malformed);
        }
        Ok(claims)
    }

    async fn key(&self, header: &TokenHeader) -> Result<Arc<VerificationKey>, Denied> {
        let key = match (header.alg.as_str(), &self.shared, &self.keys) {
            ("HS256", Some(shared), _) => Arc::clone(shared),
            ("ES256" | "RS256", _, Some(keys)) => keys.get(header.kid.as_deref().ok_or(Denied::UnknownKey)?).await?,
            _ => return Err(Denied::Algorithm),
        };
        let stated = if header.alg == "HS256" {
            Algorithm::HS256
        } else if header.alg == "ES256" {
            Algorithm::ES256
        } else {
            Algorithm::RS256
        };
        if key.algorithm == stated { Ok(key) } else { Err(Denied::Algorithm) }
    }

    fn check_times(&self, claims: &Claims) -> Result<(), Denied> {
        let now = self.clock.now_us().div_euclid(1_000_000);
        // Without an expiry the token would be good for ever, which no issuer means.
        let expires = claims.exp.ok_or(Denied::Malformed)?.0;
        if now >= expires.saturating_add(LEEWAY_S) {
            return Err(Denied::Expired);
        }
        if claims.nbf.is_some_and(|Seconds(begins)| now.saturating_add(LEEWAY_S) < begins) {
            return Err(Denied::NotYetValid);
        }
        Ok(())
    }
}

fn header(token: &str) -> Result<TokenHeader, Denied> {
    if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Err(Denied::Malformed);
    }
    let encoded = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Denied::Malformed)?;
    TokenHeader::read(&header).ok_or(Denied::Malformed)
}

fn reason(kind: &ErrorKind) -> Denied {
    match kind {
        ErrorKind::InvalidSignature => Denied::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Denied::Algorithm,
        ErrorKind::InvalidIssuer => Denied::Issuer,
        ErrorKind::InvalidAudience => Denied::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Denied::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Denied::Audience,
        _ => Denied::Malformed,
    }
}
