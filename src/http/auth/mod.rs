//! Authentication and roles.
//!
//! `Authorization: Bearer …` has one of two kinds of token:
//!
//! * a static token, `tallyd_<id>_<hex>` ([`tokens`]): made by `tallyd token create`, stored as a SHA-256 only;
//! * a JWT of the configured issuer ([`jwt`], its keys in [`keys`]), whose user must be an admin ([`admins`]).
//!
//! The page shows a session instead ([`crate::http::page`]), on its own routes alone: an id in a cookie and a proof in
//! a header. Neither is a token, and a token is not accepted from a cookie.
//!
//! Rules for all of them:
//!
//! * Nothing in a URL is a credential.
//! * A signature is checked before a claim is believed. The key decides the algorithm, not the token.
//! * Claims that users can write themselves (`user_metadata`) are not read.
//! * Failures are counted by reason, and by address ([`failures`]).
//! * A static token, a JWT's signature or a code cannot be guessed. It is checked even if its address has failed often,
//!   so people who share an attacker's address keep working.
//! * A password can be guessed, so an address has a bounded number of attempts a minute, counted from their beginning.

pub(crate) mod admins;
mod denied;
pub(crate) mod failures;
pub(crate) mod jwt;
pub(crate) mod keys;
pub(crate) mod origin;
pub(crate) mod page_sessions;
mod signatures;
pub(crate) mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Once};
pub(crate) use tallyd_model::role::Role;
pub(crate) use tallyd_store::queries::page_sessions::Proven;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Pool;
use metrics::counter;

use self::admins::Admins;
pub(crate) use self::denied::Denied;
use self::failures::{Attempt, FailedAttempts};
use self::jwt::Verifier;
use self::page_sessions::{PageSessions, ShownSession};
use self::tokens::{Holder, StaticTokens, TOKEN_PREFIX};
use super::Daemon;
use super::error::ApiError;
use super::page::secret::SessionSecret;
use crate::http::SharedDaemon;
use tallyd_base::clock::Clock;
use tallyd_base::registry;
use tallyd_config::{Config, StatedCosts, TlsListener};
use tallyd_pipeline::seats::Seat;
use tallyd_store::queries::audit::Actor;

/// The authenticated sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// As in the audit log: `user:<sub>`, `token:<id> <name>`.
    pub actor: String,
    pub role: Role,
    /// The client's address as text.
    pub address: String,
    /// The token's own limit on stated costs, if it has one.
    pub costs: Option<StatedCosts>,
}

impl Identity {
    /// Costs that this sender may state: an admin any; others the configured ones, or fewer if the token is limited
    /// further.
    #[must_use]
    pub(crate) fn stated_costs(&self, configured: StatedCosts) -> StatedCosts {
        match self.role {
            Role::Admin => StatedCosts::Allow,
            Role::Read | Role::Ingest => self.costs.map_or(configured, |costs| costs.min(configured)),
        }
    }

    /// For operations that change something.
    #[must_use]
    pub(crate) const fn actor(&self) -> Actor<'_> {
        Actor { name: self.actor.as_str(), address: self.address.as_str() }
    }
}

pub(crate) struct Auth {
    pub tokens: StaticTokens,
    pub sessions: PageSessions,
    verifier: Option<Verifier>,
    admins: Admins,
    failures: FailedAttempts,
    trusted_proxies: usize,
    /// Whether the public listener speaks TLS, and nothing else.
    speaks_tls: bool,
}

impl Auth {
    #[must_use]
    pub(crate) fn new(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        Self {
            tokens: StaticTokens::new(Arc::clone(clock)),
            sessions: PageSessions::new(Arc::clone(clock)),
            verifier: Verifier::new(&config.auth, clock),
            admins: Admins::new(config.auth.admin_ttl),
            failures: FailedAttempts::new(config.auth.failures_per_minute),
            // At most 16.
            trusted_proxies: config.http.trusted_proxies as usize,
            speaks_tls: config.tls.of(TlsListener::Http).is_some(),
        }
    }

    /// Checks a token. Returns its number or its user, and a JWT's expiry in seconds since 1970.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn prove(&self, daemon: &Daemon, token: &str) -> Result<(Proven, Option<i64>), Denied> {
        if token.starts_with(TOKEN_PREFIX) {
            let id = match self.tokens.verify(token) {
                Err(Denied::UnknownToken) => self.tokens.look_up(daemon, token).await?,
                known => known?,
            };
            return Ok((Proven::Token { id }, None));
        }
        let verifier = self.verifier.as_ref().ok_or(Denied::Malformed)?;
        let claims = verifier.verify(token).await?;
        let (says_admin, ends_at_s) = (claims.says_admin(), claims.ends_at_s());
        Ok((Proven::User { subject: claims.sub, says_admin }, ends_at_s))
    }

    /// The actor and the role now: since the proof, the token may have been revoked, or the admin demoted.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn identity(&self, daemon: &Daemon, proven: &Proven, address: IpAddr) -> Result<Identity, Denied> {
        let Holder { actor, role, costs } = match proven {
            Proven::Token { id } => self.tokens.owner(*id)?,
            Proven::User { subject, says_admin } => {
                if !self.admins.is_admin(pool(daemon), subject, *says_admin).await? {
                    return Err(Denied::NotAdmin);
                }
                Holder { actor: format!("user:{subject}"), role: Role::Admin, costs: None }
            }
        };
        Ok(Identity { actor, role, address: address.to_string(), costs })
    }

    /// The sender of a request. `by_page`: on a route of the page, so a session is accepted as well.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn of_request(
        &self,
        daemon: &Daemon,
        headers: &HeaderMap,
        address: IpAddr,
        by_page: bool,
    ) -> Result<Identity, Denied> {
        if by_page && !headers.contains_key(header::AUTHORIZATION) {
            let shown = self.shown(headers)?.ok_or(Denied::Missing)?;
            let session = self.sessions.verify(self.pool_for(daemon, address), &shown).await?;
            return self.identity(daemon, &session.owner, address).await;
        }
        let (proven, _) = self.prove(daemon, bearer(headers)?).await?;
        self.identity(daemon, &proven, address).await
    }

    /// The session that a request of the page shows. None without its cookie.
    ///
    /// # Errors
    /// [`Denied::CrossSite`] if another site's page sends it, or [`Denied::Session`] if the id or the proof is
    /// malformed.
    pub(crate) fn shown(&self, headers: &HeaderMap) -> Result<Option<ShownSession>, Denied> {
        let Some(id) = page_sessions::cookie_of(headers, self.is_encrypted(headers)) else { return Ok(None) };
        origin::of_the_page(headers)?;
        let proof = headers.get(PAGE_HEADER).and_then(|value| value.to_str().ok()).and_then(SessionSecret::parse);
        let (Some(id), Some(proof)) = (SessionSecret::parse(id), proof) else { return Err(Denied::Session) };
        Ok(Some(ShownSession { id, proof }))
    }

    /// The database, to look up a session that is not in this daemon's copy.
    ///
    /// # Errors
    /// [`Denied::TooManyFailures`] for an address that has guessed too often, or [`Denied::Unavailable`].
    pub(crate) fn pool_for<'a>(&self, daemon: &'a Daemon, address: IpAddr) -> Result<&'a Pool, Denied> {
        if self.failures.are_too_many(address) {
            return Err(Denied::TooManyFailures);
        }
        pool(daemon).ok_or(Denied::Unavailable)
    }

    /// Begins an attempt that could be a guess.
    ///
    /// # Errors
    /// [`Denied::TooManyFailures`].
    pub(crate) fn begin(&self, address: IpAddr) -> Result<Attempt<'_>, Denied> {
        self.failures.begin(address).ok_or(Denied::TooManyFailures)
    }

    /// Counts a refusal. Returns the answer.
    #[must_use]
    pub(crate) fn refuse(&self, denied: Denied, address: IpAddr) -> ApiError {
        // A request without a token is not an attempt, nor is one that another site's page made a browser send. An
        // outage is not the client's fault. A wrong password was counted when its attempt began.
        let none = [Denied::Missing, Denied::CrossSite, Denied::Unavailable, Denied::TooManyFailures, Denied::Password];
        let counts = !none.contains(&denied);
        let had_its_share = counts && self.failures.count(address);
        let answer = if had_its_share { Denied::TooManyFailures } else { denied };
        counter!(registry::AUTH_FAILURES, "reason" => answer.name()).increment(1);
        tracing::debug!(%address, reason = denied.name(), "a request was not let in");
        answer.into()
    }

    /// Whether the browser used TLS: to the daemon, or according to the nearest trusted proxy.
    #[must_use]
    pub(crate) fn is_encrypted(&self, headers: &HeaderMap) -> bool {
        let scheme = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        self.speaks_tls || self.trusted_proxies > 0 && scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// The client's address: the peer's, or the one that the trusted proxies report.
    #[must_use]
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted_proxies == 0 {
            if headers.contains_key("x-forwarded-for") {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| tracing::warn!(%peer, "requests come through a proxy, and all share its address: set http.trusted_proxies"));
            }
            return peer;
        }
        let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|line| line.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let hop = hops.len().checked_sub(self.trusted_proxies).and_then(|at| hops[at].parse().ok());
        hop.unwrap_or(peer)
    }
}

/// The page's header: the proof of its session, or `1` before there is one. A page of another origin cannot send it:
/// the browser would send a preflight request first, which is refused.
pub(crate) const PAGE_HEADER: &str = "x-tallyd-page";

fn pool(daemon: &Daemon) -> Option<&Pool> {
    daemon.loading.get().map(|loading| &loading.pool)
}

/// The token in `Authorization`.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    // With two headers, a proxy in front may have checked the other one.
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

/// The condition for a group of routes.
#[derive(Clone)]
pub(crate) struct Gate {
    pub daemon: SharedDaemon,
    /// The role that suffices, beside `admin`.
    pub needs: Role,
    /// Whether the page uses these routes, so that its session is accepted.
    pub by_page: bool,
}

/// Middleware: passes requests without `Authorization` on without an identity, and treats the others as [`gate`] does.
/// An invalid token is refused rather than answered with less.
pub(crate) async fn gate_if_shown(gate: State<Gate>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::AUTHORIZATION) {
        return self::gate(gate, request, next).await;
    }
    next.run(request).await
}

/// Middleware: passes requests with the role on, with their [`Identity`]; refuses all others.
pub(crate) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let auth = &gate.daemon.auth;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    // The listener always sets it; without it all requests would share one address.
    let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let address = auth.client(peer, request.headers());
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    let identified = auth.of_request(&gate.daemon, request.headers(), address, gate.by_page).await;
    let needs = if gate.needs == Role::Read && changes { Role::Admin } else { gate.needs };
    let denied = match identified {
        Ok(identity) if identity.role.suffices(needs) => {
            if let Some(seat) = request.extensions().get::<Arc<Seat>>() {
                seat.know();
            }
            request.extensions_mut().insert(identity);
            return next.run(request).await;
        }
        Ok(_) => Denied::Role,
        Err(denied) => denied,
    };
    auth.refuse(denied, address).into_response()
}
