//! Tokens made for the page: one for each code of `tallyd open`, revoked when its owner signs out.
//!
//! With such a token the session is listed, audited and revoked like any other access. The token's text does not exist.

use std::net::IpAddr;

use axum::http::StatusCode;
use chrono::TimeDelta;

use crate::http::Daemon;
use crate::http::auth::{Denied, Role};
use crate::http::error::ApiError;
use crate::http::parameters::now;
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::tokens::{NewToken, StoredToken, TokenError, create, revoke as revoke_token};

/// Hours that a session lasts without a renewal, and that a minted token is valid.
pub(super) const HOURS: i64 = 12;

/// The author in the token's row, by which [`revoke`] recognises a minted token.
const CREATED_BY: &str = "cli:open";

/// Exchanges a code for a token; returns its number.
pub(super) async fn redeem(daemon: &Daemon, code: &str, address: IpAddr) -> Result<i32, ApiError> {
    // The code would be used up for a token that this daemon does not know yet.
    if !daemon.auth.tokens.are_known() {
        return Err(daemon.auth.refuse(Denied::Unavailable, address));
    }
    if !daemon.codes.redeem(code, daemon.clock.now_us()) {
        let refused = daemon.auth.refuse(Denied::UnknownToken, address);
        if refused.code() == "too_many_failures" {
            return Err(refused);
        }
        let hint = "`tallyd open` prints a new one; each signs in once, within 15 minutes";
        let message = "the code is used up or unknown";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message, hint));
    }
    // The code has signed nobody in yet; while the database is not there, the page tries it again.
    mint(daemon).await.inspect_err(|_| daemon.codes.give_back(code, daemon.clock.now_us()))
}

/// Makes an admin's token that lasts [`HOURS`]. This daemon knows it at once.
async fn mint(daemon: &Daemon) -> Result<i32, ApiError> {
    let expires_at = Some(now(daemon) + TimeDelta::hours(HOURS));
    let (name, role) = ("the page".to_owned(), Role::Admin);
    let token = NewToken { name: name.clone(), role, expires_at, stated_costs: None };
    // A digest without a known text.
    let sha256: [u8; 32] = rand::random();
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let id = create(&transaction, &token, &Actor::at_the_command_line(CREATED_BY), |_| sha256).await.map_err(failed)?;
    transaction.commit().await?;
    drop(client);
    daemon
        .auth
        .tokens
        .add(StoredToken { id, name, role, sha256: sha256.to_vec(), expires_at, stated_costs: None })
        .await;
    Ok(id)
}

fn failed(error: TokenError) -> ApiError {
    match error {
        TokenError::Database(error) => error.into(),
        // Only a name or a role can be refused, and both are valid constants.
        error => ApiError::unavailable(error.to_string()),
    }
}

/// Revokes the token if it was made here.
pub(super) async fn revoke(daemon: &Daemon, id: i32, by: &Actor<'_>) -> Result<(), ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let revoked = revoke_token(&transaction, id, Some(CREATED_BY), by).await?;
    transaction.commit().await?;
    drop(client);
    if revoked {
        daemon.auth.tokens.remove(id).await;
    }
    Ok(())
}
