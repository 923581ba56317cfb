//! `/session`: signing in and out, and who one is.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::database::queries::tokens::{NewToken, StoredToken, create};
use crate::http::View;
use crate::http::auth::tokens::{compose, digest};
use crate::http::auth::{COOKIE, Denied, Role};
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::http::parameters::now;
use crate::http::router::Handle;

/// How long a browser keeps the cookie, and how long a token that a code was exchanged for is good for.
const HOURS: i64 = 12;
/// Browsers keep no larger cookie.
const TOKEN_BYTES_MAX: usize = 3_900;

/// `/session`. Open, since it is where one shows a token.
pub fn routes() -> Router<Handle> {
    Router::new().route("/session", post(sign_in).get(who).delete(sign_out))
}

/// What one shows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Shown {
    /// A static token, or a JWT of the configured issuer.
    Token(String),
    /// A code of `tallyd open`.
    Code(String),
}

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

async fn sign_in(
    State(view): State<Handle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    JsonBody(shown): JsonBody<Shown>,
) -> Result<Response, ApiError> {
    let address = view.auth.client(peer.ip(), &headers);
    let token = match shown {
        Shown::Token(token) => token.trim().to_owned(),
        Shown::Code(code) if view.codes.redeem(&code, view.clock.now_us()) => mint(&view).await?,
        Shown::Code(_) => {
            view.auth.count(Denied::UnknownToken, address);
            let hint = "`tallyd open` prints a new one; each signs in once, within 15 minutes";
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the code is used up or unknown",
                hint,
            ));
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let identified = if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(plain) {
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
    tracing::info!(actor = identity.actor, %address, "signed in to the page");
    let cookie = cookie(&token, HOURS * 3600, view.auth.is_encrypted(&headers));
    Ok((cookie, Json(Session::of(&view, identity.actor, identity.role))).into_response())
}

/// A token for whoever had a code: an admin's, for half a day, known to this daemon at once.
async fn mint(view: &View) -> Result<String, ApiError> {
    let expires_at = Some(now(view) + TimeDelta::hours(HOURS));
    let (name, role, created_by) = ("the page".to_owned(), Role::Admin, "cli:open".to_owned());
    let token = NewToken { name: name.clone(), role, expires_at, created_by };
    let secret: [u8; 32] = rand::random();
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let mut text = String::new();
    let id = create(&transaction, &token, |id| {
        text = compose(id, secret);
        digest(&text)
    })
    .await?;
    transaction.commit().await?;
    view.auth.tokens.add(StoredToken { id, name, role, sha256: digest(&text).to_vec(), expires_at });
    Ok(text)
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

async fn sign_out(State(view): State<Handle>, headers: HeaderMap) -> Response {
    (StatusCode::NO_CONTENT, cookie("", 0, view.auth.is_encrypted(&headers))).into_response()
}

/// The cookie: for this host, out of reach of scripts, and never sent along from another site.
fn cookie(token: &str, seconds: i64, encrypted: bool) -> HeaderMap {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut headers = HeaderMap::new();
    // Letters, digits and punctuation of ASCII: checked before.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(SET_COOKIE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}
