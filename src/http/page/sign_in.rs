//! `/session`: signing in and out, renewing a session, and the current identity.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::gotrue::{Gotrue, GotrueRefusal, Grant};
use super::minted::{self, HOURS};
use super::secret::{self, SessionSecret};
use crate::http::Daemon;
use crate::http::SharedDaemon;
use crate::http::answer::Json;
use crate::http::auth::page_sessions::{ShownSession, set_cookie};
use crate::http::auth::{Denied, Identity, Proven, Role, origin};
use crate::http::body::{JsonBody, content_type};
use crate::http::error::ApiError;
use crate::http::parameters::now;
use tallyd_store::queries::page_sessions::{self, StoredSession};

/// Open, since nobody has a session before signing in.
pub(crate) fn routes() -> Router<SharedDaemon> {
    Router::new().route("/session", post(sign_in).get(who).delete(sign_out)).route("/session/ways", get(ways))
}

/// The ways to sign in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum By {
    /// A static token, or a JWT of the configured issuer.
    Token(String),
    /// A code from `tallyd open`.
    Code(String),
    /// An account of the configured Supabase project.
    Password(Password),
    /// A session that was begun with a password, by its cookie and its proof.
    Renewal(Empty),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// The answer to signing in.
#[derive(Serialize)]
struct Session {
    actor: String,
    role: Role,
    version: &'static str,
    time_zone: String,
    /// The value of the page's header in each request from now on. Sent once, when the session begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

impl Session {
    fn of(daemon: &Daemon, identity: Identity) -> Self {
        let time_zone = daemon.settings.zone.name().to_owned();
        let Identity { actor, role, .. } = identity;
        Self { actor, role, version: env!("CARGO_PKG_VERSION"), time_zone, proof: None }
    }
}

/// The configured ways to sign in.
#[derive(Serialize)]
struct Ways {
    /// With an account of the Supabase project.
    password: bool,
}

async fn ways(State(daemon): State<SharedDaemon>) -> Response {
    let ways = Ways { password: Gotrue::of(&daemon.config.auth).is_some() };
    ([(CACHE_CONTROL, "no-store")], Json(ways)).into_response()
}

/// Serialises renewals of one session: a refresh token is valid once, so two tabs must not use it at the same time. The
/// lock is chosen by the digest of the id.
static RENEWALS: LazyLock<[Mutex<()>; 16]> = LazyLock::new(Default::default);

/// The issuer's tokens, which a session keeps encrypted.
#[derive(Serialize, Deserialize)]
struct Kept {
    access_token: String,
    refresh_token: String,
}

async fn sign_in(
    State(daemon): State<SharedDaemon>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<JsonBody<By>, ApiError>,
) -> Result<Response, ApiError> {
    let address = daemon.auth.client(peer.ip(), &headers);
    let refused = |denied| daemon.auth.refuse(denied, address);
    origin::of_the_page(&headers).map_err(refused)?;
    is_json(&headers)?;
    let JsonBody(by) = body?;
    let (proven, valid_until, kept) = match by {
        By::Token(token) => {
            let (proven, ends_at) = daemon.auth.prove(&daemon, token.trim()).await.map_err(refused)?;
            (proven, ends_at, None)
        }
        By::Code(code) => (Proven::Token { id: minted::redeem(&daemon, &code, address).await? }, None, None),
        By::Password(Password { email, password }) => {
            let asked = async |gotrue: Gotrue<'_>| gotrue.sign_in(email.trim(), &password).await;
            let grant = granted(&daemon, address, asked).await?;
            let (proven, ends_at) = daemon.auth.prove(&daemon, &grant.access_token).await.map_err(refused)?;
            (proven, until(&daemon, &grant, ends_at), Some(grant))
        }
        By::Renewal(Empty {}) => return renew(&daemon, &headers, address).await,
    };
    let identity = may_look(&daemon, &proven, address).await.map_err(refused)?;
    tracing::info!(actor = identity.actor, %address, "signed in to the page");
    let shown = ShownSession { id: SessionSecret::random(), proof: SessionSecret::random() };
    let session = StoredSession {
        id_sha256: shown.id.digest(),
        proof_sha256: shown.proof.digest(),
        owner: proven,
        valid_until: valid_until.and_then(|at| DateTime::from_timestamp(at, 0)),
        ends_at: ends_at(&daemon),
        sealed: kept.and_then(|grant| seal(&shown, grant)),
    };
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    page_sessions::begin(&transaction, &session).await?;
    transaction.commit().await?;
    drop(client);
    daemon.auth.sessions.add(session).await;
    let answer = Session { proof: Some(shown.proof.text()), ..Session::of(&daemon, identity) };
    Ok((keep(&daemon, &headers, &shown), Json(answer)).into_response())
}

/// A form of another site can send JSON as text, but cannot declare it as JSON.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = content_type(headers).split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let (code, message) = ("unsupported_media_type", "the body is not declared as JSON");
    let hint = "send Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, message, hint))
}

/// The current identity, if its role may read.
async fn may_look(daemon: &Daemon, proven: &Proven, address: IpAddr) -> Result<Identity, Denied> {
    let identity = daemon.auth.identity(daemon, proven, address).await?;
    if identity.role.suffices(Role::Read) { Ok(identity) } else { Err(Denied::Role) }
}

fn ends_at(daemon: &Daemon) -> DateTime<Utc> {
    now(daemon) + TimeDelta::hours(HOURS)
}

/// When an access token has to be renewed, seconds since 1970: the earlier of `expires_in` from now and the token's
/// own expiry.
fn until(daemon: &Daemon, grant: &Grant, ends_at: Option<i64>) -> Option<i64> {
    let said = now(daemon).timestamp().saturating_add(grant.expires_in.max(0));
    Some(ends_at.map_or(said, |at| at.min(said)))
}

fn seal(shown: &ShownSession, grant: Grant) -> Option<Vec<u8>> {
    let kept = Kept { access_token: grant.access_token, refresh_token: grant.refresh_token };
    secret::seal(&shown.id, &shown.proof, &serde_json::to_vec(&kept).ok()?)
}

fn unseal(shown: &ShownSession, session: &StoredSession) -> Option<Kept> {
    serde_json::from_slice(&secret::open(&shown.id, &shown.proof, session.sealed.as_deref()?)?).ok()
}

fn keep(daemon: &Daemon, headers: &HeaderMap, shown: &ShownSession) -> HeaderMap {
    set_cookie(daemon.auth.is_encrypted(headers), &shown.id.text(), HOURS * 3600)
}

/// Renews a session whose access token has expired.
async fn renew(daemon: &Daemon, headers: &HeaderMap, address: IpAddr) -> Result<Response, ApiError> {
    let refused = |denied| daemon.auth.refuse(denied, address);
    let shown = daemon.auth.shown(headers).and_then(|shown| shown.ok_or(Denied::Missing)).map_err(refused)?;
    let id = shown.id.digest();
    let _turn = RENEWALS[usize::from(id[0] % 16)].lock().await;
    let pool = daemon.auth.pool_for(daemon, address);
    let mut session = StoredSession::clone(&*daemon.auth.sessions.find(pool, &shown).await.map_err(refused)?);
    // Another tab may have renewed it meanwhile.
    if !daemon.auth.sessions.is_valid(&session) {
        let kept = unseal(&shown, &session).ok_or(Denied::Session)?;
        let asked = async |gotrue: Gotrue<'_>| gotrue.renew(&kept.refresh_token).await;
        let grant = granted(daemon, address, asked).await?;
        let (proven, ends) = daemon.auth.prove(daemon, &grant.access_token).await.map_err(refused)?;
        session.valid_until = until(daemon, &grant, ends).and_then(|at| DateTime::from_timestamp(at, 0));
        session.ends_at = ends_at(daemon);
        session.owner = same_user(&session.owner, proven).map_err(refused)?;
        session.sealed = seal(&shown, grant);
        let client = daemon.pool()?.get().await?;
        if !page_sessions::renew(&client, &session).await? {
            return Err(Denied::Session.into());
        }
        drop(client);
        daemon.auth.sessions.add(session.clone()).await;
    }
    let identity = may_look(daemon, &session.owner, address).await.map_err(refused)?;
    Ok((keep(daemon, headers, &shown), Json(Session::of(daemon, identity))).into_response())
}

/// A renewal must not change the session's user.
fn same_user(before: &Proven, after: Proven) -> Result<Proven, Denied> {
    match (before, &after) {
        (Proven::User { subject, .. }, Proven::User { subject: next, .. }) if subject == next => Ok(after),
        _ => Err(Denied::Session),
    }
}

/// Calls the Supabase project, unless this address has failed too often.
async fn granted<'a, F>(
    daemon: &'a Daemon,
    address: IpAddr,
    ask: impl FnOnce(Gotrue<'a>) -> F,
) -> Result<Grant, ApiError>
where
    F: Future<Output = Result<Grant, GotrueRefusal>>,
{
    let gotrue = Gotrue::of(&daemon.config.auth).ok_or_else(|| {
        let hint = "auth.issuer and auth.publishable_key configure it; a token signs in, too";
        ApiError::new(StatusCode::NOT_FOUND, "not_found", "sign-in with a password is not configured", hint)
    })?;
    let attempt = daemon.auth.begin(address).map_err(|denied| daemon.auth.refuse(denied, address))?;
    match ask(gotrue).await {
        Ok(grant) => {
            attempt.forgive();
            Ok(grant)
        }
        Err(GotrueRefusal::Wrong) => {
            drop(attempt);
            Err(daemon.auth.refuse(Denied::Password, address))
        }
        Err(GotrueRefusal::Other(error)) => {
            attempt.forgive();
            Err(error)
        }
    }
}

async fn who(
    State(daemon): State<SharedDaemon>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = daemon.auth.client(peer.ip(), &headers);
    let identity = daemon.auth.of_request(&daemon, &headers, address, true).await;
    let identity = identity.map_err(|denied| daemon.auth.refuse(denied, address))?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(Session::of(&daemon, identity))).into_response())
}

/// Ends the session, and with it a code's token or the Supabase project's session. A pasted token stays valid, because
/// it may be in use elsewhere.
async fn sign_out(
    State(daemon): State<SharedDaemon>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = daemon.auth.client(peer.ip(), &headers);
    origin::of_the_page(&headers).map_err(|denied| daemon.auth.refuse(denied, address))?;
    if let Ok(Some(shown)) = daemon.auth.shown(&headers) {
        match daemon.auth.sessions.find(daemon.auth.pool_for(&daemon, address), &shown).await {
            Ok(session) => end(&daemon, &shown, &session, address).await?,
            // It has already ended; the browser forgets its cookie all the same.
            Err(Denied::Session) => {}
            Err(denied) => return Err(denied.into()),
        }
    }
    Ok((StatusCode::NO_CONTENT, set_cookie(daemon.auth.is_encrypted(&headers), "", 0)).into_response())
}

async fn end(daemon: &Daemon, shown: &ShownSession, session: &StoredSession, address: IpAddr) -> Result<(), ApiError> {
    let client = daemon.pool()?.get().await?;
    page_sessions::end(&client, &session.id_sha256).await?;
    drop(client);
    daemon.auth.sessions.remove(&session.id_sha256).await;
    if let Proven::Token { id } = session.owner
        && let Ok(identity) = daemon.auth.identity(daemon, &session.owner, address).await
        && let Err(error) = minted::revoke(daemon, id, &identity.actor()).await
    {
        tracing::warn!(id, reason = error.message(), "the page's token was not revoked; it ends by itself");
    }
    if let Some(kept) = unseal(shown, session)
        && let Some(gotrue) = Gotrue::of(&daemon.config.auth)
        && let Err(reason) = gotrue.sign_out(&kept.access_token).await
    {
        tracing::warn!(reason, "the session at Supabase Auth was not ended; it ends by itself");
    }
    Ok(())
}
