//! Records paid API calls to a tallyd daemon without ever blocking the caller.
//!
//! ```no_run
//! use tallyd_client::{Endpoint, Record, Recorder};
//!
//! let recorder = Recorder::builder(Endpoint::unix("/run/tallyd/tallyd.sock")).app("web").build();
//! recorder.record(Record::claude("claude-sonnet-4-20250514", 1200, 350).user("u-42"));
//! ```
//!
//! [`Call`] is a call while it is made: it records its latency and its status, however it ends. With the feature `usage` the module
//! `usage` reads what Anthropic's, OpenAI's and Gemini's answers say that was used, and makes records of answers that came another
//! way and of a batch's results.
//!
//! [`Recorder`] is what an application uses: one for the whole process, shared behind an `Arc`. [`Session`] is one
//! blocking connection for tools that bring their own sequence numbers, such as an importer.
//!
//! # How a record travels
//! ```text
//! record() -> ring (bounded, lock-free) -> sender thread: encode -> window (bounded, unacknowledged) -> socket
//!                                                  ^ resent after a reconnect      | forgotten once acknowledged
//! ```
//! * [`Recorder::record`] reads the clock and moves the record into the ring. It takes no lock, wakes nobody and
//!   allocates nothing: the sender looks at the ring by itself, every 0.5 ms under load and every 20 ms when idle.
//! * A record that finds the ring full is not waited for: it is counted and handed to the drop callback. Before a burst,
//!   [`Recorder::room`] waits.
//! * A record in the window stays there until the daemon has it on disk. After a reconnect the daemon says how far it
//!   got; what it has is forgotten, the rest goes out again, byte for byte.
//! * A record gets its sequence number when its frame is first written. So the numbers of a new process continue where
//!   the daemon says they ended, and numbers are never spent on frames that no daemon can have seen.
//!
//! # Budgets
//! [`Recorder::should_throttle_for`] says before a call whether a budget that it counts towards is used up: by what the daemon
//! said last, without the network. The daemon says it when the connection is made, and whenever it changes. What it said
//! 5 minutes ago holds nothing back any more: then the daemon is gone.
//!
//! # In tests
//! `TALLYD_DISABLED=1`, or [`Builder::disabled`]: nothing is kept and nothing is opened, and `record()` returns true.
//!
//! # What it does not do
//! It speaks to the daemon's socket and to TCP alone, not to HTTPS: from other hosts an OTLP exporter sends spans to the
//! daemon's `/v1/traces`, or a program posts records to `/api/v1/records`.
//!
//! It keeps nothing on disk: records that the daemon has not acknowledged die with the process. Dropping the
//! [`Recorder`] waits for them for a bounded time; [`Recorder::close`] says how many were left.
//!
//! # Fork
//! A child process has no sender thread. Build the [`Recorder`] after `fork`, or in each worker.

mod call;
mod clock;
mod endpoint;
mod inbox;
mod name;
mod recorder;
mod ring;
mod rng;
mod sender;
mod session;
mod stats;
mod sync;
#[cfg(feature = "usage")]
pub mod usage;

pub use call::Call;
pub use endpoint::Endpoint;
pub use recorder::{Builder, Recorder};
pub use session::{HelloOptions, Session, SessionError};
pub use stats::{FlushOutcome, Rejected, Stats};
pub use tallyd_protocol::{Ack, Budget, CallScope, Record, Rejection, Welcome};
