//! Names that people give to models, in `tallyd_model_aliases`: read, set, taken back.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use super::set_actor;
use crate::pricing::{ModelAlias, normalise_provider};

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

/// Lets a name stand for a model from now on; an empty model takes the name back. The caller has checked that the
/// catalog knows the model.
///
/// # Errors
/// PostgreSQL's.
pub async fn set(transaction: &Transaction<'_>, alias: &ModelAlias, actor: &str) -> Result<(), tokio_postgres::Error> {
    set_actor(transaction, actor).await?;
    let sql = "INSERT INTO public.tallyd_model_aliases (provider, name, model) VALUES ($1, $2, $3)";
    let (provider, name) = (normalise_provider(&alias.provider), alias.name.trim().to_ascii_lowercase());
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&provider.as_ref(), Type::TEXT), (&name, Type::TEXT), (&alias.model, Type::TEXT)];
    transaction.query_typed(sql, &parameters).await.map(drop)
}
