//! Settings of a recorder, and its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tallyd_protocol::record::Text;
use tallyd_protocol::{AckMode, Record};

use super::Recorder;
use crate::own::Own;
use crate::queue::Queue;
use crate::ring::Ring;
use crate::rng::Rng;
use crate::sender::{Sender, Settings};
use crate::session::HelloOptions;
use crate::spool::{Drain, NotMade, Spool};
use crate::stats::{Notice, OnDrop, OnReject, Rejected, Shared};
use crate::{Endpoint, name};

/// Builds a [`Recorder`]. Every setting has a default that suits a server.
#[must_use]
pub struct Builder {
    settings: Settings,
    ring_capacity: usize,
    ring_bytes: usize,
    spool: Option<PathBuf>,
    spool_bytes: usize,
    drop_deadline: Duration,
    on_drop: Option<OnDrop>,
    on_reject: Option<OnReject>,
    quiet: bool,
    disabled: Option<bool>,
    refuses_unknown: bool,
}

impl Builder {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let settings = Settings {
            endpoint,
            hello: HelloOptions::new(""),
            own: Own { app: Text::Borrowed(""), tags: Vec::new() },
            window_bytes: 32 * 1024 * 1024,
            window_frames: 4096,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            fenced_backoff: Duration::from_secs(60),
            ack_timeout: Duration::from_secs(60),
        };
        Self {
            settings,
            ring_capacity: 16_384,
            ring_bytes: 64 * 1024 * 1024,
            spool: None,
            spool_bytes: 64 * 1024 * 1024,
            drop_deadline: Duration::from_secs(2),
            on_drop: None,
            on_reject: None,
            quiet: false,
            disabled: None,
            refuses_unknown: false,
        }
    }

    /// The application's name: the default of [`Record::app`], and the start of the default producer name.
    pub fn app(mut self, app: impl Into<Text>) -> Self {
        self.settings.own.app = app.into();
        self
    }

    /// A tag of every record that does not have it, such as `environment`.
    pub fn tag(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.settings.own.tags.push((name.into(), value.into()));
        self
    }

    /// A producer name, for people who look at dead letters. Default: `<app>@<host>-<pid>-<random>`; an empty name means
    /// the default. A random secret of each recorder keeps records apart, so two processes with one name lose nothing; the
    /// daemon warns both ([`crate::Stats::last_warning`]). A name beyond the protocol's bound is cut and gets a hash of the
    /// whole.
    pub fn producer(mut self, name: impl Into<String>) -> Self {
        self.settings.hello.producer = name.into();
        self
    }

    /// Records that the ring holds, at least 1. Default 16,384, at some 350 bytes each. The ring has to take the records of
    /// 20 ms, and those that do not fit the window while the daemon is away.
    pub fn ring_capacity(mut self, records: usize) -> Self {
        self.ring_capacity = records;
        self
    }

    /// Bytes of text that the ring's records may own, in addition to the records: metadata, ids, users. Default 64 MiB.
    /// Constant text does not count.
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Keeps records in a file in this folder until they are settled, instead of the ring. A SIGKILL of the process does not
    /// lose them: the next recorder with this folder, or one that runs, delivers them under this recorder's producer, exactly
    /// once. Processes may share the folder, on a local file system. Files are readable by their user alone.
    ///
    /// `record()` then encodes the record itself. If the file cannot be made, the ring is used: a line on standard error and
    /// [`crate::Stats::last_error`] say why. A producer name that was chosen gets a random end, because the producers of earlier
    /// processes may be connected at the same time.
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool = Some(folder.into());
        self
    }

    /// The spool file's room, allocated when the recorder is built. Default 64 MiB, some 300,000 records; at least 4 MiB. A full
    /// spool behaves like a full ring.
    pub fn spool_bytes(mut self, bytes: usize) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Encoded bytes that may wait for the daemon, in addition to the ring. Default 32 MiB, some 300,000 records. The bound
    /// is checked before a record is added, so one record may exceed it.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.settings.window_bytes = bytes.max(1);
        self
    }

    /// Frames that may wait for the daemon. Default 4096.
    pub fn window_frames(mut self, frames: usize) -> Self {
        self.settings.window_frames = frames.max(1);
        self
    }

    /// The pause after the first failed connection, and the bound up to which it doubles. Default 50 ms and 5 s.
    pub fn reconnect_backoff(mut self, min: Duration, max: Duration) -> Self {
        (self.settings.backoff_min, self.settings.backoff_max) = (min, max.max(min));
        self
    }

    /// The pause after another process has taken over this producer. Default 60 s.
    pub fn fenced_backoff(mut self, wait: Duration) -> Self {
        self.settings.fenced_backoff = wait;
        self
    }

    /// How long to wait for an overdue ack before reconnecting. Default 60 s.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.settings.ack_timeout = timeout;
        self
    }

    /// When the daemon acknowledges records: after the sync of its disk ([`AckMode::Durable`], the default), or after
    /// PostgreSQL's COMMIT, so that nothing acknowledged is lost with the daemon's disk. The daemon's own setting holds if it is
    /// stricter. Until the acknowledgement a record takes room in the window, so a COMMIT's time needs a larger one. A
    /// daemon before this option refuses [`AckMode::Committed`] as `malformed`.
    pub fn ack(mut self, ack: AckMode) -> Self {
        self.settings.hello.ack = ack;
        self
    }

    /// How long dropping the recorder may wait for the daemon. Default 2 s.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Gets every record that is not kept. Runs on the recording thread, or at the end on the sender's: keep it short.
    /// If it panics, the panic is caught, provided that the program unwinds.
    pub fn on_drop(mut self, callback: impl Fn(Record) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(callback));
        self
    }

    /// Gets every record that was refused. Runs on the sender thread: keep it short. If it panics, the panic is
    /// caught, provided that the program unwinds.
    pub fn on_reject(mut self, callback: impl Fn(Rejected) + Send + Sync + 'static) -> Self {
        self.on_reject = Some(Box::new(callback));
        self
    }

    /// Writes nothing to standard error. By default one line each is written for the first loss and the first refusal
    /// without a callback, the first failed connection and the first warning.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// A recorder that keeps nothing and opens nothing, for tests: `record()` returns true. Default: whether
    /// `TALLYD_DISABLED` is `1`, `true`, `yes` or `on`.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Whether [`Recorder::check`] refuses calls while the state of budgets is unknown. Default: it allows them.
    pub fn deny_unknown(mut self, deny: bool) -> Self {
        self.refuses_unknown = deny;
        self
    }

    /// Starts the sender thread. The daemon may start later.
    ///
    /// If the system gives no thread, the recorder keeps the records that fit its ring, and drops all others as a full
    /// ring does. [`crate::Stats::last_error`] then has the reason.
    pub fn build(mut self) -> Recorder {
        let mut rng = Rng::from_entropy();
        let own = self.settings.own.clone();
        self.settings.hello.producer = self.producer_name(&mut rng);
        let is_disabled = self.disabled.unwrap_or_else(is_switched_off);
        let (queue, trouble, drains) = self.queue(is_disabled);
        let shared = Arc::new(Shared::new(queue, self.on_drop, self.on_reject, self.quiet));
        let (drop_deadline, refuses_unknown) = (self.drop_deadline, self.refuses_unknown);
        if is_disabled {
            return Recorder { shared, thread: None, is_disabled, drop_deadline, own, refuses_unknown };
        }
        if let Some(text) = trouble {
            shared.notices.tell(Notice::Spool, format_args!("{text}"));
            shared.update(|control| control.last_error = Some(text));
        }
        if let Some(folder) = self.spool.as_ref().filter(|_| drains) {
            Drain::start(&shared, self.settings.endpoint.clone(), self.settings.hello.ack, folder);
        }
        let sender = Sender::new(Arc::clone(&shared), self.settings, rng);
        let thread = match thread::Builder::new().name("tallyd-sender".to_owned()).spawn(|| sender.run()) {
            Ok(handle) => Some(handle),
            Err(error) => {
                let text = format!("the sender thread could not be started: {error}");
                shared.update(|control| control.last_error = Some(text));
                None
            }
        };
        Recorder { shared, thread, is_disabled, drop_deadline, own, refuses_unknown }
    }

    fn producer_name(&self, rng: &mut Rng) -> String {
        match name::chosen_producer(&self.settings.hello.producer) {
            None => name::default_producer(&self.settings.own.app, rng),
            Some(chosen) if self.spool.is_none() => chosen,
            Some(chosen) => name::with_tail(chosen, &format!("-{:016x}", rng.next_u128() >> 64)),
        }
    }

    /// The ring or the spool; why the spool could not be made; whether the spools of earlier processes can be delivered.
    fn queue(&self, is_disabled: bool) -> (Queue, Option<String>, bool) {
        if is_disabled {
            return (Queue::Memory(Ring::new(1, 0)), None, false);
        }
        let ring = || Queue::Memory(Ring::new(self.ring_capacity, self.ring_bytes));
        let Some(folder) = &self.spool else { return (ring(), None, false) };
        match Spool::create(folder, self.spool_bytes, &self.settings.hello, self.settings.own.clone()) {
            Ok(spool) => (Queue::File(spool), None, true),
            Err(NotMade { error, is_ours }) => {
                let folder = folder.display();
                let why = format!("there is no spool in {folder}, so records are in memory alone: {error}");
                (ring(), Some(why), is_ours)
            }
        }
    }
}

/// Whether `TALLYD_DISABLED` means yes, as in the other clients.
fn is_switched_off() -> bool {
    let text = std::env::var("TALLYD_DISABLED").unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&text.trim().to_lowercase().as_str())
}
