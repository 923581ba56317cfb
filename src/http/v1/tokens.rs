//! `/api/v1/tokens`: static tokens are listed, created and revoked. For the role `admin` alone.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::tokens::{digest, issue};
use crate::http::auth::{Identity, Role};
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Parameters, PathNumber, limit, now, within};
use tallyd_config::StatedCosts;
use tallyd_store::queries::tokens::{
    ListedToken, NewToken, StoredToken, TokenError, TokenFilter, list, revoke as take_back,
};

const TOKENS: i64 = 100;
const TOKENS_MAX: i64 = 1_000;
/// Days after which a token may end at the latest: ten years.
const DAYS_MAX: i64 = 3_650;

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TokenParameters {
    /// Only those that are neither revoked nor expired.
    #[serde(default)]
    in_force: bool,
    /// Only tokens with a lower number: `next` of the page before.
    #[param(minimum = 1, maximum = 2147483647)]
    before: Option<i32>,
    /// Tokens of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// A page of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// The tokens, newest first. None has its text: only a hash is stored.
    pub tokens: Vec<ListedToken>,
    /// `before` of the next page; null after the last.
    pub next: Option<i32>,
}

/// Static tokens, newest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(TokenParameters),
    responses((status = 200, description = "A page", body = Tokens), Failures))]
pub(crate) async fn tokens(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<TokenParameters>,
) -> Result<Json<Tokens>, ApiError> {
    let before = parameters.before.map(|id| within("before", i64::from(id), 1, i64::from(i32::MAX))).transpose()?;
    let limit = limit(parameters.limit, TOKENS, TOKENS_MAX)?;
    let before = before.and(parameters.before);
    let filter = TokenFilter { in_force: parameters.in_force, before, limit: Some(limit) };
    let reading = daemon.reading().await?;
    let tokens = list(&reading, filter).await?;
    reading.finish().await?;
    let is_full = i64::try_from(tokens.len()).unwrap_or(i64::MAX) >= limit;
    let next = tokens.last().filter(|_| is_full).map(|token| token.id);
    Ok(Json(Tokens { tokens, next }))
}

/// Costs that a token of the role `ingest` may state, if fewer than `limits.stated_costs` lets everybody.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitedCosts {
    /// From 0 up to `limits.stated_cost_max_usd`.
    NonNegative,
    /// None.
    Refuse,
}

impl From<LimitedCosts> for StatedCosts {
    fn from(costs: LimitedCosts) -> Self {
        match costs {
            LimitedCosts::NonNegative => Self::NonNegative,
            LimitedCosts::Refuse => Self::Refuse,
        }
    }
}

/// A token to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// Its user or purpose.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Its rights.
    role: Role,
    /// Days until it ends; it does not if nothing is said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    expires_days: Option<i64>,
    /// For the role `ingest`: the costs that it may state, if fewer than configured.
    #[serde(default)]
    stated_costs: Option<LimitedCosts>,
}

/// The token that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedToken {
    /// Its number.
    pub id: i32,
    /// Its user or purpose.
    pub name: String,
    /// Its rights.
    pub role: Role,
    /// Its end; null if it does not end.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its text. This answer alone has it: only a hash is stored.
    pub token: String,
}

/// Creates a token, and shows its text this once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 200, description = "It is created", body = CreatedToken), Failures))]
pub(crate) async fn create(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(asked): JsonBody<CreateToken>,
) -> Result<Json<CreatedToken>, ApiError> {
    let CreateToken { name, role, expires_days, stated_costs } = asked;
    let days = expires_days.map(|days| within("expires_days", days, 1, DAYS_MAX)).transpose()?;
    let expires_at = days.map(|days| now(&daemon) + TimeDelta::days(days));
    let name = name.trim().to_owned();
    let new = NewToken { name, role, expires_at, stated_costs: stated_costs.map(StatedCosts::from) };
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let (id, token) = issue(&transaction, &new, &who.actor()).await.map_err(refused)?;
    transaction.commit().await?;
    drop(client);
    let NewToken { name, role, expires_at, stated_costs } = new;
    let sha256 = digest(&token).to_vec();
    daemon.auth.tokens.add(StoredToken { id, name: name.clone(), role, sha256, expires_at, stated_costs }).await;
    tracing::info!(actor = who.actor, id, name, role = role.name(), "a token was created");
    Ok(Json(CreatedToken { id, name, role, expires_at, token }))
}

fn refused(error: TokenError) -> ApiError {
    match error {
        TokenError::Database(error) => error.into(),
        TokenError::Name => ApiError::body(error.to_string(), "name the token after its user: {\"name\": \"grafana\"}"),
        TokenError::StatedCosts => {
            ApiError::body(error.to_string(), "leave stated_costs out, or send {\"role\": \"ingest\"}")
        }
    }
}

/// Revokes a token: every daemon refuses it within two seconds.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    params(("id" = i32, Path, description = "The token's number", minimum = 1)),
    responses((status = 204, description = "It is revoked"),
        (status = 404, description = "No token of this number is in force", body = ErrorBody), Failures))]
pub(crate) async fn revoke(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i32>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    if !take_back(&transaction, id, None, &who.actor()).await? {
        return Err(ApiError::not_found("no token of this number is in force", "GET /api/v1/tokens lists them"));
    }
    transaction.commit().await?;
    drop(client);
    daemon.auth.tokens.remove(id).await;
    tracing::info!(actor = who.actor, id, "a token was revoked");
    Ok(StatusCode::NO_CONTENT)
}
