//! Supabase Auth (GoTrue), called on the browser's behalf: a password becomes an access token, and a refresh token the
//! next one. The page itself calls no other host, and its scripts see neither token.
//!
//! An access token from here is verified like any other token.
//!
//! Errors are recognised by their code in each form that GoTrue has had: `error_code` beside a numeric `code` (v2.150
//! on), a textual `code` (API version 2024-01-01), and OAuth's `error` (before). Source: supabase/auth,
//! `internal/api/errors.go` and `internal/api/apierrors/errorcode.go`.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::auth::Denied;
use crate::http::error::ApiError;
use crate::outbound::{self, OutboundAnswer};

const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, bytes. It includes the user's metadata.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Gotrue<'a> {
    url: &'a str,
    key: &'a str,
}

/// The answer to a sign-in or a renewal.
#[derive(Deserialize)]
pub(super) struct Grant {
    /// The JWT.
    pub access_token: String,
    /// Seconds until the access token expires.
    pub expires_in: i64,
    /// Exchanged for the next access token, once.
    pub refresh_token: String,
}

/// Why there is no grant.
#[derive(Debug)]
pub(crate) enum GotrueRefusal {
    /// The password or the refresh token is wrong.
    Wrong,
    /// Any other failure.
    Other(ApiError),
}

impl From<GotrueRefusal> for ApiError {
    fn from(refused: GotrueRefusal) -> Self {
        match refused {
            GotrueRefusal::Wrong => Denied::Password.into(),
            GotrueRefusal::Other(error) => error,
        }
    }
}

impl<'a> Gotrue<'a> {
    /// None if sign-in with a password is not configured.
    #[must_use]
    pub(super) fn of(config: &'a tallyd_config::Auth) -> Option<Self> {
        let (url, key) = (config.issuer.as_deref()?, config.publishable_key.as_deref()?);
        Some(Self { url: url.trim_end_matches('/'), key })
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// [`GotrueRefusal`].
    pub(super) async fn sign_in(&self, email: &str, password: &str) -> Result<Grant, GotrueRefusal> {
        self.grant("password", &json!({ "email": email, "password": password })).await
    }

    /// Exchanges a refresh token for a new grant.
    ///
    /// # Errors
    /// [`GotrueRefusal`].
    pub(super) async fn renew(&self, refresh_token: &str) -> Result<Grant, GotrueRefusal> {
        self.grant("refresh_token", &json!({ "refresh_token": refresh_token })).await
    }

    /// Ends the session of an access token, and no other session of the same user.
    ///
    /// # Errors
    /// Why not, for the daemon log.
    pub(super) async fn sign_out(&self, access_token: &str) -> Result<(), String> {
        let bearer = format!("Bearer {access_token}");
        let answer = self.ask("logout?scope=local", &[("authorization", &bearer)], &json!({})).await;
        match answer.map_err(|error| error.to_string())?.status {
            // Unauthorized: the session has already ended.
            status if status.is_success() || status == StatusCode::UNAUTHORIZED => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }

    async fn grant(&self, kind: &str, body: &Value) -> Result<Grant, GotrueRefusal> {
        let answer = self.ask(&format!("token?grant_type={kind}"), &[], body).await;
        let OutboundAnswer { status, body, .. } = answer.map_err(|error| {
            tracing::warn!(%error, "Supabase Auth did not answer");
            GotrueRefusal::Other(unavailable("Supabase Auth does not answer"))
        })?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                tracing::warn!(%error, "Supabase Auth's answer is not understood");
                GotrueRefusal::Other(unavailable("Supabase Auth's answer is not understood"))
            });
        }
        Err(refused(status, &body))
    }

    async fn ask(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> Result<OutboundAnswer, outbound::OutboundError> {
        let mut all = vec![("apikey", self.key)];
        all.extend(headers);
        let question =
            outbound::OutboundRequest { headers: &all, json: Some(body), max_bytes: ANSWER_BYTES_MAX, limit: PATIENCE };
        outbound::ask(&format!("{}/{path}", self.url), &question).await
    }
}

/// Sorts an error of GoTrue's: a wrong password or refresh token, or another failure with a message for the person.
fn refused(status: StatusCode, body: &[u8]) -> GotrueRefusal {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = ["error_code", "code", "error"].into_iter().find_map(|name| body[name].as_str()).unwrap_or_default();
    let description = body["error_description"].as_str().unwrap_or_default();
    let unauthorized = |message: &str, hint: &str| {
        GotrueRefusal::Other(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message, hint))
    };
    match code {
        "invalid_grant" if description.contains("not confirmed") => not_confirmed(),
        "email_not_confirmed" => not_confirmed(),
        "invalid_credentials" | "invalid_grant" | "validation_failed" | "user_not_found" => GotrueRefusal::Wrong,
        "refresh_token_not_found" | "refresh_token_already_used" | "session_expired" | "session_not_found" => {
            GotrueRefusal::Wrong
        }
        "user_banned" => unauthorized("the user is banned", "an owner of the Supabase project can lift that"),
        "captcha_failed" => unauthorized(
            "this Supabase project asks for a CAPTCHA",
            "sign in with a token; `tallyd open` prints a link",
        ),
        "email_provider_disabled" => unauthorized(
            "this Supabase project does not sign in with passwords",
            "sign in with a token; `tallyd open` prints a link",
        ),
        _ if status == StatusCode::TOO_MANY_REQUESTS => {
            let (code, message) = ("too_many_failures", "Supabase Auth has been asked too often");
            let hint = "wait a minute; a token signs in meanwhile";
            GotrueRefusal::Other(ApiError::new(status, code, message, hint).retry_after(60))
        }
        _ => {
            tracing::warn!(%status, code, "Supabase Auth refused; is auth.publishable_key the project's own?");
            GotrueRefusal::Other(unavailable("Supabase Auth did not sign anybody in"))
        }
    }
}

fn not_confirmed() -> GotrueRefusal {
    let (status, code) = (StatusCode::UNAUTHORIZED, "unauthorized");
    let hint = "follow the link in the message that Supabase sent";
    GotrueRefusal::Other(ApiError::new(status, code, "the e-mail address is not confirmed yet", hint))
}

fn unavailable(message: &str) -> ApiError {
    let hint = "see the daemon's log, and try again; a token signs in meanwhile";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "auth_unavailable", message, hint).retry_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: u16, body: &Value) -> String {
        let refused = refused(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes());
        ApiError::from(refused).message().to_owned()
    }

    #[test]
    fn a_wrong_password_is_known_in_each_form_that_it_has_had() {
        for (status, body) in [
            (400, json!({ "code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials" })),
            (400, json!({ "code": "invalid_credentials", "message": "Invalid login credentials" })),
            (400, json!({ "error": "invalid_grant", "error_description": "Invalid login credentials" })),
        ] {
            assert!(message(status, &body).contains("do not match"), "{body}");
        }
    }

    #[test]
    fn what_is_not_the_passwords_fault_says_so() {
        let old = json!({ "error": "invalid_grant", "error_description": "Email not confirmed" });
        let new = json!({ "code": 400, "error_code": "email_not_confirmed", "msg": "Email not confirmed" });
        assert!(message(400, &old).contains("not confirmed") && message(400, &new).contains("not confirmed"));
        assert!(message(400, &json!({ "code": 400, "error_code": "captcha_failed" })).contains("CAPTCHA"));
        assert!(message(429, &json!({ "code": 429 })).contains("too often"));
        assert!(message(401, &json!({ "message": "Invalid API key" })).contains("did not sign anybody in"));
        assert!(message(502, &Value::Null).contains("did not sign anybody in"));
    }
}
