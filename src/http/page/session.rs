//! Signing in and out of the page. What a session is and may: [`crate::http::auth::sessions`].

use std::net::IpAddr;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::database::queries::page_sessions::{self, Proof};
use crate::http::auth::sessions::{COOKIE, LIFETIME, cookie, digest};
use crate::http::auth::{Denied, Role, Shown};
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::http::router::Handle;

/// What the page shows to get in: exactly one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// A static token or a JWT.
    token: Option<String>,
    /// The code of a link.
    code: Option<String>,
}

/// What the page is told of its user, and of the daemon.
#[derive(Debug, Serialize)]
pub struct Session {
    /// Who is signed in; null if nobody is.
    actor: Option<String>,
    /// What they may do; null if nobody is signed in.
    role: Option<Role>,
    /// When the session ends.
    expires_at: Option<DateTime<Utc>>,
    /// Whether JWTs of an issuer are accepted.
    issuer: bool,
    /// The daemon's version. Null to whom is not signed in, as is what follows.
    version: Option<&'static str>,
    /// The reporting time zone.
    time_zone: Option<&'static str>,
}

impl Session {
    fn of(view: &Handle, shown: Option<&Shown>) -> Self {
        Self {
            actor: shown.map(|shown| shown.actor.clone()),
            role: shown.map(|shown| shown.role),
            expires_at: shown.and_then(|shown| shown.ends),
            issuer: view.auth.has_issuer(),
            version: shown.map(|_| env!("CARGO_PKG_VERSION")),
            time_zone: shown.map(|_| view.settings.zone.name()),
        }
    }
}

const NO_STORE: (axum::http::HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// `GET /page/session`: who is signed in. Nobody is no error: the page then asks for a token.
pub async fn show(State(view): State<Handle>, headers: HeaderMap) -> Result<Response, ApiError> {
    let shown = match cookie(&headers) {
        Some(secret) => match view.auth.session(&view, secret).await {
            Ok(shown) => Some(shown),
            Err(Denied::Unavailable) => return Err(Denied::Unavailable.into()),
            Err(_) => None,
        },
        None => None,
    };
    Ok(([NO_STORE], Json(Session::of(&view, shown.as_ref()))).into_response())
}

/// `POST /page/session`: a token, or the code of a link, becomes a cookie.
pub async fn sign_in(State(view): State<Handle>, request: Request) -> Result<Response, ApiError> {
    // Also here: else another site could sign its visitors in as somebody else.
    if !view.auth.is_from_page(request.method(), request.headers()) {
        return Err(Denied::CrossSite.into());
    }
    let address = view.auth.address(&request);
    let secure = is_encrypted(request.headers());
    let local = address.is_loopback() && !request.headers().contains_key("x-forwarded-for");
    let JsonBody(sign_in) = JsonBody::<SignIn>::from_request(request, &view).await?;
    let shown = match show_proof(&view, sign_in, address, local).await? {
        Ok(shown) => shown,
        Err(denied) => {
            view.auth.note(denied, address);
            return Err(denied.into());
        }
    };
    let (session, secret) = view.auth.sessions.draw(shown.actor.clone(), shown.proof.clone(), shown.ends);
    let mut client = view.pool()?.get().await?;
    page_sessions::create(&mut client, &session, &address.to_string()).await?;
    view.auth.sessions.note(|sessions| drop(sessions.insert(session.sha256.clone(), session.clone())));
    tracing::info!(actor = session.actor, %address, "signed in to the page");
    let answer = Session::of(&view, Some(&Shown { ends: Some(session.expires_at), ..shown }));
    let cookie = set_cookie(&secret, LIFETIME.num_seconds(), secure);
    Ok((StatusCode::OK, [NO_STORE, (SET_COOKIE, cookie)], Json(answer)).into_response())
}

/// Looks at what was shown. The outer error is a fault of the request or of the database, which is no attempt.
async fn show_proof(
    view: &Handle,
    sign_in: SignIn,
    address: IpAddr,
    local: bool,
) -> Result<Result<Shown, Denied>, ApiError> {
    match (sign_in.token, sign_in.code) {
        (Some(token), None) => Ok(match view.auth.token(view, token.trim(), address).await {
            // It could ask nothing.
            Ok(shown) if !shown.role.suffices(Role::Read) => Err(Denied::Role),
            other => other,
        }),
        (None, Some(code)) => {
            // A code is taken only when the session can be stored: the daemon may still be starting.
            view.pool()?;
            if !local || !view.links.take(&code) {
                return Ok(Err(Denied::Link));
            }
            let actor = "open:local".to_owned();
            Ok(Ok(Shown { actor, role: Role::Admin, proof: Proof::Link, ends: None }))
        }
        _ => Err(ApiError::body("neither or both of token and code", "send {\"token\": \"…\"}")),
    }
}

/// `DELETE /page/session`: ends the session, here and in the database.
pub async fn sign_out(State(view): State<Handle>, request: Request) -> Result<Response, ApiError> {
    if !view.auth.is_from_page(request.method(), request.headers()) {
        return Err(Denied::CrossSite.into());
    }
    let secure = is_encrypted(request.headers());
    if let Some(secret) = cookie(request.headers()) {
        let sha256 = digest(secret);
        let client = view.pool()?.get().await?;
        page_sessions::end(&client, &sha256).await?;
        view.auth.sessions.note(|sessions| drop(sessions.remove(sha256.as_slice())));
    }
    Ok((StatusCode::NO_CONTENT, [NO_STORE, (SET_COOKIE, set_cookie("", 0, secure))]).into_response())
}

/// Whether the browser's connection is encrypted: the daemon itself speaks plain HTTP, and a proxy in front says so. Whoever
/// says it wrongly keeps only their own cookie from being sent.
fn is_encrypted(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    proto.and_then(|list| list.split(',').next()).is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

fn set_cookie(secret: &str, seconds: i64, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // A name, hexadecimal digits and a number.
    HeaderValue::from_str(&text).expect("the cookie is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_out_of_scripts_and_other_sites_reach() {
        let text = set_cookie("ab", 60, false);
        assert_eq!(text, "tallyd_session=ab; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        assert!(set_cookie("ab", 60, true).to_str().unwrap().ends_with("; Secure"));
        let mut headers = HeaderMap::new();
        assert!(!is_encrypted(&headers));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        assert!(is_encrypted(&headers));
    }
}
