//! Names that stand for models: `GET`, `PUT` and `DELETE /api/v1/prices/aliases`. A name may have slashes and colons,
//! so it is in the query and not in the path.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Parameters, text};
use tallyd_model::pricing::ModelAlias;
use tallyd_store::prices::aliases::{self, AliasError};

/// The names in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Aliases {
    /// Those that were set at run time, by provider and name.
    pub aliases: Vec<ModelAlias>,
    /// Those of the configuration, `pricing.aliases`. One that was set at run time wins.
    pub configured: Vec<ModelAlias>,
}

/// A name.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AliasName {
    /// The provider or platform.
    #[param(max_length = 512)]
    provider: String,
    /// The name.
    #[param(max_length = 512)]
    name: String,
}

fn failed(error: AliasError) -> ApiError {
    match error {
        AliasError::Database(error) => error.into(),
        AliasError::Model(error) => {
            ApiError::body(error.to_string(), "GET /api/v1/prices lists the models with a price")
        }
        AliasError::Empty(_) => ApiError::body(error.to_string(), "send provider, name and model"),
        AliasError::NotSet { .. } => {
            let hint = "GET /api/v1/prices/aliases lists the names; those of the configuration are changed there";
            ApiError::not_found("this name was not set", hint)
        }
    }
}

/// Aliases: names that stand for models.
#[utoipa::path(get, path = "/api/v1/prices/aliases", tag = "prices",
    responses((status = 200, description = "The names", body = Aliases), Failures))]
pub(crate) async fn list(State(daemon): State<SharedDaemon>) -> Result<Json<Aliases>, ApiError> {
    let reading = daemon.reading().await?;
    let aliases = aliases::read(&reading).await?;
    reading.finish().await?;
    Ok(Json(Aliases { aliases, configured: daemon.config.pricing.aliases.clone() }))
}

/// Lets a name stand for a model: an ARN, a deployment's own name. Calls that are recorded already keep their cost.
#[utoipa::path(put, path = "/api/v1/prices/aliases", tag = "prices", request_body = ModelAlias,
    responses((status = 200, description = "It is set", body = ModelAlias), Failures))]
pub(crate) async fn set(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<ModelAlias>,
) -> Result<Json<ModelAlias>, ApiError> {
    for (name, value) in [("provider", &new.provider), ("name", &new.name), ("model", &new.model)] {
        text(name, Some(value.clone()))?;
    }
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let set = aliases::set(&transaction, &daemon.config.pricing, &new, &who.actor()).await;
    let set = set.map_err(failed)?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, provider = set.provider, name = set.name, "a name of a model was set");
    Ok(Json(set))
}

/// Takes a name back.
#[utoipa::path(delete, path = "/api/v1/prices/aliases", tag = "prices", params(AliasName),
    responses((status = 204, description = "It stands for nothing any more"),
        (status = 404, description = "This name was not set", body = ErrorBody), Failures))]
pub(crate) async fn remove(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    Parameters(named): Parameters<AliasName>,
) -> Result<StatusCode, ApiError> {
    let checked = |name: &'static str, value: String| Ok::<_, ApiError>(text(name, Some(value))?.unwrap_or_default());
    let (provider, name) = (checked("provider", named.provider)?, checked("name", named.name)?);
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    aliases::remove(&transaction, &provider, &name, &who.actor()).await.map_err(failed)?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, provider, name, "a name of a model was taken back");
    Ok(StatusCode::NO_CONTENT)
}
