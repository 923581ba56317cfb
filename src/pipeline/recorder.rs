//! Recording from within the process: for programs that have tallyd built in.
//!
//! A record goes the same way as one from a socket: it is encoded as the protocol has it, decoded, validated, priced,
//! and put into the same channel. There is one path to keep right.

use std::sync::Arc;

use tallyd_protocol::Record;
use uuid::Uuid;

use super::connection::Shared;
use tallyd_intake::{Admission, Encoded, Refusal};
use tallyd_model::pricing::Usd;
use tallyd_wal::channel::{Closed, Origin};
use tallyd_wal::chunk::{Bundle, BundleBuilder};
use tallyd_wal::identity::Identity;

/// Records into the running daemon's channel. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    origin: Arc<Origin>,
}

/// What became of a record that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The call's id.
    pub id: Uuid,
    /// What it cost; none if no price is known.
    pub cost_usd: Option<Usd>,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record is outside the bounds.
    #[error("the record was refused: {} ({})", .0.message, .0.code.name())]
    Refused(Refusal),
    /// The channel is full: the log cannot keep up, or is at one of its bounds.
    #[error("the channel to the write-ahead log is full")]
    Full,
    /// The daemon is stopping.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl Recorder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, origin: Origin::new(Identity::nobody()) }
    }

    /// Hands the record over without waiting. It is durable within milliseconds; [`Recorder::record_durable`] says when.
    ///
    /// # Errors
    /// [`RecordError`]; the record was not taken.
    pub fn record(&self, record: &Record) -> Result<(), RecordError> {
        let (bundle, _) = self.encode(record)?;
        self.shared.ingest.try_submit(&self.origin, bundle).map_err(|_| match self.origin.closed() {
            Some(closed) => RecordError::Closed(closed),
            None => RecordError::Full,
        })
    }

    /// Hands the record over and waits until it is durable.
    ///
    /// # Errors
    /// [`RecordError`]; after [`RecordError::Closed`] the record may or may not have been stored.
    pub async fn record_durable(&self, record: &Record) -> Result<Receipt, RecordError> {
        let (bundle, receipt) = self.encode(record)?;
        // An origin of its own: durability is counted an origin.
        let origin = Origin::new(Identity::nobody());
        self.shared.ingest.submit(&origin, bundle).await?;
        origin.wait_durable(1).await?;
        Ok(receipt)
    }

    fn encode(&self, record: &Record) -> Result<(Bundle, Receipt), RecordError> {
        let mut bytes = Vec::with_capacity(256);
        tallyd_protocol::record::write(&mut bytes, record);
        let shared = &self.shared;
        let catalog = shared.catalog.load();
        let admission = Admission { rules: &shared.rules, catalog: &catalog, now_us: shared.clock.now_us() };
        shared.metrics.received.increment(1);
        admission.admit(Encoded::MessagePack(&bytes), |admitted| {
            let call = admitted.map_err(|refusal| {
                shared.metrics.refused(refusal.code);
                RecordError::Refused(refusal)
            })?;
            let receipt = Receipt { id: Uuid::from_bytes(call.id), cost_usd: call.cost.usd() };
            shared.metrics.accepted(&admission, call);
            let mut builder = BundleBuilder::new(shared.lanes);
            builder.push_call(0, call);
            // One call was pushed, so there is a bundle.
            let bundle = builder.finish().expect("a bundle of one call");
            Ok((bundle, receipt))
        })
    }
}
