//! A public price list: its changes are proposed, previewed on last week's calls, and applied.
//!
//! At most one proposal is open. A comparison with the same differences confirms it, one with other differences
//! supersedes it, and one without differences closes it. Prices that people set (`tallyd prices set`, the API, the
//! configuration) are not compared, because a list does not know contracts. They are counted as held.
//!
//! The proposed prices apply from the instant at which the difference was first seen, unless another instant is given.
//! If prices have changed since, the proposal is refused, and the next comparison makes another.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Transaction};
use utoipa::ToSchema;

use super::{ChangeNote, add, read_added};
use crate::queries::audit::{self, Actor, Change as Audited};
use crate::reprice::between::{Between, between};
use crate::reprice::{RepriceError, RepriceOptions};
use tallyd_config::PriceSync;
use tallyd_model::pricing::import::{ChangeKind, ImportError, ImportOptions, ListChange, diff, read};
use tallyd_model::pricing::{
    Catalog, CatalogError, PriceOrigin, PriceSpec, PricingOptions, StoredPrice, normalise_provider,
};

/// A week, in microseconds.
const WEEK_US: i64 = 7 * 86_400_000_000;

/// A price that the list has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposed {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The service tier.
    pub service_tier: String,
    /// Whether there was a price before.
    pub kind: ChangeKind,
    /// The rates that hold; null if there are none.
    #[schema(value_type = Option<Object>)]
    pub old: Option<Value>,
    /// The rates that the list has. Rates that it is silent about stay.
    #[schema(value_type = Object)]
    pub new: Value,
}

/// The changes of a price list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Proposal {
    /// Its number.
    pub id: i64,
    /// The address or the file.
    pub list: String,
    /// When these differences were first seen. The prices hold from then on.
    pub seen_at: DateTime<Utc>,
    /// When they were seen last.
    pub last_seen_at: DateTime<Utc>,
    /// The prices.
    pub changes: Vec<Proposed>,
    /// Prices that differ and are not proposed, because a person or the configuration has set them.
    pub held: i32,
    /// The cost of the calls of the week before `seen_at` would have cost.
    pub preview: Between,
}

/// How the looks go.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SyncState {
    /// The last look; null if there was none.
    pub tried_at: Option<DateTime<Utc>>,
    /// The last one that succeeded; null if none has.
    pub read_at: Option<DateTime<Utc>>,
    /// Why the last look failed; empty if it did not.
    pub error: String,
    /// The open proposal; null if there is none.
    pub proposal: Option<Proposal>,
}

/// Why a list was not compared, or a proposal not applied.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The text is not a price list.
    #[error(transparent)]
    List(#[from] ImportError),
    /// The list does not have any usable price: the answer was something else.
    #[error("the list has no price that is taken, of {priced} models with one; nothing is proposed")]
    Empty {
        /// Models with a price.
        priced: usize,
    },
    /// A price in the list is invalid.
    #[error(transparent)]
    Price(#[from] CatalogError),
    /// The calls of the last week could not be priced.
    #[error(transparent)]
    Preview(#[from] RepriceError),
    /// No proposal is open.
    #[error("no proposal is open")]
    NoProposal,
    /// Prices have changed since the proposal was made.
    #[error("the price of {provider} {model:?} has changed since proposal {id} was made")]
    Changed {
        /// The proposal.
        id: i64,
        /// The provider.
        provider: String,
        /// The model.
        model: String,
    },
    /// The stored proposal cannot be read.
    #[error("proposal {id} cannot be read: {error}")]
    Stored {
        /// The proposal.
        id: i64,
        /// Why.
        error: serde_json::Error,
    },
}

/// Claims the next comparison if it is due: true for one of the database's daemons.
///
/// # Errors
/// PostgreSQL's.
pub async fn claim(client: &Client, sync: &PriceSync) -> Result<bool, tokio_postgres::Error> {
    let seconds = sync.interval().as_secs_f64();
    let sql = "UPDATE public.tallyd_price_sync SET tried_at = now() WHERE tried_at <= now() - make_interval(secs => $1) RETURNING 1";
    Ok(!client.query_typed(sql, &[(&seconds, Type::FLOAT8)]).await?.is_empty())
}

/// Stores the error of a comparison.
///
/// # Errors
/// PostgreSQL's.
pub async fn failed(client: &Client, error: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_price_sync SET tried_at = now(), error = $1";
    client.query_typed(sql, &[(&error, Type::TEXT)]).await.map(drop)
}

/// The last comparison, and the open proposal.
///
/// # Errors
/// [`SyncError`].
pub async fn state(client: &Client) -> Result<SyncState, SyncError> {
    let sql = "SELECT nullif(tried_at, '-infinity'), read_at, error FROM public.tallyd_price_sync";
    let rows = client.query_typed(sql, &[]).await?;
    let mut state = SyncState { tried_at: None, read_at: None, error: String::new(), proposal: open(client).await? };
    if let Some(row) = rows.first() {
        (state.tried_at, state.read_at, state.error) = (row.get(0), row.get(1), row.get(2));
    }
    Ok(state)
}

async fn open(client: &Client) -> Result<Option<Proposal>, SyncError> {
    let sql = "SELECT id, list, seen_at, last_seen_at, changes, held, preview FROM public.tallyd_price_proposals \
         WHERE state = 'open'";
    let read = |row: &Row| {
        let id = row.get(0);
        let wrong = |error| SyncError::Stored { id, error };
        Ok(Proposal {
            id,
            list: row.get(1),
            seen_at: row.get(2),
            last_seen_at: row.get(3),
            changes: serde_json::from_value(row.get(4)).map_err(wrong)?,
            held: row.get(5),
            preview: serde_json::from_value(row.get(6)).map_err(wrong)?,
        })
    };
    client.query_typed(sql, &[]).await?.first().map(read).transpose()
}

/// Compares a list with the prices, and proposes the differences. Returns the open proposal.
///
/// # Errors
/// [`SyncError`]; the open proposal then stays.
pub async fn look(
    transaction: &Transaction<'_>,
    pricing: &PricingOptions,
    sync: &PriceSync,
    text: &str,
    now: DateTime<Utc>,
) -> Result<Option<Proposal>, SyncError> {
    // The row serves as a lock between comparisons.
    transaction.query_typed("SELECT 1 FROM public.tallyd_price_sync FOR UPDATE", &[]).await?;
    let options = ImportOptions {
        providers: sync.providers.iter().map(|name| normalise_provider(name).into_owned()).collect(),
        from_us: now.timestamp_micros(),
        source: sync.list.clone(),
        source_date: now.date_naive().to_string(),
    };
    let imported = read(text, &options)?.1;
    if imported.specs.is_empty() {
        return Err(SyncError::Empty { priced: imported.priced });
    }
    let added = read_added(transaction.client()).await?;
    let before = Catalog::layered(pricing, &added)?.0;
    let of_people = set_by_people(transaction.client()).await?;
    let is_held = |change: &ListChange| {
        let spec = &change.spec;
        let price = before.price_at(&spec.provider, &spec.model, &spec.service_tier, spec.effective_from_us);
        price.is_some_and(|price| price.origin == PriceOrigin::Config || of_people.contains(&price.id))
    };
    let (held, changes): (Vec<_>, Vec<_>) = diff(&before, &imported.specs).into_iter().partition(is_held);
    let proposed: Vec<_> = changes.iter().map(Proposed::from).collect();
    let known = open(transaction.client()).await?;
    match known {
        Some(known) if known.changes == proposed && known.list == sync.list => confirm(transaction, known.id).await?,
        known => {
            if let Some(known) = known {
                decide(transaction, known.id, "superseded", "").await?;
            }
            if !proposed.is_empty() {
                let preview = preview(transaction.client(), pricing, &changes, now).await?;
                propose(transaction, sync, &proposed, held.len(), &preview, now).await?;
            }
        }
    }
    let done = "UPDATE public.tallyd_price_sync SET tried_at = now(), read_at = now(), error = ''";
    transaction.query_typed(done, &[]).await?;
    open(transaction.client()).await
}

/// The cost of last week's calls under the new prices.
async fn preview(
    client: &Client,
    pricing: &PricingOptions,
    changes: &[ListChange],
    now: DateTime<Utc>,
) -> Result<Between, SyncError> {
    let mut added = read_added(client).await?;
    let before = Catalog::layered(pricing, &added)?.0;
    let to_us = now.timestamp_micros();
    let from_us = to_us - WEEK_US;
    for (id, change) in (0..=i32::MAX).rev().zip(changes) {
        let spec = PriceSpec { effective_from_us: from_us, ..change.spec.clone() };
        added.prices.push(StoredPrice { id, ..StoredPrice::trial(&spec) });
    }
    let after = Catalog::layered(pricing, &added)?.0;
    let (provider, model) = (String::new(), String::new());
    let options = RepriceOptions { from_us, to_us, provider, model, include_client: false, batch_rows: 0 };
    Ok(between(client, &before, &after, &options).await?)
}

/// The ids of added prices that people have set.
async fn set_by_people(client: &Client) -> Result<HashSet<i32>, tokio_postgres::Error> {
    let sql = "SELECT id FROM public.api_prices WHERE origin NOT IN ('builtin', 'config', 'import', 'sync') \
         AND withdrawn_at IS NULL";
    Ok(client.query_typed(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn propose(
    transaction: &Transaction<'_>,
    sync: &PriceSync,
    proposed: &[Proposed],
    held: usize,
    preview: &Between,
    now: DateTime<Utc>,
) -> Result<(), SyncError> {
    let sql = "INSERT INTO public.tallyd_price_proposals (list, seen_at, last_seen_at, changes, held, preview) \
         VALUES ($1, $2, $2, $3, $4, $5)";
    let (changes, preview) = (json!(proposed), json!(preview));
    let held = i32::try_from(held).unwrap_or(i32::MAX);
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&sync.list, Type::TEXT),
        (&now, Type::TIMESTAMPTZ),
        (&changes, Type::JSONB),
        (&held, Type::INT4),
        (&preview, Type::JSONB),
    ];
    Ok(transaction.query_typed(sql, &parameters).await.map(drop)?)
}

async fn confirm(transaction: &Transaction<'_>, id: i64) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_price_proposals SET last_seen_at = now() WHERE id = $1";
    transaction.query_typed(sql, &[(&id, Type::INT8)]).await.map(drop)
}

async fn decide(transaction: &Transaction<'_>, id: i64, state: &str, actor: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_price_proposals SET state = $2, decided_by = $3, decided_at = clock_timestamp() \
         WHERE id = $1";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [(&id, Type::INT8), (&state, Type::TEXT), (&actor, Type::TEXT)];
    transaction.query_typed(sql, &parameters).await.map(drop)
}

/// The open proposal, its row locked.
async fn locked(transaction: &Transaction<'_>) -> Result<Proposal, SyncError> {
    transaction.query_typed("SELECT 1 FROM public.tallyd_price_sync FOR UPDATE", &[]).await?;
    open(transaction.client()).await?.ok_or(SyncError::NoProposal)
}

/// Adds the prices of the open proposal, from the instant at which they were seen or from `from`. Returns the
/// proposal.
///
/// # Errors
/// [`SyncError`]; nothing has changed then.
pub async fn apply(
    transaction: &Transaction<'_>,
    pricing: &PricingOptions,
    from: Option<DateTime<Utc>>,
    by: &Actor<'_>,
) -> Result<Proposal, SyncError> {
    let proposal = locked(transaction).await?;
    let catalog = Catalog::layered(pricing, &read_added(transaction.client()).await?)?.0;
    let from_us = from.unwrap_or(proposal.seen_at).timestamp_micros();
    let mut specs = Vec::with_capacity(proposal.changes.len());
    for change in &proposal.changes {
        let is_as_seen = [proposal.seen_at.timestamp_micros(), from_us].into_iter().all(|at_us| {
            let price = catalog.price_at(&change.provider, &change.model, &change.service_tier, at_us);
            let price = price.filter(|price| price.model.is_empty() == change.model.is_empty());
            price.map(tallyd_model::pricing::Price::rates_json) == change.old
        });
        if !is_as_seen {
            let (provider, model) = (change.provider.clone(), change.model.clone());
            return Err(SyncError::Changed { id: proposal.id, provider, model });
        }
        specs.push(change.spec(from_us, &proposal)?);
    }
    let object = format!("proposal {}", proposal.id);
    add(transaction, &specs, &ChangeNote { by: *by, origin: "sync", note: &object }).await?;
    decide(transaction, proposal.id, "applied", by.name).await?;
    let new =
        json!({ "list": proposal.list, "prices": specs.len(), "effective_from": from.unwrap_or(proposal.seen_at) });
    let change = Audited { new: Some(new), ..by.change("price.sync_apply", &object) };
    audit::write(transaction.client(), &change).await?;
    Ok(proposal)
}

/// Closes the open proposal without applying it. The next comparison proposes the same differences again.
///
/// # Errors
/// [`SyncError`].
pub async fn dismiss(transaction: &Transaction<'_>, by: &Actor<'_>) -> Result<Proposal, SyncError> {
    let proposal = locked(transaction).await?;
    decide(transaction, proposal.id, "dismissed", by.name).await?;
    let object = format!("proposal {}", proposal.id);
    audit::write(transaction.client(), &by.change("price.sync_dismiss", &object)).await?;
    Ok(proposal)
}

impl From<&ListChange> for Proposed {
    fn from(change: &ListChange) -> Self {
        Self {
            provider: change.provider.clone(),
            model: change.model.clone(),
            service_tier: change.service_tier.clone(),
            kind: change.kind,
            old: change.old.clone(),
            new: change.new.clone(),
        }
    }
}

impl Proposed {
    fn spec(&self, from_us: i64, proposal: &Proposal) -> Result<PriceSpec, CatalogError> {
        let row = StoredPrice {
            id: 0,
            provider: self.provider.clone(),
            model: self.model.clone(),
            service_tier: self.service_tier.clone(),
            effective_from_us: from_us,
            rates: self.new.clone(),
            source: proposal.list.clone(),
            source_date: proposal.seen_at.date_naive().to_string(),
        };
        let price = row.price()?;
        Ok(PriceSpec {
            provider: price.provider,
            model: price.model,
            service_tier: price.service_tier,
            effective_from_us: from_us,
            rates: price.rates,
            above: price.above,
            source: price.source,
            source_date: price.source_date,
        })
    }
}
