//! Names that people give to models, in `tallyd_model_aliases`: read, set and removed. Each change is checked and
//! audited here.

use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use super::{read_added, set_actor};
use crate::queries::audit::{self, Actor, Change};
use tallyd_model::pricing::{Catalog, CatalogError, ModelAlias, PricingOptions, normalise_provider};

/// Why a name was not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The model does not have a price.
    #[error(transparent)]
    Model(#[from] CatalogError),
    /// A part is missing.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The name was not set at run time, or was removed.
    #[error("{name:?} is not a name that was set at {provider}")]
    NotSet {
        /// The provider.
        provider: String,
        /// The name.
        name: String,
    },
}

/// The names in force, by provider and name.
///
/// # Errors
/// PostgreSQL's.
pub async fn read(client: &Client) -> Result<Vec<ModelAlias>, tokio_postgres::Error> {
    let sql = "SELECT a.provider, a.name, a.model FROM ( \
         SELECT DISTINCT ON (provider, name) provider, name, model FROM public.tallyd_model_aliases \
         ORDER BY provider, name, id DESC) AS a WHERE a.model <> '' ORDER BY a.provider, a.name";
    let rows = client.query_typed(sql, &[]).await?;
    let alias = |row: &tokio_postgres::Row| ModelAlias { provider: row.get(0), name: row.get(1), model: row.get(2) };
    Ok(rows.iter().map(alias).collect())
}

/// Makes a name stand for a model from now on. The model must have a price, because a wrong model would otherwise show
/// only in unpriced calls. Returns the name as stored.
///
/// # Errors
/// [`AliasError`].
pub async fn set(
    transaction: &Transaction<'_>,
    options: &PricingOptions,
    alias: &ModelAlias,
    by: &Actor<'_>,
) -> Result<ModelAlias, AliasError> {
    let alias = stored(alias);
    for (name, value) in [("provider", &alias.provider), ("name", &alias.name), ("model", &alias.model)] {
        if value.trim().is_empty() {
            return Err(AliasError::Empty(name));
        }
    }
    let mut added = read_added(transaction.client()).await?;
    let old = added.aliases.iter().find(|old| is_same(old, &alias)).map(|old| old.model.clone());
    added.aliases = vec![alias.clone()];
    let faults = Catalog::layered(options, &added)?.1;
    let is_of = |fault: &CatalogError| matches!(fault, CatalogError::NoModel { name, .. } if *name == alias.name);
    if let Some(fault) = faults.into_iter().find(is_of) {
        return Err(fault.into());
    }
    write(transaction, &alias, old, by).await?;
    Ok(alias)
}

/// Removes a name.
///
/// # Errors
/// [`AliasError`].
pub async fn remove(
    transaction: &Transaction<'_>,
    provider: &str,
    name: &str,
    by: &Actor<'_>,
) -> Result<(), AliasError> {
    let none = stored(&ModelAlias { provider: provider.to_owned(), name: name.to_owned(), model: String::new() });
    let old = read(transaction.client()).await?.into_iter().find(|old| is_same(old, &none));
    let Some(old) = old else {
        return Err(AliasError::NotSet { provider: none.provider, name: name.to_owned() });
    };
    Ok(write(transaction, &none, Some(old.model), by).await?)
}

/// The stored form: lower case, without surrounding space.
fn stored(alias: &ModelAlias) -> ModelAlias {
    ModelAlias {
        provider: normalise_provider(&alias.provider).into_owned(),
        name: alias.name.trim().to_ascii_lowercase(),
        model: alias.model.clone(),
    }
}

fn is_same(one: &ModelAlias, other: &ModelAlias) -> bool {
    (&one.provider, &one.name) == (&other.provider, &other.name)
}

/// Writes a row; an empty model removes the name.
async fn write(
    transaction: &Transaction<'_>,
    alias: &ModelAlias,
    old: Option<String>,
    by: &Actor<'_>,
) -> Result<(), tokio_postgres::Error> {
    set_actor(transaction, by.name).await?;
    let sql = "INSERT INTO public.tallyd_model_aliases (provider, name, model) VALUES ($1, $2, $3)";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&alias.provider, Type::TEXT), (&alias.name, Type::TEXT), (&alias.model, Type::TEXT)];
    transaction.query_typed(sql, &parameters).await?;
    let is_set = !alias.model.is_empty();
    let action = if is_set { "alias.set" } else { "alias.remove" };
    let object = format!("{} {}", alias.provider, alias.name);
    let model = |model: &str| json!({ "model": model });
    let new = is_set.then(|| model(&alias.model));
    let change = Change { old: old.map(|old| model(&old)), new, ..by.change(action, &object) };
    audit::write(transaction.client(), &change).await
}
