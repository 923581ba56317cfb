//! Tokens that are made for the page: each for a code of `tallyd open`, revoked when its owner signs out.

use std::net::IpAddr;

use axum::http::StatusCode;
use chrono::TimeDelta;

use super::sign_in::HOURS;
use crate::database::queries::tokens::{NewToken, StoredToken, create, revoke as revoke_token};
use crate::http::View;
use crate::http::auth::tokens::{compose, digest};
use crate::http::auth::{Denied, Role};
use crate::http::error::ApiError;
use crate::http::parameters::now;

/// Who has made such a token: by that it is known again.
const CREATED_BY: &str = "cli:open";

/// Exchanges a code for a token.
pub(super) async fn redeem(view: &View, code: &str, address: IpAddr) -> Result<String, ApiError> {
    if !view.codes.redeem(code, view.clock.now_us()) {
        view.auth.count(Denied::UnknownToken, address);
        let hint = "`tallyd open` prints a new one; each signs in once, within 15 minutes";
        let message = "the code is used up or unknown";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message, hint));
    }
    // It has signed nobody in yet: while the database is not there, the page tries it again.
    mint(view).await.inspect_err(|_| view.codes.give_back(code, view.clock.now_us()))
}

/// A token for whoever had a code: an admin's, for half a day, known to this daemon at once.
async fn mint(view: &View) -> Result<String, ApiError> {
    let expires_at = Some(now(view) + TimeDelta::hours(HOURS));
    let (name, role, created_by) = ("the page".to_owned(), Role::Admin, CREATED_BY.to_owned());
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

/// Revokes a token if it was made here. It is out at once; where the database does not answer, it ends by itself.
pub(super) async fn revoke(view: &View, token: &str) {
    let Ok((actor, _)) = view.auth.tokens.verify(token) else { return };
    let Some(id) = view.auth.tokens.id_of(token) else { return };
    match revoke_stored(view, id, &actor).await {
        Ok(true) => view.auth.tokens.remove(id),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(id, reason = error.message(), "the page's token was not revoked; it ends by itself");
        }
    }
}

async fn revoke_stored(view: &View, id: i32, actor: &str) -> Result<bool, ApiError> {
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let revoked = revoke_token(&transaction, id, Some(CREATED_BY), actor).await?;
    transaction.commit().await?;
    Ok(revoked)
}
