//! `/session`: signing in and out, going on, and who one is.

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

use super::gotrue::{Gotrue, Grant, Refused};
use super::secret::{self, Secret};
use super::sessions::Shown;
use super::{cookies, minted};
use crate::http::View;
use crate::http::answer::Json;
use crate::http::auth::{Denied, Identity, Proven, Role, origin};
use crate::http::body::{JsonBody, content_type};
use crate::http::error::ApiError;
use crate::http::parameters::now;
use crate::http::router::Handle;
use tallyd_store::queries::page_sessions::{self, StoredSession};

/// How long a session lasts without a renewal, and how long a token that a code was exchanged for is good for.
pub(super) const HOURS: i64 = 12;

/// `/session`. Open, since it is where one shows a token.
pub(crate) fn routes() -> Router<Handle> {
    Router::new().route("/session", post(sign_in).get(who).delete(sign_out)).route("/session/ways", get(ways))
}

/// What one signs in with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum By {
    /// A static token, or a JWT of the configured issuer.
    Token(String),
    /// A code of `tallyd open`.
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

/// Who is signed in.
#[derive(Serialize)]
struct Session {
    actor: String,
    role: Role,
    version: &'static str,
    time_zone: String,
    /// What the page sends with each request from now on; told once, when the session begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

impl Session {
    fn of(view: &View, identity: Identity) -> Self {
        let time_zone = view.settings.zone.name().to_owned();
        let Identity { actor, role, .. } = identity;
        Self { actor, role, version: env!("CARGO_PKG_VERSION"), time_zone, proof: None }
    }
}

/// Which ways to sign in there are.
#[derive(Serialize)]
struct Ways {
    /// By an account of the Supabase project.
    password: bool,
}

async fn ways(State(view): State<Handle>) -> Response {
    let ways = Ways { password: Gotrue::of(&view.config.auth).is_some() };
    ([(CACHE_CONTROL, "no-store")], Json(ways)).into_response()
}

/// Renewals at the same time, of sessions whose ids differ in their first digits: a refresh token is good once, so two tabs
/// that renew one session take turns.
static RENEWALS: LazyLock<[Mutex<()>; 16]> = LazyLock::new(Default::default);

/// The issuer's tokens, as a session keeps them encrypted.
#[derive(Serialize, Deserialize)]
struct Kept {
    access_token: String,
    refresh_token: String,
}

async fn sign_in(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<JsonBody<By>, ApiError>,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    let refused = |denied| view.auth.refuse(denied, address);
    origin::of_the_page(&headers).map_err(refused)?;
    is_json(&headers)?;
    let JsonBody(by) = body?;
    let (proven, valid_until, kept) = match by {
        By::Token(token) => {
            let (proven, ends_at) = view.auth.prove(&view, token.trim()).await.map_err(refused)?;
            (proven, ends_at, None)
        }
        By::Code(code) => (Proven::Token { id: minted::redeem(&view, &code, address).await? }, None, None),
        By::Password(Password { email, password }) => {
            let asked = async |gotrue: Gotrue<'_>| gotrue.sign_in(email.trim(), &password).await;
            let grant = granted(&view, address, asked).await?;
            let (proven, ends_at) = view.auth.prove(&view, &grant.access_token).await.map_err(refused)?;
            (proven, until(&view, &grant, ends_at), Some(grant))
        }
        By::Renewal(Empty {}) => return renew(&view, &headers, address).await,
    };
    let identity = may_look(&view, &proven, address).await.map_err(refused)?;
    tracing::info!(actor = identity.actor, %address, "signed in to the page");
    let shown = Shown { id: Secret::random(), proof: Secret::random() };
    let session = StoredSession {
        id_sha256: shown.id.digest(),
        proof_sha256: shown.proof.digest(),
        owner: proven,
        valid_until: valid_until.and_then(|at| DateTime::from_timestamp(at, 0)),
        ends_at: ends_at(&view),
        sealed: kept.and_then(|grant| seal(&shown, grant)),
    };
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    page_sessions::begin(&transaction, &session).await?;
    transaction.commit().await?;
    view.auth.sessions.add(session);
    let answer = Session { proof: Some(shown.proof.text()), ..Session::of(&view, identity) };
    Ok((keep(&view, &headers, &shown), Json(answer)).into_response())
}

/// A form of another site can send text that happens to be JSON; it cannot say that it is.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = content_type(headers).split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let (code, message) = ("unsupported_media_type", "the body is not declared as JSON");
    let hint = "send Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, message, hint))
}

/// Who that is, if they may look at anything here.
async fn may_look(view: &View, proven: &Proven, address: IpAddr) -> Result<Identity, Denied> {
    let identity = view.auth.identity(view, proven, address).await?;
    if identity.role.suffices(Role::Read) { Ok(identity) } else { Err(Denied::Role) }
}

fn ends_at(view: &View) -> DateTime<Utc> {
    now(view) + TimeDelta::hours(HOURS)
}

/// When an access token has to be renewed, seconds since 1970: what the issuer says in words counts, if that is earlier.
fn until(view: &View, grant: &Grant, ends_at: Option<i64>) -> Option<i64> {
    let said = now(view).timestamp().saturating_add(grant.expires_in.max(0));
    Some(ends_at.map_or(said, |at| at.min(said)))
}

fn seal(shown: &Shown, grant: Grant) -> Option<Vec<u8>> {
    let kept = Kept { access_token: grant.access_token, refresh_token: grant.refresh_token };
    secret::seal(&shown.id, &shown.proof, &serde_json::to_vec(&kept).ok()?)
}

fn unseal(shown: &Shown, session: &StoredSession) -> Option<Kept> {
    serde_json::from_slice(&secret::open(&shown.id, &shown.proof, session.sealed.as_deref()?)?).ok()
}

fn keep(view: &View, headers: &HeaderMap, shown: &Shown) -> HeaderMap {
    cookies::set(view.auth.is_encrypted(headers), &shown.id.text(), HOURS * 3600)
}

/// Goes on with a session whose access token has expired.
async fn renew(view: &View, headers: &HeaderMap, address: IpAddr) -> Result<Response, ApiError> {
    let refused = |denied| view.auth.refuse(denied, address);
    let shown = view.auth.shown(headers).and_then(|shown| shown.ok_or(Denied::Missing)).map_err(refused)?;
    let id = shown.id.digest();
    let _turn = RENEWALS[usize::from(id[0] % 16)].lock().await;
    let pool = view.auth.pool_for(view, address);
    let mut session = StoredSession::clone(&*view.auth.sessions.find(pool, &shown).await.map_err(refused)?);
    // Another tab may have renewed it meanwhile.
    if !view.auth.sessions.is_valid(&session) {
        let kept = unseal(&shown, &session).ok_or(Denied::Session)?;
        let asked = async |gotrue: Gotrue<'_>| gotrue.renew(&kept.refresh_token).await;
        let grant = granted(view, address, asked).await?;
        let (proven, ends) = view.auth.prove(view, &grant.access_token).await.map_err(refused)?;
        session.valid_until = until(view, &grant, ends).and_then(|at| DateTime::from_timestamp(at, 0));
        session.ends_at = ends_at(view);
        session.owner = same_user(&session.owner, proven).map_err(refused)?;
        session.sealed = seal(&shown, grant);
        let client = view.pool()?.get().await?;
        if !page_sessions::renew(&client, &session).await? {
            return Err(Denied::Session.into());
        }
        view.auth.sessions.add(session.clone());
    }
    let identity = may_look(view, &session.owner, address).await.map_err(refused)?;
    Ok((keep(view, headers, &shown), Json(Session::of(view, identity))).into_response())
}

/// A session stays its user's.
fn same_user(before: &Proven, after: Proven) -> Result<Proven, Denied> {
    match (before, &after) {
        (Proven::User { subject, .. }, Proven::User { subject: next, .. }) if subject == next => Ok(after),
        _ => Err(Denied::Session),
    }
}

/// Asks the Supabase project, unless this address has failed too often.
async fn granted<'a, F>(view: &'a View, address: IpAddr, ask: impl FnOnce(Gotrue<'a>) -> F) -> Result<Grant, ApiError>
where
    F: Future<Output = Result<Grant, Refused>>,
{
    let gotrue = Gotrue::of(&view.config.auth).ok_or_else(|| {
        let hint = "auth.issuer and auth.publishable_key configure it; a token signs in, too";
        ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no signing in with a password here", hint)
    })?;
    let attempt = view.auth.begin(address).map_err(|denied| view.auth.refuse(denied, address))?;
    match ask(gotrue).await {
        Ok(grant) => {
            attempt.forgive();
            Ok(grant)
        }
        Err(Refused::Wrong) => {
            drop(attempt);
            Err(view.auth.refuse(Denied::Password, address))
        }
        Err(Refused::Other(error)) => {
            attempt.forgive();
            Err(error)
        }
    }
}

async fn who(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    let identity = view.auth.of_request(&view, &headers, address, true).await;
    let identity = identity.map_err(|denied| view.auth.refuse(denied, address))?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(Session::of(&view, identity))).into_response())
}

/// Ends the session, and what was made for it: a code's token, a session of the Supabase project's. A token that somebody
/// pasted goes on; it may serve elsewhere.
async fn sign_out(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    origin::of_the_page(&headers).map_err(|denied| view.auth.refuse(denied, address))?;
    if let Ok(Some(shown)) = view.auth.shown(&headers) {
        match view.auth.sessions.find(view.auth.pool_for(&view, address), &shown).await {
            Ok(session) => end(&view, &shown, &session, address).await?,
            // It has ended already; the browser forgets it, too.
            Err(Denied::Session) => {}
            Err(denied) => return Err(denied.into()),
        }
    }
    Ok((StatusCode::NO_CONTENT, cookies::set(view.auth.is_encrypted(&headers), "", 0)).into_response())
}

async fn end(view: &View, shown: &Shown, session: &StoredSession, address: IpAddr) -> Result<(), ApiError> {
    let client = view.pool()?.get().await?;
    page_sessions::end(&client, &session.id_sha256).await?;
    drop(client);
    view.auth.sessions.remove(&session.id_sha256);
    if let Proven::Token { id } = session.owner
        && let Ok(identity) = view.auth.identity(view, &session.owner, address).await
        && let Err(error) = minted::revoke(view, id, &identity.actor()).await
    {
        tracing::warn!(id, reason = error.message(), "the page's token was not revoked; it ends by itself");
    }
    if let Some(kept) = unseal(shown, session)
        && let Some(gotrue) = Gotrue::of(&view.config.auth)
        && let Err(reason) = gotrue.sign_out(&kept.access_token).await
    {
        tracing::warn!(reason, "the session at Supabase Auth was not ended; it ends by itself");
    }
    Ok(())
}
