//! Adding and removing a dimension.

use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::backfill::HOLD;
use crate::queries::audit::{self, Actor, Change};
use crate::retry::{in_transaction, may_pass, persistently};
use tallyd_model::rollup::dimensions::DIMENSIONS_MAX;
use tallyd_model::tags::{APP, name_fault};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DimensionError {
    /// PostgreSQL failed.
    #[error("the dimensions are as they were: {}", crate::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// It cannot be a dimension.
    #[error("{0}")]
    Name(String),
    /// As many as there can be are there.
    #[error(
        "there are {DIMENSIONS_MAX} dimensions, and no more are possible. hint: `tallyd dimensions list` shows them, \
         `tallyd dimensions remove` makes room"
    )]
    Full,
    /// The application is always one.
    #[error("{APP} is the record's application, and always a dimension")]
    Fixed,
    /// There is none of that name.
    #[error("{0:?} is not a dimension. hint: `tallyd dimensions list` shows them")]
    Missing(String),
    /// Others kept being in the way.
    #[error("other transactions kept being in the way; nothing was changed by this step, and it can be tried again")]
    Busy,
}

/// Adds a dimension, of which no call counts yet ([`super::count_day`]). False if it is there.
///
/// # Errors
/// [`DimensionError`].
pub async fn add(client: &Client, name: &str, by: &Actor<'_>) -> Result<bool, DimensionError> {
    if let Some(fault) = name_fault(name) {
        return Err(DimensionError::Name(fault));
    }
    in_transaction(client, async {
        // Two that add at once would choose the same place.
        client.batch_execute("LOCK TABLE public.tallyd_dimensions IN SHARE ROW EXCLUSIVE MODE").await?;
        let known = "SELECT FROM public.tallyd_dimensions WHERE name = $1";
        if !client.query_typed(known, &[(&name, Type::TEXT)]).await?.is_empty() {
            return Ok(false);
        }
        let insert = "INSERT INTO public.tallyd_dimensions (name, place, actor) \
            SELECT $1, p, $2 FROM generate_series(3, 13) AS p \
            WHERE NOT EXISTS (SELECT FROM public.tallyd_dimensions AS d WHERE d.place = p) ORDER BY p LIMIT 1 RETURNING 1";
        if client.query_typed(insert, &[(&name, Type::TEXT), (&by.name, Type::TEXT)]).await?.is_empty() {
            return Err(DimensionError::Full);
        }
        audit::write(client, &Change { new: Some(json!({ "name": name })), ..by.change("dimension.add", name) }).await?;
        Ok(true)
    })
    .await
}

/// Removes a dimension with its sums. The calls keep their tags. Returns how many rows of sums there were.
///
/// # Errors
/// [`DimensionError`].
pub async fn remove(client: &Client, name: &str, by: &Actor<'_>) -> Result<u64, DimensionError> {
    if name == APP {
        return Err(DimensionError::Fixed);
    }
    let passes = |error: &DimensionError| matches!(error, DimensionError::Database(error) if may_pass(error));
    persistently(client, passes, || within(client, name, by)).await?.ok_or(DimensionError::Busy)
}

async fn within(client: &Client, name: &str, by: &Actor<'_>) -> Result<u64, DimensionError> {
    // Writers of calls that have read it still add to its sums.
    client.batch_execute(HOLD).await?;
    let values = [(&name as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)];
    if client.execute_typed("DELETE FROM public.tallyd_dimensions WHERE name = $1", &values).await? == 0 {
        return Err(DimensionError::Missing(name.to_owned()));
    }
    let rows = client.execute_typed("DELETE FROM public.daily_dimension_costs WHERE dimension = $1", &values).await?;
    let dropped = "DELETE FROM public.tallyd_dropped_dimension_costs WHERE dimension = $1";
    client.execute_typed(dropped, &values).await?;
    let old = Some(json!({ "name": name, "rows": rows }));
    audit::write(client, &Change { old, ..by.change("dimension.remove", name) }).await?;
    Ok(rows)
}
