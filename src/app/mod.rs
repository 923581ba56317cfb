//! The wiring: builds the stages, owns their handles, ends them in order.
//!
//! ## Start
//! 1. the lock of the data folder;
//! 2. the WAL: recovery, then the writer's thread;
//! 3. the listeners. Records are accepted from here on, within milliseconds, whether the database is there or not;
//! 4. the database, found or started; its schema; the lanes.
//!
//! ## End
//! At SIGTERM or SIGINT:
//!
//! 1. the listeners stop; requests and frames that were received whole are made durable and answered;
//! 2. the writer drains the channel and seals its segment;
//! 3. the lanes load the rest until the deadline; the remaining records load at the next start;
//! 4. the private PostgreSQL stops.
//!
//! A stage that fails ends the daemon with an error, so that a daemon without one of its parts acknowledges nothing.

mod background;
mod build;
mod dimensions;
mod loading;
mod presence;
mod price_sync;
mod resources;
mod session_samples;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::http::Daemon;
use crate::lock::{DataLock, LockError};
use crate::shutdown::{Deadline, Stage, TaskFailed};
pub(crate) use build::rules;
use loading::{Live, LoadingError};
use tallyd_config::Config;
use tallyd_pipeline::connection;
use tallyd_pipeline::listener::BindError;
use tallyd_pipeline::tls::TlsError;
use tallyd_wal::WalError;
use tallyd_wal::writer::WriterState;

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Another process holds the data folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The WAL failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A socket could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate of the network listeners is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The price catalog is not usable.
    #[error(transparent)]
    Catalog(#[from] tallyd_model::pricing::CatalogError),
    /// The database is not usable.
    #[error(transparent)]
    Loading(#[from] LoadingError),
    /// A task ended unexpectedly.
    #[error(transparent)]
    Task(#[from] TaskFailed),
    /// A thread could not be started.
    #[error("the operating system gives no thread: {0}; raise the limit on processes (ulimit -u, TasksMax)")]
    Threads(String),
    /// The metrics' recorder could not be installed.
    #[error("the metrics recorder could not be installed: {0}")]
    Metrics(String),
}

/// Options of one start, which are not settings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StartOptions {
    /// Loads on top of a database that was restored to an earlier state.
    pub accept_rewound_database: bool,
}

pub(crate) struct App {
    config: Arc<Config>,
    options: StartOptions,
    /// Held until the very end.
    _lock: DataLock,
    context: Arc<connection::IngestContext>,
    daemon: Arc<Daemon>,
    writer: WriterThread,
    stop_listening: CancellationToken,
    stop_loading: CancellationToken,
    listeners: Stage<std::convert::Infallible>,
    http: Stage<std::io::Error>,
    background: Stage<std::convert::Infallible>,
    questions: resources::Questions,
}

struct WriterThread {
    ended: oneshot::Receiver<Result<(), WalError>>,
    state: Arc<WriterState>,
}

impl App {
    /// Starts accepting records. They are loaded once [`App::run`] has the database.
    ///
    /// # Errors
    /// [`AppError`].
    pub(crate) async fn start(config: Config, options: StartOptions) -> Result<Self, AppError> {
        build::start(Arc::new(config), options).await
    }

    /// Runs until `stop` resolves or a stage fails, then ends the stages in order.
    ///
    /// # Errors
    /// [`AppError`] if a stage failed; every acknowledged record is on disk even then.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), AppError> {
        tokio::pin!(stop);
        let mut lanes = Stage::<WalError>::default();
        let outcome = {
            let stop_loading = self.stop_loading.clone();
            let live = Live { catalog: Arc::clone(&self.context.catalog), budgets: Arc::clone(&self.context.budgets) };
            let accept_rewound = self.options.accept_rewound_database;
            let opening = loading::open(&self.config, accept_rewound, &live, &self.daemon, stop_loading, &mut lanes);
            tokio::select! {
                opened = opening => match opened {
                    Ok(()) => Ok(true),
                    Err(error) => Err(error.into()),
                },
                () = &mut stop => Ok(false),
                failed = self.listeners.failure() => Err(failed.into()),
                ended = &mut self.writer.ended => Err(writer_error(ended)),
            }
        };
        let outcome = match outcome {
            Ok(true) => tokio::select! {
                () = &mut stop => Ok(()),
                failed = lanes.failure() => Err(failed.into()),
                failed = self.listeners.failure() => Err(failed.into()),
                failed = self.background.failure() => Err(failed.into()),
                failed = self.http.failure() => Err(failed.into()),
                ended = &mut self.writer.ended => Err(writer_error(ended)),
            },
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "the daemon ends");
        }
        let ended = self.end(lanes).await;
        outcome.and(ended)
    }

    async fn end(self, lanes: Stage<WalError>) -> Result<(), AppError> {
        let deadline = Deadline::after(self.config.shutdown.deadline);
        tracing::info!("stopping: received records are made durable");
        self.daemon.accepting.store(false, Ordering::Relaxed);
        self.stop_listening.cancel();
        let listening = self.listeners.finish(deadline.at()).await;
        // The writer ends once the last sender is dropped: those of connections, of requests under way, and these
        // three.
        drop(self.context);
        self.daemon.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        self.daemon.chunk_sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let written = end_writer(self.writer, deadline).await;
        self.stop_loading.cancel();
        let loaded = lanes.finish(deadline.at()).await;
        drop(self.background);
        drop(self.http);
        drop(self.questions);
        if let Some(loading) = self.daemon.loading.get() {
            let committed = loading.flusher.committed();
            self.daemon.wal.trim(&loading.flusher.cleared(), &committed, 0)?;
            self.daemon.wal.note_committed(&committed)?;
            loading.pool.close();
            tallyd_store::Database::clone(&loading.database).close().await;
        }
        // A leftover socket would only hinder the next start.
        let _ = std::fs::remove_file(&self.daemon.socket);
        let unflushed = self.daemon.wal.unflushed_records();
        if unflushed > 0 {
            tracing::warn!(records = unflushed, "stopped; these records are in the WAL and load at the next start");
        } else {
            tracing::info!("stopped; every record is in PostgreSQL");
        }
        listening?;
        loaded?;
        written
    }
}

fn writer_error(ended: Result<Result<(), WalError>, oneshot::error::RecvError>) -> AppError {
    match ended {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => TaskFailed { task: "the WAL's writer".into(), reason: "it ended by itself".into() }.into(),
        Err(_) => TaskFailed { task: "the WAL's writer".into(), reason: "its thread panicked".into() }.into(),
    }
}

async fn end_writer(writer: WriterThread, deadline: Deadline) -> Result<(), AppError> {
    if writer.ended.is_terminated() {
        // The writer has already ended, and its result is the reason for the daemon's end.
        return Ok(());
    }
    let state = Arc::clone(&writer.state);
    let mut ended = writer.ended;
    let ended = match tokio::time::timeout_at(deadline.at(), &mut ended).await {
        Ok(ended) => ended,
        Err(_) => {
            // The writer waits for room. It has not acknowledged the chunks that remain in the channel.
            state.abandon();
            ended.await
        }
    };
    match ended {
        Ok(Ok(())) => Ok(()),
        other => Err(writer_error(other)),
    }
}

/// The exit code for a daemon that ended with this outcome.
#[must_use]
pub(crate) fn exit_code(outcome: &Result<(), AppError>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(AppError::Lock(LockError::Held { .. })) => 3,
        Err(_) => 1,
    }
}
