//! Kept handles of metrics, a struct for each stage.
//!
//! Handles are looked up once and kept. A call through the facade's macros costs ten times as much as a kept handle, and
//! the data plane counts every record.

pub mod names;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use self::names::NamedCounter;
use tallyd_base::registry as name;
use tallyd_intake::{Admission, Code};
use tallyd_model::call::{Call, Cost};
use tallyd_store::FailureClass;
use tallyd_store::load::transaction::Committed;

/// Counters of connections and requests.
#[derive(Clone)]
pub struct IngestMetrics {
    /// See [`name::RECORDS_RECEIVED`].
    pub received: Counter,
    /// See [`name::RECORDS_DUPLICATE`].
    pub duplicate: Counter,
    /// See [`name::RECORDS_UNPRICED`].
    unpriced: Counter,
    /// See [`name::NOT_UNDERSTOOD`].
    pub not_understood: Arc<NamedCounter>,
    /// See [`name::OTLP_PASSED_OVER`].
    pub passed_over: Arc<NamedCounter>,
    /// See [`name::STATED_COST_DIFFERS`].
    pub stated_cost_differs: Arc<NamedCounter>,
    refused: Vec<Counter>,
}

impl Default for IngestMetrics {
    fn default() -> Self {
        Self {
            received: counter!(name::RECORDS_RECEIVED),
            duplicate: counter!(name::RECORDS_DUPLICATE),
            unpriced: counter!(name::RECORDS_UNPRICED),
            not_understood: Arc::new(NamedCounter::new(name::NOT_UNDERSTOOD)),
            passed_over: Arc::new(NamedCounter::new(name::OTLP_PASSED_OVER)),
            stated_cost_differs: Arc::new(NamedCounter::new(name::STATED_COST_DIFFERS)),
            refused: Code::ALL.iter().map(|code| counter!(name::RECORDS_REFUSED, "code" => code.name())).collect(),
        }
    }
}

impl IngestMetrics {
    /// Counts an accepted call that is unusual: an unpriced one, one with unknown usage, or one whose stated cost
    /// differs from the catalog's. A usual call, priced by the catalog, costs one comparison.
    #[inline]
    pub fn accepted(&self, admission: &Admission<'_>, call: &Call<'_>) {
        if !matches!(call.cost, Cost::Catalog { .. }) {
            self.stands_out(admission, call);
        }
    }

    #[cold]
    fn stands_out(&self, admission: &Admission<'_>, call: &Call<'_>) {
        self.unpriced.increment(u64::from(call.cost.usd().is_none()));
        if let Some(name) = admission.not_understood(call) {
            self.not_understood.count(&name);
        }
        if admission.stated_cost_differs(call) {
            self.stated_cost_differs.count(&format!("{}/{}", call.provider, call.model));
        }
    }

    pub(crate) fn refused(&self, code: Code) {
        self.refused[code as usize].increment(1);
    }

    /// Counts a connection that is closed for a fault of its client. Rare, so the handle is looked up each time.
    pub(crate) fn protocol_error(&self, code: &'static str) {
        counter!(name::PROTOCOL_ERRORS, "code" => code).increment(1);
    }

    /// The gauge of open connections of a transport.
    pub(crate) fn connections(transport: &'static str) -> Gauge {
        gauge!(name::CONNECTIONS, "transport" => transport)
    }
}

/// One open connection in a gauge, for as long as this value lives. The task that serves a connection may return, be
/// aborted or panic: the gauge falls by one in each case.
pub struct OpenConnection(Gauge);

impl OpenConnection {
    /// Counts the connection.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counters of a lane.
pub struct FlushMetrics {
    committed: Counter,
    duplicate: Counter,
    refused: Counter,
    poison: Counter,
    counted: Counter,
    crowded: Counter,
    seconds: Histogram,
    batch_records: Histogram,
    hold: Gauge,
}

impl FlushMetrics {
    #[must_use]
    pub(crate) fn new(lane: u16) -> Self {
        Self {
            committed: counter!(name::RECORDS_COMMITTED),
            duplicate: counter!(name::RECORDS_DUPLICATE),
            refused: counter!(name::DEAD_LETTERS, "kind" => "refused"),
            poison: counter!(name::DEAD_LETTERS, "kind" => "poison"),
            counted: counter!(name::DEAD_LETTERS_COUNTED),
            crowded: counter!(name::FLUSH_CROWDED),
            seconds: histogram!(name::FLUSH_SECONDS),
            batch_records: histogram!(name::FLUSH_BATCH_RECORDS),
            hold: gauge!(name::FLUSH_HOLD, "lane" => lane.to_string()),
        }
    }

    pub(crate) fn committed(&self, took: Duration, committed: &Committed) {
        let Committed { records, refused, counted, poison, known, .. } = *committed;
        self.duplicate.increment(known);
        self.counted.increment(counted);
        self.committed.increment(records);
        self.refused.increment(refused);
        self.poison.increment(poison);
        self.seconds.record(took.as_secs_f64());
        self.batch_records.record((records + refused + poison) as f64);
    }

    /// Counts a batch that found no free load slot.
    pub(crate) fn crowded(&self) {
        self.crowded.increment(1);
    }

    /// Counts a failure of loading, or of the migration before it.
    pub fn failed(class: FailureClass) {
        counter!(name::FLUSH_FAILURES, "class" => class.name()).increment(1);
    }

    /// Begins all counters of lanes at 0, before there is a lane. With PostgreSQL down at the start there may be none
    /// for a long time, and an alert on a missing series does not fire.
    pub fn begin() {
        drop(Self::new(0));
        gauge!(name::DATABASE_UP).set(0.0);
        gauge!(name::OLDEST_UNFLUSHED_SECONDS).set(0.0);
        for class in FailureClass::ALL {
            drop(counter!(name::FLUSH_FAILURES, "class" => class.name()));
        }
    }

    /// Sets whether the lane is on hold.
    pub(crate) fn hold(&self, holds: bool) {
        self.hold.set(f64::from(u8::from(holds)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_panics_is_open_no_longer() {
        let count = Arc::new(AtomicU64::new(0));
        let open = || f64::from_bits(count.load(Ordering::SeqCst));
        let counted = OpenConnection::new(Gauge::from_arc(Arc::clone(&count)));
        assert_eq!(open().to_string(), "1");
        let task = tokio::spawn(async move {
            let _counted = counted;
            panic!("as a connection's task may");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert_eq!(open().to_string(), "0");
    }
}
