//! Who asks, and what they may do.
//!
//! `Authorization: Bearer …` holds one of two things, and without it the admin page's cookie counts ([`sessions`]):
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
mod fetch;
pub mod jwt;
pub mod keys;
pub mod sessions;
pub mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use metrics::counter;

use self::admins::Admins;
pub use self::denied::Denied;
use self::failures::Failures;
use self::jwt::Verifier;
use self::sessions::Sessions;
use self::tokens::{TOKEN_PREFIX, Tokens};
use super::error::ApiError;
use super::router::Handle;
use crate::clock::Clock;
use crate::config::Config;
use crate::database::queries::page_sessions::Proof;
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

/// What was shown: who that is, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As the audit log has it.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// The token, the user, or the link.
    pub proof: Proof,
    /// When it ends by itself.
    pub ends: Option<DateTime<Utc>>,
}

/// What of a request says who asks. (A body cannot be shared between threads.)
type Asked<'a> = (&'a Method, &'a HeaderMap);

/// Everything that decides.
pub struct Auth {
    /// Static tokens.
    pub tokens: Tokens,
    /// The admin page's sessions.
    pub sessions: Sessions,
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
            sessions: Sessions::new(Arc::clone(clock)),
            verifier: Verifier::new(&config.auth, clock),
            admins: Admins::new(config.auth.admin_ttl),
            failures: Failures::new(config.auth.failures_per_minute),
            // At most 16.
            trusted_proxies: config.http.trusted_proxies as usize,
        }
    }

    /// Decides who asks.
    ///
    /// # Errors
    /// [`Denied`].
    async fn identify(&self, view: &Handle, request: Asked<'_>, address: IpAddr) -> Result<Identity, Denied> {
        let (method, headers) = request;
        let shown = match (bearer(headers), sessions::cookie(headers)) {
            (Err(Denied::Missing), Some(secret)) => {
                if !self.is_from_page(method, headers) {
                    return Err(Denied::CrossSite);
                }
                self.session(view, secret).await?
            }
            (token, _) => self.token(view, token?, address).await?,
        };
        Ok(Identity { actor: shown.actor, role: shown.role, address: address.to_string() })
    }

    /// Looks at a token: a static one, or a JWT.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn token(&self, view: &Handle, token: &str, address: IpAddr) -> Result<Shown, Denied> {
        if token.starts_with(TOKEN_PREFIX) {
            let token = self.tokens.verify(token)?;
            let (actor, proof) = (token.actor(), Proof::Token(token.id));
            return Ok(Shown { actor, role: token.role, proof, ends: token.expires_at });
        }
        if self.failures.are_too_many(address) {
            return Err(Denied::TooManyFailures);
        }
        let verifier = self.verifier.as_ref().ok_or(Denied::Malformed)?;
        let claims = verifier.verify(token).await?;
        let (says_admin, ends) = (claims.says_admin(), claims.ends());
        self.check_admin(view, &claims.sub, says_admin).await?;
        let (actor, proof) = (format!("user:{}", claims.sub), Proof::User { subject: claims.sub, says_admin });
        Ok(Shown { actor, role: Role::Admin, proof, ends })
    }

    /// Looks at the page's cookie, and at what it stands for.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn session(&self, view: &Handle, secret: &str) -> Result<Shown, Denied> {
        let session = self.sessions.verify(secret)?;
        let role = match &session.proof {
            Proof::Token(id) => match self.tokens.in_force(*id) {
                Ok(token) => token.role,
                Err(Denied::UnknownToken) => return Err(Denied::Session),
                Err(other) => return Err(other),
            },
            Proof::User { subject, says_admin } => {
                self.check_admin(view, subject, *says_admin).await?;
                Role::Admin
            }
            Proof::Link => Role::Admin,
        };
        Ok(Shown { actor: session.actor, role, proof: session.proof, ends: Some(session.expires_at) })
    }

    async fn check_admin(&self, view: &Handle, user: &str, says_admin: bool) -> Result<(), Denied> {
        let pool = view.loading.get().map(|loading| &loading.pool);
        if self.admins.is_admin(pool, user, says_admin).await? { Ok(()) } else { Err(Denied::NotAdmin) }
    }

    /// Whether a request with a cookie may do what it does ([`sessions::is_from_page`]).
    #[must_use]
    pub fn is_from_page(&self, method: &Method, headers: &HeaderMap) -> bool {
        sessions::is_from_page(method, headers, self.trusted_proxies > 0)
    }

    /// Whether JWTs are accepted.
    #[must_use]
    pub fn has_issuer(&self) -> bool {
        self.verifier.is_some()
    }

    /// The client's address. The listener always tells the peer's; without it all requests share one.
    #[must_use]
    pub fn address(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        self.client(peer.unwrap_or(IpAddr::from([0, 0, 0, 0])), request.headers())
    }

    /// Counts somebody who was not let in.
    pub fn note(&self, denied: Denied, address: IpAddr) {
        counter!(registry::AUTH_FAILURES, "reason" => denied.name()).increment(1);
        // A request without a token is no attempt, nor is a page that was left open, and an outage is not the client's fault.
        let no_attempt = [Denied::Missing, Denied::Session, Denied::Unavailable, Denied::TooManyFailures];
        if !no_attempt.contains(&denied) {
            self.failures.count(address);
            tracing::debug!(%address, reason = denied.name(), "a request was not let in");
        }
    }

    /// The client's address: the peer's, or what the nearest trusted proxies say it was.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted_proxies == 0 {
            return peer;
        }
        let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|line| line.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let hop = hops.len().checked_sub(self.trusted_proxies).and_then(|at| hops[at].parse().ok());
        hop.unwrap_or(peer)
    }
}

/// The token of the request.
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
    let address = auth.address(&request);
    let identified = auth.identify(&gate.view, (request.method(), request.headers()), address).await;
    let needs = if gate.needs == Role::Read && request.method() != Method::GET && request.method() != Method::HEAD {
        Role::Admin
    } else {
        gate.needs
    };
    let denied = match identified {
        Ok(identity) if identity.role.suffices(needs) => {
            request.extensions_mut().insert(identity);
            return next.run(request).await;
        }
        Ok(_) => Denied::Role,
        Err(denied) => denied,
    };
    auth.note(denied, address);
    ApiError::from(denied).into_response()
}
