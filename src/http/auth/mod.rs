//! Who asks, and what they may do.
//!
//! `Authorization: Bearer …`, or the cookie of the page ([`crate::http::page`]), holds one of two things:
//!
//! * a static token, `tallyd_<id>_<hex>` ([`tokens`]): made by `tallyd token create`, known here by its SHA-256 only;
//! * a JWT of the configured issuer ([`jwt`], its keys in [`keys`]), whose user must be an admin ([`admins`]).
//!
//! Rules that hold for both: nothing in a URL is a credential; a signature is checked before a claim is believed; the
//! algorithm is the key's, not the token's; what a user can write about themselves (`user_metadata`) counts for nothing.
//! A failure is counted by reason, and an address with many of them ([`failures`]) has its JWTs refused unseen. Static
//! tokens are looked at all the same: one hash is cheap, and whoever shares the address of an attacker keeps recording.

pub mod admins;
mod base64url;
mod denied;
pub mod failures;
pub mod jwt;
pub mod keys;
pub mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::counter;

use self::admins::Admins;
pub use self::denied::Denied;
use self::failures::Failures;
use self::jwt::{Claims, Verifier};
use self::tokens::{TOKEN_PREFIX, Tokens};
use super::error::ApiError;
use super::page::cookies;
use super::router::Handle;
use crate::clock::Clock;
use crate::config::Config;
use crate::database::queries::audit::Change;
use crate::metrics::registry;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Ask.
    Read,
    /// Send records.
    Ingest,
}

impl Role {
    /// Its name in the database and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Read => "read",
            Self::Ingest => "ingest",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Admin, Self::Read, Self::Ingest].into_iter().find(|role| role.name() == name)
    }

    /// Whether it suffices for what a route needs.
    #[must_use]
    pub fn suffices(self, needs: Self) -> bool {
        self == Self::Admin || self == needs
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the audit log has it: `user:<sub>`, `token:<id> <name>`.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// Where from, as text.
    pub address: String,
}

impl Identity {
    /// A change of theirs, for the audit log; what was before and after is left to be said.
    #[must_use]
    pub const fn change<'a>(&'a self, action: &'a str, object: &'a str) -> Change<'a> {
        Change { actor: self.actor.as_str(), address: self.address.as_str(), action, object, old: None, new: None }
    }
}

/// Everything that decides.
pub struct Auth {
    /// Static tokens.
    pub tokens: Tokens,
    verifier: Option<Verifier>,
    admins: Admins,
    failures: Failures,
    trusted_proxies: usize,
}

impl Auth {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        Self {
            tokens: Tokens::new(Arc::clone(clock)),
            verifier: Verifier::new(&config.auth, clock),
            admins: Admins::new(config.auth.admin_ttl),
            failures: Failures::new(config.auth.failures_per_minute),
            // At most 16.
            trusted_proxies: config.http.trusted_proxies as usize,
        }
    }

    /// Decides who shows this token.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn identify(&self, view: &Handle, token: &str, address: IpAddr) -> Result<Identity, Denied> {
        if token.starts_with(TOKEN_PREFIX) {
            let (actor, role) = self.tokens.verify(token)?;
            return Ok(Identity { actor, role, address: address.to_string() });
        }
        self.may_try(address)?;
        let verifier = self.verifier.as_ref().ok_or(Denied::Malformed)?;
        let claims = verifier.verify(token).await?;
        self.check_admin(view, &claims).await?;
        Ok(Identity { actor: format!("user:{}", claims.sub), role: Role::Admin, address: address.to_string() })
    }

    /// Decides who sends a request that changes nothing.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn of_request(&self, view: &Handle, headers: &HeaderMap, address: IpAddr) -> Result<Identity, Denied> {
        self.identify(view, credential(headers, false)?, address).await
    }

    /// Whether an address may try a JWT or a password.
    ///
    /// # Errors
    /// [`Denied::TooManyFailures`].
    pub fn may_try(&self, address: IpAddr) -> Result<(), Denied> {
        if self.failures.are_too_many(address) { Err(Denied::TooManyFailures) } else { Ok(()) }
    }

    /// Counts that somebody was not let in.
    pub fn count(&self, denied: Denied, address: IpAddr) {
        counter!(registry::AUTH_FAILURES, "reason" => denied.name()).increment(1);
        // A request without a token is no attempt, and an outage is not the client's fault.
        if !matches!(denied, Denied::Missing | Denied::Unavailable | Denied::TooManyFailures) {
            self.failures.count(address);
            tracing::debug!(%address, reason = denied.name(), "a request was not let in");
        }
    }

    /// Whether the browser speaks TLS, as the nearest trusted proxy says; the daemon itself does not.
    #[must_use]
    pub fn is_encrypted(&self, headers: &HeaderMap) -> bool {
        let scheme = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        self.trusted_proxies > 0 && scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    async fn check_admin(&self, view: &Handle, claims: &Claims) -> Result<(), Denied> {
        let pool = view.loading.get().map(|loading| &loading.pool);
        if self.admins.is_admin(pool, claims).await? { Ok(()) } else { Err(Denied::NotAdmin) }
    }

    /// The client's address: the peer's, or what the nearest trusted proxies say it was.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted_proxies == 0 {
            return peer;
        }
        let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|line| line.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let hop = hops.len().checked_sub(self.trusted_proxies).and_then(|at| hops[at].parse().ok());
        hop.unwrap_or(peer)
    }
}

/// What the page sends with each change. A page of another origin cannot: the browser would ask first, and be refused.
pub const PAGE_HEADER: &str = "x-tallyd-page";

/// The token of the request: that of its header, or of the page's cookie.
fn credential(headers: &HeaderMap, changes: bool) -> Result<&str, Denied> {
    match cookies::find(headers, cookies::SESSION) {
        Some(token) if !headers.contains_key(header::AUTHORIZATION) => {
            if changes && !headers.contains_key(PAGE_HEADER) { Err(Denied::CrossSite) } else { Ok(token) }
        }
        _ => bearer(headers),
    }
}

/// The token in the header.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    // Of two, a proxy in front may have looked at the other one.
    if values.next().is_some() {
        return Err(Denied::Malformed);
    }
    let (scheme, token) = value.to_str().map_err(|_| Denied::Malformed)?.split_once(' ').ok_or(Denied::Malformed)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Denied::Malformed);
    }
    Ok(token)
}

/// What a group of routes needs.
#[derive(Clone)]
pub struct Gate {
    /// The daemon.
    pub view: Handle,
    /// The role that suffices, beside `admin`.
    pub needs: Role,
}

/// Middleware: lets in whoever has the role, with their [`Identity`] in the request; answers everybody else.
pub async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let auth = &gate.view.auth;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    // The listener always tells; without it all requests share one address.
    let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let address = auth.client(peer, request.headers());
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    let identified = match credential(request.headers(), changes) {
        Ok(token) => auth.identify(&gate.view, token, address).await,
        Err(denied) => Err(denied),
    };
    let needs = if gate.needs == Role::Read && changes { Role::Admin } else { gate.needs };
    let denied = match identified {
        Ok(identity) if identity.role.suffices(needs) => {
            request.extensions_mut().insert(identity);
            return next.run(request).await;
        }
        Ok(_) => Denied::Role,
        Err(denied) => denied,
    };
    auth.count(denied, address);
    ApiError::from(denied).into_response()
}
