//! A call while it is made. Its end determines its latency and its status.
//!
//! A call that ends early (an error that is passed on, a future that is dropped, a panic) may have been paid for all the
//! same. So a [`Call`] records when it is dropped, in any case except after [`Call::forget`].

use std::borrow::Borrow;
use std::time::Instant;

use tallyd_protocol::Record;
use tallyd_protocol::record::Text;

use crate::Recorder;

/// The status of a call that the application left before its answer: the client closed the request.
const LEFT: u16 = 499;

/// A paid call that is being made. Recorded when it is dropped, with the time since [`Call::begin`] as its latency.
///
/// ```no_run
/// # use tallyd_client::{Call, Endpoint, Record, Recorder};
/// # let recorder = Recorder::builder(Endpoint::unix("/run/tallyd/tallyd.sock")).build();
/// # fn ask() -> Result<u16, std::io::Error> { Ok(200) }
/// # fn value(recorder: &Recorder) -> Result<(), std::io::Error> {
/// let mut call = Call::begin(recorder, Record::rentcast("/v1/avm/value").user("u-42"));
/// let status = ask()?; // Recorded with status 499, if it fails here.
/// call.answered(status);
/// # Ok(())
/// # }
/// ```
#[must_use = "a call that is dropped at once is recorded as left"]
#[derive(Debug)]
pub struct Call<R: Borrow<Recorder>> {
    recorder: R,
    /// None once it was recorded or forgotten.
    record: Option<Record>,
    begun: Instant,
    is_answered: bool,
}

impl<R: Borrow<Recorder>> Call<R> {
    /// Begins a call. `record` has the fields known before the answer. The recorder may be a reference or an `Arc`.
    pub fn begin(recorder: R, record: Record) -> Self {
        Self { recorder, record: Some(record), begun: Instant::now(), is_answered: false }
    }

    /// Sets the answer's HTTP status. From 400 on, a request is not billed, so `requests` becomes 0.
    pub fn answered(&mut self, status: u16) {
        self.is_answered = true;
        if let Some(record) = &mut self.record {
            record.status = status;
            if status >= 400 {
                record.requests = 0;
            }
        }
    }

    /// Adds the usage of the answer: tokens, other units, service tier, a charge and metadata, and the model and provider if
    /// `used` names them. See [`crate::usage`].
    pub fn used(&mut self, used: Record) {
        let Some(record) = &mut self.record else { return };
        if !used.provider.is_empty() {
            record.provider = used.provider;
        }
        if !used.model.is_empty() {
            record.model = used.model;
        }
        record.input_tokens = used.input_tokens;
        record.output_tokens = used.output_tokens;
        record.cache_read_tokens = used.cache_read_tokens;
        record.cache_write_5m_tokens = used.cache_write_5m_tokens;
        record.cache_write_1h_tokens = used.cache_write_1h_tokens;
        record.extra_units = used.extra_units;
        record.service_tier = used.service_tier;
        // Without these a call that was not understood would be priced, and a charge by the vendor would be lost.
        if used.cost_usd.is_some() {
            record.cost_usd = used.cost_usd;
        }
        record.metadata = both(record.metadata.take(), used.metadata);
    }

    /// Changes other fields of the record.
    pub fn change(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    /// Records the call now. Returns whether the recorder took it.
    pub fn end(mut self) -> bool {
        self.settle()
    }

    /// Forgets the call, because it was not made.
    pub fn forget(mut self) {
        self.record = None;
    }

    fn settle(&mut self) -> bool {
        let Some(mut record) = self.record.take() else { return false };
        if !self.is_answered {
            record.status = LEFT;
        }
        // A longer call is recorded with the largest latency, seven weeks.
        let ms = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        record.latency_ms.get_or_insert(ms);
        self.recorder.borrow().record(record)
    }
}

/// Joins two JSON objects' texts. Their keys differ: the client itself chooses those of a vendor's answer.
fn both(own: Option<Text>, more: Option<Text>) -> Option<Text> {
    let (Some(first), Some(second)) = (own.as_deref(), more.as_deref()) else { return more.or(own) };
    match (first.trim().strip_suffix('}'), second.trim().strip_prefix('{')) {
        (Some("{"), Some(_)) | (None, _) => more,
        (_, Some("}") | None) => own,
        (Some(first), Some(second)) => Some(format!("{first},{second}").into()),
    }
}

impl<R: Borrow<Recorder>> Drop for Call<R> {
    fn drop(&mut self) {
        self.settle();
    }
}
