//! Costs of calls by two sets of prices, by model: the effect of a change of prices, independent of stored costs.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::preview::sum;
use super::row::{LogRow, select, wanted};
use super::{RepriceError, RepriceOptions};
use tallyd_model::pricing::{Catalog, Usd};
use tallyd_model::rollup::dimensions::Dimensions;

/// Models that are listed, those with the largest differences.
pub const MODELS_MAX: usize = 200;

/// One model's difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelDifference {
    /// The provider.
    pub provider: String,
    /// The model, as it stands in the call log.
    pub model: String,
    /// Calls whose cost differs.
    pub calls: u64,
    /// Of those, the ones without a price before.
    pub newly_priced: u64,
    /// Of those, the ones without a price afterwards.
    pub newly_unpriced: u64,
    /// Their cost before; unpriced calls count as nothing.
    #[schema(value_type = String, example = "1.5")]
    pub old_usd: Usd,
    /// Their cost afterwards.
    #[schema(value_type = String, example = "1.2")]
    pub new_usd: Usd,
    /// The one minus the other.
    #[schema(value_type = String, example = "-0.3")]
    pub difference_usd: Usd,
}

/// The differences of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Between {
    /// Calls that were looked at. Calls whose cost was stated are not among them.
    pub calls: u64,
    /// Calls whose cost differs.
    pub changed: u64,
    /// Cost of all changed calls before.
    #[schema(value_type = String, example = "1.5")]
    pub old_usd: Usd,
    /// Cost of all changed calls afterwards.
    #[schema(value_type = String, example = "1.2")]
    pub new_usd: Usd,
    /// By model, the largest differences first; 200 at most.
    pub models: Vec<ModelDifference>,
    /// Models that differ and are not listed.
    pub models_left_off: usize,
}

/// Prices the calls of a period by both catalogs. Changes nothing.
///
/// # Errors
/// [`RepriceError`].
pub async fn between(
    client: &Client,
    before: &Catalog,
    after: &Catalog,
    options: &RepriceOptions,
) -> Result<Between, RepriceError> {
    let sql = select(&wanted(options, options.from_us, options.to_us), &Dimensions::default());
    let rows = client.query_typed_raw(&sql, std::iter::empty::<(&str, Type)>()).await?;
    let mut rows = std::pin::pin!(rows);
    let mut found = Between::default();
    let mut models: BTreeMap<(String, String), ModelDifference> = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let row = LogRow::read(&row);
        found.calls += 1;
        let cost = |catalog| row.priced(catalog).map(|(cost, _)| cost);
        let (old, new) = (cost(before), cost(after));
        if old == new {
            continue;
        }
        let key = (row.provider, row.model);
        let entry = models.entry(key).or_insert_with_key(|(provider, model)| ModelDifference {
            provider: provider.clone(),
            model: model.clone(),
            calls: 0,
            newly_priced: 0,
            newly_unpriced: 0,
            old_usd: Usd::ZERO,
            new_usd: Usd::ZERO,
            difference_usd: Usd::ZERO,
        });
        entry.calls += 1;
        entry.newly_priced += u64::from(old.is_none());
        entry.newly_unpriced += u64::from(new.is_none());
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        (entry.old_usd, entry.new_usd) = (sum(entry.old_usd, old), sum(entry.new_usd, new));
        found.changed += 1;
        (found.old_usd, found.new_usd) = (sum(found.old_usd, old), sum(found.new_usd, new));
    }
    found.models = models.into_values().collect();
    for model in &mut found.models {
        model.difference_usd = Usd::from_attos(model.new_usd.attos() - model.old_usd.attos());
    }
    found.models.sort_by_key(|model| std::cmp::Reverse(model.difference_usd.attos().unsigned_abs()));
    found.models_left_off = found.models.len().saturating_sub(MODELS_MAX);
    found.models.truncate(MODELS_MAX);
    Ok(found)
}
