//! Amends or voids one call, with a reason.
//!
//! ## Result
//! The call's row stays in the call log. It gets the new values, and its `cost_source` says `amended` or `voided`. The values
//! before, the author and the reason are a row of `tallyd_amendments`, which only grows. A voided call has no tokens, no
//! requests, no other units and a cost of 0. It still counts as a call, as a voided cheque keeps its number. So a sum over the
//! call log, an archived file or an export needs no condition.
//!
//! Amending a voided call begins with the values before it was voided. If nothing is stated, the call is as it was.
//!
//! ## Cost
//! A stated cost is stored as it is. If only counts are stated, a cost that the catalog computed is computed anew, and a cost
//! that the caller or an admin stated stays. [`crate::reprice`] leaves amended and voided calls alone.
//!
//! ## One transaction
//! As a step of [`crate::reprice`]: the row is read, updated at its place (`ctid`, time and id), and the difference goes into
//! the rollups with the loader's statements, in the loader's order. Loading goes on. A row that another transaction has moved
//! is read again. The amendment and its audit entry are in the same transaction. Counters of Prometheus count loaded calls
//! and are left alone.
//!
//! Calls of partitions that were dropped or archived are not in the call log, so they cannot be changed.

mod list;
mod values;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::queries::audit::{self, Actor, Change as AuditChange};
use crate::queries::records::{RecordOrder, RecordSearch};
use crate::queries::{Parameter, QueryError};
use crate::reprice::row::{LogRow, instant, select};
use crate::reprice::sums::Sums;
use crate::retry::{may_pass, persistently};
use crate::user_deltas::Side;
use crate::{MigrateError, ZoneMoved, dimensions, reporting_zone, rollup_upserts};
pub use list::{is_amended_since, latest, of_call};
use tallyd_model::json::Text;
use tallyd_model::pricing::Catalog;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::dimensions::Dimensions;
pub use values::{Corrections, Values};

/// The longest reason, bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// `api_usage_log.cost_source` of an amended call, and `tallyd_amendments.kind`.
pub const AMENDED: &str = "amended";
/// The same of a voided call.
pub const VOIDED: &str = "voided";

/// The change of a call.
#[derive(Debug, Clone)]
pub enum Change {
    /// Other values.
    Amend(Corrections),
    /// No tokens, and a cost of 0.
    Void,
}

impl Change {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Amend(_) => AMENDED,
            Self::Void => VOIDED,
        }
    }
}

/// The call to change, and how.
#[derive(Debug, Clone)]
pub struct AmendCall<'a> {
    /// The call's id.
    pub id: Uuid,
    /// The call's time: see [`find`].
    pub occurred_at: DateTime<Utc>,
    /// The change.
    pub change: Change,
    /// Why; 1 to [`REASON_BYTES_MAX`] bytes.
    pub reason: &'a str,
}

/// A change that was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Amendment {
    /// Its number, rising.
    pub id: i64,
    /// The call.
    pub call_id: Uuid,
    /// The call's time.
    pub occurred_at: DateTime<Utc>,
    /// `amended` or `voided`.
    pub kind: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Who changed it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// The call's values before.
    #[schema(value_type = Values)]
    pub before: Text,
    /// The call's values since.
    #[schema(value_type = Values)]
    pub after: Text,
}

/// A change that has not been made.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// The call.
    pub call_id: Uuid,
    /// The call's time.
    pub occurred_at: DateTime<Utc>,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The call's values.
    pub before: Values,
    /// The values that it would have.
    pub after: Values,
}

/// Why a call was not changed. Nothing has changed, unless the connection broke during COMMIT.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// PostgreSQL failed.
    #[error("the call was not changed: {}; try again", crate::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database was not reached.
    #[error(transparent)]
    Query(QueryError),
    /// The reporting time zone is missing.
    #[error(transparent)]
    Setting(#[from] MigrateError),
    /// The rollups were rebuilt with days in another zone meanwhile.
    #[error("the call was not changed: {0}")]
    Zone(#[from] ZoneMoved),
    /// Other transactions blocked every try.
    #[error("the call kept being changed by other transactions. hint: try again")]
    Busy,
    /// A value is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// The call log does not have the call.
    #[error(
        "the call log does not have a call {0}. hint: calls of dropped and archived partitions cannot be changed; \
         `tallyd partitions list` shows which periods are there"
    )]
    NotFound(Uuid),
    /// Several rows have the id.
    #[error(
        "{id} is the id of several calls, of {}. hint: state the call's time, or `tallyd duplicates list`",
        at.iter().map(DateTime::to_rfc3339).collect::<Vec<_>>().join(" and ")
    )]
    Ambiguous {
        /// The id.
        id: Uuid,
        /// The calls' times.
        at: Vec<DateTime<Utc>>,
    },
    /// The call has these values already.
    #[error("the call {0} has these values already, or is voided already")]
    Same(Uuid),
    /// The catalog cannot price the new counts.
    #[error("no price is known for the call {0}. hint: state its cost, too")]
    NoPrice(Uuid),
    /// The stored cost cannot be read exactly.
    #[error("the stored cost of the call {0} has more than 18 decimals: its difference could not be stored exactly")]
    Inexact(Uuid),
}

impl From<QueryError> for AmendError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Database(error) => Self::Database(error),
            other => Self::Query(other),
        }
    }
}

/// The change that [`amend`] would make.
///
/// # Errors
/// [`AmendError`].
pub async fn propose(client: &Client, catalog: &Catalog, call: &AmendCall<'_>) -> Result<Proposal, AmendError> {
    check(call)?;
    let mut row = stored(client, call, &Dimensions::default()).await?;
    let (before, after) = decide(client, catalog, call, &mut row).await?;
    let LogRow { id, provider, model, .. } = row;
    Ok(Proposal { call_id: id, occurred_at: call.occurred_at, provider, model, before, after })
}

/// Changes the call.
///
/// # Errors
/// [`AmendError`].
pub async fn amend(
    client: &Client,
    catalog: &Catalog,
    call: &AmendCall<'_>,
    by: &Actor<'_>,
) -> Result<Amendment, AmendError> {
    check(call)?;
    let days = Days::new(reporting_zone(client, None).await?);
    let passes = |error: &AmendError| match error {
        AmendError::Database(error) => may_pass(error),
        AmendError::Busy => true,
        _ => false,
    };
    let work = || within(client, catalog, call, days.clone(), by);
    persistently(client, passes, work).await?.ok_or(AmendError::Busy)
}

fn check(call: &AmendCall<'_>) -> Result<(), AmendError> {
    let is_text = (1..=REASON_BYTES_MAX).contains(&call.reason.trim().len()) && !call.reason.contains('\0');
    if !is_text {
        return Err(AmendError::Invalid(format!("reason: a text of 1 to {REASON_BYTES_MAX} bytes is needed")));
    }
    match &call.change {
        Change::Amend(corrections) => corrections.check().map_err(AmendError::Invalid),
        Change::Void => Ok(()),
    }
}

/// The time of the call with an id. If it is not stated, the call log is searched backwards from `now`, or from the time that
/// the id has.
///
/// # Errors
/// [`AmendError`].
pub async fn find(
    client: &Client,
    id: Uuid,
    stated: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, AmendError> {
    let (from, to) = match stated {
        Some(at) => (at, at + TimeDelta::microseconds(1)),
        // Calls may have times a little in the future.
        None => (DateTime::UNIX_EPOCH, now + TimeDelta::days(1)),
    };
    let search = RecordSearch {
        from,
        to,
        equal: Vec::new(),
        tags: Vec::new(),
        id: Some(id),
        errors: None,
        unpriced: None,
        order: RecordOrder::Time,
        after: None,
        limit: 2,
    };
    let (rows, _) = search.page(client).await?;
    match rows.as_slice() {
        [] => Err(AmendError::NotFound(id)),
        [row] => Ok(row.occurred_at),
        rows => Err(AmendError::Ambiguous { id, at: rows.iter().map(|row| row.occurred_at).collect() }),
    }
}

/// The call as it stands in the call log.
async fn stored(client: &Client, call: &AmendCall<'_>, dimensions: &Dimensions) -> Result<LogRow, AmendError> {
    let (id, at) = (call.id, call.occurred_at);
    // The id's text has only digits and dashes.
    let filter = format!("l.id = '{id}'::uuid AND l.occurred_at = {}", instant(at.timestamp_micros()));
    let rows = client.query_typed(&select(&filter, dimensions), &[]).await?;
    match rows.as_slice() {
        [] => Err(AmendError::NotFound(id)),
        [row] => Ok(LogRow::read(row)),
        rows => Err(AmendError::Ambiguous { id, at: vec![at; rows.len()] }),
    }
}

/// The values before and after.
async fn decide(
    client: &Client,
    catalog: &Catalog,
    call: &AmendCall<'_>,
    row: &mut LogRow,
) -> Result<(Values, Values), AmendError> {
    let before = Values::of(row).ok_or(AmendError::Inexact(call.id))?;
    let after = match &call.change {
        Change::Void => Values::voided(),
        Change::Amend(corrections) => {
            let base = if before.is_voided() {
                list::before_it_was_voided(client, call.id, call.occurred_at).await?
            } else {
                before.clone()
            };
            base.corrected(corrections, row, catalog).ok_or(AmendError::NoPrice(call.id))?
        }
    };
    if after == before { Err(AmendError::Same(call.id)) } else { Ok((before, after)) }
}

async fn within(
    client: &Client,
    catalog: &Catalog,
    call: &AmendCall<'_>,
    mut days: Days,
    by: &Actor<'_>,
) -> Result<Amendment, AmendError> {
    crate::zone::enter(client, days.zone()).await??;
    let dimensions = dimensions::counted(client).await?;
    let mut row = stored(client, call, &dimensions).await?;
    let (before, after) = decide(client, catalog, call, &mut row).await?;
    if !update(client, call, &row.place, &after).await? {
        return Err(AmendError::Busy);
    }
    let mut sums = Sums::default();
    sums.add(days.with_hour(row.occurred_at_us), &row, &after.minus(&before));
    // After the call: operations that take calls out of the call log lock those first, too.
    let side = Side::enter(client).await?;
    rollup_upserts::add(client, side, &sums.deltas(&dimensions)).await?;
    note(client, call, &row, (&before, &after), by).await
}

/// Returns false if the row is not at its place.
async fn update(
    client: &Client,
    call: &AmendCall<'_>,
    place: &str,
    new: &Values,
) -> Result<bool, tokio_postgres::Error> {
    let sql = "UPDATE public.api_usage_log AS l SET cost_usd = $4, cost_source = $5, price_id = $6, input_tokens = $7, \
         output_tokens = $8, cache_read_tokens = $9, cache_write_5m_tokens = $10, cache_write_1h_tokens = $11, \
         requests = $12, extra_units = $13::text::jsonb \
         WHERE l.ctid = $1::text::tid AND l.occurred_at = $2 AND l.id = $3 RETURNING 1";
    let counts = new.counts();
    let units = new.extra_units.as_ref().map(Text::get);
    let parameters: [Parameter<'_>; 13] = [
        (&place, Type::TEXT),
        (&call.occurred_at, Type::TIMESTAMPTZ),
        (&call.id, Type::UUID),
        (&new.cost_usd, Type::NUMERIC),
        (&new.cost_source, Type::TEXT),
        (&new.price_id, Type::INT4),
        (&counts[0], Type::INT8),
        (&counts[1], Type::INT8),
        (&counts[2], Type::INT8),
        (&counts[3], Type::INT8),
        (&counts[4], Type::INT8),
        (&counts[5], Type::INT8),
        (&units, Type::TEXT),
    ];
    Ok(client.query_typed(sql, &parameters).await?.len() == 1)
}

/// Writes the amendment and its audit entry.
async fn note(
    client: &Client,
    call: &AmendCall<'_>,
    row: &LogRow,
    (before, after): (&Values, &Values),
    by: &Actor<'_>,
) -> Result<Amendment, AmendError> {
    let reason = call.reason.trim();
    let sql = format!(
        "INSERT INTO public.tallyd_amendments (call_id, occurred_at, provider, platform, kind, actor, reason, before, after) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb) RETURNING {}",
        list::COLUMNS
    );
    let kind = call.change.kind();
    let [old, new] = [before, after].map(Values::json);
    let parameters: [Parameter<'_>; 9] = [
        (&call.id, Type::UUID),
        (&call.occurred_at, Type::TIMESTAMPTZ),
        (&row.provider, Type::TEXT),
        (&row.platform, Type::TEXT),
        (&kind, Type::TEXT),
        (&by.name, Type::TEXT),
        (&reason, Type::TEXT),
        (&old, Type::TEXT),
        (&new, Type::TEXT),
    ];
    let rows = client.query_typed(&sql, &parameters).await?;
    // An INSERT with RETURNING returns its row.
    let amendment = list::read(rows.first().expect("an insert returns its row"));
    let (action, object) = (if kind == VOIDED { "call.void" } else { "call.amend" }, call.id.to_string());
    let change = AuditChange {
        old: Some(json!({ "cost_usd": before.cost_usd })),
        new: Some(json!({ "cost_usd": after.cost_usd, "reason": reason, "amendment": amendment.id })),
        ..by.change(action, &object)
    };
    audit::write(client, &change).await?;
    Ok(amendment)
}
