//! `/session`: signing in and out, going on, and who one is.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::cookies::{self, Cookies};
use super::gotrue::{Gotrue, Grant, Refused};
use super::minted;
use crate::http::View;
use crate::http::auth::tokens::TOKEN_PREFIX;
use crate::http::auth::{Denied, Role};
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::http::router::Handle;

/// How long a browser keeps a cookie, and how long a token that a code was exchanged for is good for.
pub(super) const HOURS: i64 = 12;
/// Browsers keep no larger cookie.
const TOKEN_BYTES_MAX: usize = 3_900;

/// `/session`. Open, since it is where one shows a token.
pub fn routes() -> Router<Handle> {
    Router::new().route("/session", post(sign_in).get(who).delete(sign_out)).route("/session/ways", get(ways))
}

/// What one shows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Shown {
    /// A static token, or a JWT of the configured issuer.
    Token(String),
    /// A code of `tallyd open`.
    Code(String),
    /// An account of the configured Supabase project.
    Password(Password),
    /// The cookie of a session that was begun with a password.
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
}

impl Session {
    fn of(view: &View, actor: String, role: Role) -> Self {
        let time_zone = view.settings.zone.name().to_owned();
        Self { actor, role, version: env!("CARGO_PKG_VERSION"), time_zone }
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

async fn sign_in(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    JsonBody(shown): JsonBody<Shown>,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    let cookies = Cookies::new(view.auth.is_encrypted(&headers));
    let renewed = matches!(shown, Shown::Renewal(_));
    let (token, cookies) = match shown {
        Shown::Token(token) => keep(token.trim().to_owned(), cookies),
        Shown::Code(code) => keep(minted::redeem(&view, &code, address).await?, cookies),
        Shown::Password(Password { email, password }) => {
            let asked = async |gotrue: Gotrue<'_>| gotrue.sign_in(email.trim(), &password).await;
            keep_granted(granted(&view, address, asked).await?, cookies)
        }
        Shown::Renewal(Empty {}) => {
            let refresh_token = cookies::find(&headers, cookies::RENEWAL).ok_or(Denied::Missing)?;
            let asked = async |gotrue: Gotrue<'_>| gotrue.renew(refresh_token).await;
            keep_granted(granted(&view, address, asked).await?, cookies)
        }
    };
    let identified = if token.len() > TOKEN_BYTES_MAX || !cookies::is_plain(&token) {
        Err(Denied::Malformed)
    } else {
        view.auth.identify(&view, &token, address).await
    };
    let identity = match identified {
        Ok(identity) if identity.role.suffices(Role::Read) => Ok(identity),
        Ok(_) => Err(Denied::Role),
        Err(denied) => Err(denied),
    };
    let identity = identity.inspect_err(|denied| view.auth.count(*denied, address))?;
    if !renewed {
        tracing::info!(actor = identity.actor, %address, "signed in to the page");
    }
    Ok((cookies.into_headers(), Json(Session::of(&view, identity.actor, identity.role))).into_response())
}

fn keep(token: String, cookies: Cookies) -> (String, Cookies) {
    let cookies = cookies.session(&token, HOURS * 3600).renewal("", 0);
    (token, cookies)
}

/// The browser forgets the access token when it ends, and the refresh token after so long without a renewal.
fn keep_granted(grant: Grant, cookies: Cookies) -> (String, Cookies) {
    let cookies = cookies.session(&grant.access_token, grant.expires_in.clamp(0, HOURS * 3600));
    let cookies = if cookies::is_plain(&grant.refresh_token) {
        cookies.renewal(&grant.refresh_token, HOURS * 3600)
    } else {
        cookies
    };
    (grant.access_token, cookies)
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
    view.auth.may_try(address).inspect_err(|denied| view.auth.count(*denied, address))?;
    ask(gotrue).await.map_err(|refused| {
        if matches!(refused, Refused::Wrong) {
            view.auth.count(Denied::Password, address);
        }
        refused.into()
    })
}

async fn who(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    let identity = view.auth.of_request(&view, &headers, address).await;
    let identity = identity.inspect_err(|denied| view.auth.count(*denied, address))?;
    let session = Session::of(&view, identity.actor, identity.role);
    Ok(([(CACHE_CONTROL, "no-store")], Json(session)).into_response())
}

/// Takes the cookies away, and ends what they stood for where that was made for the page: a code's token, a session of the
/// Supabase project's. A token that somebody pasted goes on; it may serve elsewhere.
async fn sign_out(State(view): State<Handle>, headers: HeaderMap) -> Response {
    if let Some(token) = cookies::find(&headers, cookies::SESSION) {
        if token.starts_with(TOKEN_PREFIX) {
            minted::revoke(&view, token).await;
        } else if cookies::find(&headers, cookies::RENEWAL).is_some()
            && let Some(gotrue) = Gotrue::of(&view.config.auth)
            && let Err(reason) = gotrue.sign_out(token).await
        {
            tracing::warn!(reason, "the session at Supabase Auth was not ended; it ends by itself");
        }
    }
    let cookies = Cookies::new(view.auth.is_encrypted(&headers)).none();
    (StatusCode::NO_CONTENT, cookies.into_headers()).into_response()
}
