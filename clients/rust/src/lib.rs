//! Records paid API calls to a tallyd daemon without ever blocking the caller.
//!
//! ```no_run
//! use tallyd_client::{Endpoint, Record, Recorder};
//!
//! let recorder = Recorder::builder(Endpoint::unix("/run/tallyd/tallyd.sock")).app("web").build();
//! recorder.record(Record::claude("claude-sonnet-4-20250514", 1200, 350).user("u-42"));
//! ```
//!
//! [`Call`] is a call while it is made: it records latency and status, however it ends. With the feature `usage`, the module
//! `usage` reads the usage in answers of Anthropic, OpenAI and Gemini. It also makes records from answers that came another
//! way, and from a batch's results.
//!
//! [`Recorder`] is for applications: one for the whole process, shared behind an `Arc`. [`Session`] is one blocking
//! connection for tools that have sequence numbers of their own, such as an importer.
//!
//! # How a record travels
//! ```text
//! record() -> ring (bounded, lock-free) -> sender thread: encode -> window (bounded, unacknowledged) -> socket
//!                                                  ^ resent after a reconnect      | forgotten once acknowledged
//! ```
//! * [`Recorder::record`] reads the clock and moves the record into the ring. It takes no lock, wakes no thread and
//!   allocates nothing: the sender polls the ring, every 0.5 ms under load and every 20 ms when idle.
//! * If the ring is full, `record` does not wait: the record is counted and goes to the drop callback. Before a burst,
//!   [`Recorder::room`] waits.
//! * A record stays in the window until the daemon has it on disk. After a reconnect the daemon sends its last durable
//!   number. Records up to it are forgotten; the others are sent again, byte for byte.
//! * A record gets its sequence number when its frame is first written. So a new process continues the daemon's numbers,
//!   and a frame that no daemon can have seen uses none.
//!
//! # Budgets
//! [`Recorder::check`] decides before a call whether its budgets allow it: a hard budget that is used up, or has less left
//! than the call's estimate, refuses it. It answers from the daemon's last message, without the network. The daemon sends one
//! when the connection is made and at each change. A message counts for 5 minutes; after that the daemon is gone, the state
//! is unknown, and a setting allows or refuses calls.
//!
//! # In tests
//! `TALLYD_DISABLED=1`, or [`Builder::disabled`]: nothing is kept and nothing is opened, and `record()` returns true.
//!
//! # Limits
//! The client uses the daemon's Unix socket or TCP, not HTTPS. From other hosts, an OTLP exporter can send spans to the
//! daemon's `/v1/traces`, or a program can post records to `/api/v1/records`.
//!
//! Without a spool it keeps nothing on disk: records that the daemon has not acknowledged are lost with the process. Dropping
//! the [`Recorder`] waits for them for a bounded time; [`Recorder::close`] returns the number that is left.
//!
//! # The spool
//! With [`Builder::spool`] the ring is a file in a folder. A record that `record()` has taken survives a SIGKILL of the process,
//! and the next recorder with this folder delivers it, exactly once. Nothing is synced: a loss of power can cost records.
//!
//! # Fork
//! A child process has no sender thread. Build the [`Recorder`] after `fork`, or in each worker.

mod call;
mod clock;
mod endpoint;
mod inbox;
mod name;
mod own;
mod queue;
mod recorder;
mod ring;
mod rng;
mod sender;
mod session;
mod spool;
mod stats;
mod sync;
#[cfg(feature = "usage")]
pub mod usage;

pub use call::Call;
pub use endpoint::Endpoint;
pub use recorder::{Builder, Recorder};
pub use session::{HelloOptions, Session, SessionError};
pub use stats::{FlushOutcome, Rejected, Stats};
pub use tallyd_protocol::{Ack, AckMode, Budget, BudgetExceeded, CallScope, Decision, Record, Rejection, Welcome};
