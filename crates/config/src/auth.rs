//! `[auth]`: access to the HTTP API. Static tokens need no setting: `tallyd token create` makes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::{Secret, form};

/// JSON Web Tokens, and the limits of failures.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The `iss` of the tokens, exactly; with Supabase `https://<project>.supabase.co/auth/v1`. Empty: no JWT is accepted.
    #[serde(with = "form::empty_is_none")]
    pub issuer: Option<String>,
    /// Where the issuer's keys are. Empty: `/.well-known/jwks.json` below the issuer.
    #[serde(with = "form::empty_is_none")]
    pub jwks_url: Option<String>,
    /// The `aud` of the tokens.
    pub audience: String,
    /// Shared secret of an issuer that signs with HS256, secret. Empty: HS256 is refused.
    #[serde(with = "form::empty_is_none")]
    pub hs256_secret: Option<Secret>,
    /// The Supabase project's publishable key, or its older `anon` key; it is public by design. With it the admin page signs
    /// in by e-mail address and password.
    #[serde(with = "form::empty_is_none")]
    pub publishable_key: Option<String>,
    /// How long the issuer's keys are taken as they are, before they are fetched again.
    #[serde(rename = "jwks_ttl_ms", with = "form::milliseconds")]
    pub jwks_ttl: Duration,
    /// The least time between two fetches of the issuer's keys.
    #[serde(rename = "jwks_refetch_ms", with = "form::milliseconds")]
    pub jwks_refetch: Duration,
    /// How long keys serve while the issuer is down.
    #[serde(rename = "jwks_max_stale_ms", with = "form::milliseconds")]
    pub jwks_max_stale: Duration,
    /// How long the daemon remembers whether `user_profiles` names a user an admin. A demoted admin stays in for so long.
    #[serde(rename = "admin_ttl_ms", with = "form::milliseconds")]
    pub admin_ttl: Duration,
    /// Wrong passwords of one address in a minute, those under way included; beyond, no further one is passed on for a
    /// minute. Wrong tokens beyond are answered 429; a valid one is let in all the same.
    pub failures_per_minute: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks_url: None,
            audience: "authenticated".to_owned(),
            hs256_secret: None,
            publishable_key: None,
            jwks_ttl: Duration::from_secs(600),
            jwks_refetch: Duration::from_secs(10),
            jwks_max_stale: Duration::from_secs(24 * 60 * 60),
            admin_ttl: Duration::from_secs(5),
            failures_per_minute: 30,
        }
    }
}

/// Bytes that a shared secret has at least: fewer could be found by trying.
const SECRET_BYTES_MIN: usize = 32;

impl Auth {
    /// Where the issuer's keys are fetched; none if no issuer is configured, or it signs with a shared secret alone.
    #[must_use]
    pub fn keys_url(&self) -> Option<String> {
        let derived = || {
            let issuer = self.issuer.as_deref().filter(|_| self.hs256_secret.is_none())?;
            Some(format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')))
        };
        self.jwks_url.clone().or_else(derived)
    }

    /// A URL of the issuer's that goes over plain HTTP to another machine: who is on the way can answer in the issuer's place.
    #[must_use]
    pub fn unprotected_url(&self) -> Option<String> {
        let signing_in = self.publishable_key.as_ref().and(self.issuer.clone());
        let mut urls = [self.keys_url(), signing_in].into_iter().flatten();
        urls.find(|url| {
            let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
            url.starts_with("http://") && !host.is_some_and(|host| is_this_machine(&host))
        })
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.issuer.is_none() && (self.jwks_url.is_some() || self.hs256_secret.is_some()) {
            let reason = "keys are configured, and nobody whose tokens they verify; set the `iss` of your tokens";
            faults.add("auth.issuer", reason);
        }
        if self.publishable_key.is_some() && self.issuer.is_none() {
            let reason = "it is a key to the issuer, and there is none; set auth.issuer";
            faults.add("auth.publishable_key", reason);
        }
        if self.hs256_secret.as_ref().is_some_and(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
            let reason = format!("fewer than {SECRET_BYTES_MIN} bytes can be guessed; use the issuer's own secret");
            faults.add("auth.hs256_secret", reason);
        }
        if self.hs256_secret.as_ref().is_some_and(Secret::is_elsewhere) {
            faults.add(
                "auth.hs256_secret",
                "file: and env: are not read here; set the variable TALLYD_AUTH_HS256_SECRET",
            );
        }
        if self.audience.is_empty() {
            faults.add("auth.audience", "it is empty; a token is always for somebody");
        }
        if let Some(url) = self.keys_url() {
            let scheme = ["https://", "http://"].into_iter().any(|scheme| url.starts_with(scheme));
            if !scheme || url.parse::<http::Uri>().is_err() {
                let reason = format!("{url:?} is not a URL; write https://host/path");
                faults.add("auth.jwks_url", reason);
            }
        }
        faults.in_range("auth.jwks_ttl_ms", self.jwks_ttl.as_millis(), 100..=86_400_000);
        faults.in_range("auth.jwks_refetch_ms", self.jwks_refetch.as_millis(), 10..=3_600_000);
        faults.in_range("auth.jwks_max_stale_ms", self.jwks_max_stale.as_millis(), 0..=30 * 86_400_000);
        faults.in_range("auth.admin_ttl_ms", self.admin_ttl.as_millis(), 0..=60_000);
        faults.in_range("auth.failures_per_minute", self.failures_per_minute, 1..=1_000_000);
    }
}

/// True for `localhost` and loopback addresses.
pub(super) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_over_plain_http_is_noticed_unless_it_is_this_machine() {
        let of = |issuer: &str| Auth { issuer: Some(issuer.to_owned()), ..Auth::default() }.unprotected_url();
        assert_eq!(
            of("http://auth.example.com/v1").as_deref(),
            Some("http://auth.example.com/v1/.well-known/jwks.json")
        );
        for safe in
            ["https://auth.example.com", "http://127.0.0.1:9999", "http://[::1]:9", "http://localhost:9/auth/v1"]
        {
            assert_eq!(of(safe), None, "{safe}");
        }
    }
}
