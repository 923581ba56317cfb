//! The transaction of a retry: lock the letters, load their records, mark them settled.

use std::time::Duration;

use tokio_postgres::Client;
use uuid::Uuid;

use tallyd_base::clock::Clock;
use tallyd_config::Config;
use tallyd_intake::{Absent, Admission, Encoded, Refusal, Rules};
use tallyd_model::pricing::{Catalog, CatalogError};
use tallyd_store::dead_letters::{DeadLetter, Edit, EditError, Payload, lock_open, mark_retried, note};
use tallyd_store::load::FlushError;
use tallyd_store::load::direct::{DirectLoader, DirectLoaderError};
use tallyd_store::load::replay::present;
use tallyd_store::prices::read_added;
use tallyd_store::queries::audit::Actor;
use tallyd_wal::chunk::{Chunk, ChunkBuilder, Entry, PayloadReader};

/// The result for one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryOutcome {
    /// The record is in the call log, as this call.
    Retried(Uuid),
    /// The call log already has the call, by its stated id; it is not counted again.
    Known(Uuid),
    /// The letter was settled before.
    Settled,
    /// The daemon would refuse the record again.
    Refused(Refusal),
    /// PostgreSQL would refuse the call again.
    Poison(String),
    /// The correction cannot be made.
    Uncorrected(EditError),
}

impl std::fmt::Display for RetryOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Retried(record) => write!(f, "it is the call {record} now"),
            Self::Known(record) => write!(f, "the call {record} is there already, and is not counted again"),
            Self::Settled => f.write_str("it is not open"),
            Self::Refused(refusal) if refusal.field.is_empty() => {
                write!(f, "{}: {}", refusal.code.name(), refusal.message)
            }
            Self::Refused(refusal) => write!(f, "{}: {}: {}", refusal.code.name(), refusal.field, refusal.message),
            Self::Poison(said) => write!(f, "PostgreSQL would not take it: {said}"),
            Self::Uncorrected(error) => error.fmt(f),
        }
    }
}

/// A call with a letter's stated id is searched within this time around the letter's. Corrected records are usually
/// sent soon, and the call log does not have an index of ids.
const AROUND: Duration = Duration::from_secs(60 * 60);

/// Why letters were not retried. Nothing has changed, unless the connection broke during COMMIT; trying again is right
/// in both cases.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetryError {
    /// PostgreSQL failed.
    #[error(transparent)]
    Load(#[from] FlushError),
    /// The schema is not this version's.
    #[error(transparent)]
    Schema(#[from] DirectLoaderError),
    /// The price catalog is not usable.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<tokio_postgres::Error> for RetryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Load(error.into())
    }
}

pub(crate) struct Retrier<'c> {
    direct: DirectLoader,
    rules: Rules,
    catalog: Catalog,
    clock: &'c dyn Clock,
}

impl<'c> Retrier<'c> {
    /// With the bounds of a configuration, and the prices in force: the configured ones, and those added in the
    /// database.
    ///
    /// # Errors
    /// [`RetryError`].
    pub(crate) async fn new(config: &Config, client: &Client, clock: &'c dyn Clock) -> Result<Self, RetryError> {
        Ok(Self {
            direct: DirectLoader::new(config, client).await?,
            rules: crate::app::rules(config),
            catalog: Catalog::layered(&config.pricing, &read_added(client).await?)?.0,
            clock,
        })
    }

    /// Retries letters with the same corrections, in one transaction. A letter that is refused again stays as it is,
    /// and does not prevent the others. Returns a result for each letter, in their order.
    ///
    /// # Errors
    /// [`RetryError`]; the connection must not be used after one.
    pub(crate) async fn retry(
        &self,
        client: &Client,
        letters: &[DeadLetter],
        edits: &[Edit],
        by: &Actor<'_>,
    ) -> Result<Vec<RetryOutcome>, RetryError> {
        let admitted: Vec<_> = letters.iter().map(|letter| self.admit(letter, edits)).collect();
        let mut calls = Vec::new();
        for (index, chunk) in admitted.iter().enumerate().filter_map(|(i, chunk)| Some((i, chunk.as_ref().ok()?))) {
            if let Some(Entry::Call(call)) =
                PayloadReader::new(&chunk.payload).next().transpose().map_err(FlushError::from)?
            {
                calls.push((index, call));
            }
        }
        let all: Vec<_> = calls.iter().map(|(_, call)| *call).collect();
        self.direct.prepare(client, &all).await?;

        self.direct.begin(client).await?;
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        let open = lock_open(client, &ids).await?;
        calls.retain(|(index, _)| open.contains(&letters[*index].id));
        let mut outcomes: Vec<_> = admitted.iter().map(|chunk| chunk.as_ref().err().cloned()).collect();
        let (mut settled, mut records) = (Vec::new(), Vec::new());
        let stated: Vec<_> = calls.iter().map(|(_, call)| *call).filter(|call| call.stated.id).collect();
        let mut known = present(client, &stated, AROUND).await?;
        calls.retain(|(index, call)| {
            // Two letters may have the same id as well: a refused record may have been sent again.
            let is_new = !call.stated.id || known.insert(call.id);
            if !is_new {
                let record = Uuid::from_bytes(call.id);
                settled.push(letters[*index].id);
                records.push(record);
                outcomes[*index] = Some(RetryOutcome::Known(record));
            }
            is_new
        });
        let rows: Vec<_> = calls.iter().map(|(_, call)| *call).collect();
        let poison = self.direct.load(client, &rows).await?;
        for found in poison {
            outcomes[calls[found.place].0] = Some(RetryOutcome::Poison(found.said));
        }
        for (index, call) in &calls {
            if outcomes[*index].is_none() {
                let record = Uuid::from_bytes(call.id);
                settled.push(letters[*index].id);
                records.push(record);
                outcomes[*index] = Some(RetryOutcome::Retried(record));
            }
        }
        mark_retried(client, &settled, &records).await?;
        note(client, "dead_letter.retry", &settled, by).await?;
        self.direct.commit(client).await?;
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(RetryOutcome::Settled)).collect())
    }

    fn admit(&self, letter: &DeadLetter, edits: &[Edit]) -> Result<Chunk, RetryOutcome> {
        if letter.settled_at.is_some() {
            return Err(RetryOutcome::Settled);
        }
        let payload = letter.payload.with(edits).map_err(RetryOutcome::Uncorrected)?;
        // The call was made when its record was sent, not now.
        let at = letter.occurred_at.unwrap_or(letter.created_at);
        let absent = Absent { occurred_at_us: Some(at.timestamp_micros()), ..Absent::default() };
        let admission = Admission { rules: &self.rules, catalog: &self.catalog, now_us: self.clock.now_us() };
        admission.admit_with(encoded(&payload), absent, |admitted| {
            let mut builder = ChunkBuilder::new();
            builder.push_call(0, admitted.map_err(RetryOutcome::Refused)?);
            // One call was pushed, so there is a chunk.
            Ok(builder.finish().expect("a chunk of one call"))
        })
    }
}

fn encoded(payload: &Payload) -> Encoded<'_> {
    match payload {
        Payload::Json(bytes) => Encoded::Json(bytes),
        Payload::MessagePack(bytes) => Encoded::MessagePack(bytes),
    }
}

#[cfg(test)]
mod tests;
