//! Resources of the operating system: threads for `http.listen`, open files.
//!
//! Questions never stand in recording's way. On the runtime that serves producers, an acknowledgement would wait behind every question
//! that is ready to run. So questions have a runtime of their own, and the operating system is asked to prefer every other thread to its
//! threads; `make bench BENCH="--only dashboard"` measures the effect of fifty dashboards on acknowledgements. Health, metrics and status
//! on the local socket stay with the daemon's runtime: they must answer under any load of questions.
//!
//! Each connection is an open file, and so are the WAL's segments, which must never go without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the questions' runtime.
const WORKERS: usize = 2;
/// How much every other thread is preferred: ten steps of niceness leave a tenth of the weight in a contest for a processor.
const NICENESS: i32 = 10;

/// A runtime of its own. Its tasks are cut off when it is dropped.
pub(super) struct Questions(Option<Runtime>);

impl Questions {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system's, if there can be no more threads.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .thread_name("tallyd-http")
            .on_thread_start(after_others)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where its tasks are started.
    pub(super) fn handle(&self) -> Handle {
        // Taken in `drop` alone.
        self.0.as_ref().expect("the runtime is there until it is dropped").handle().clone()
    }
}

/// Sets the niceness of the calling thread alone. Where the system refuses that, questions count as much as records.
fn after_others() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

impl Drop for Questions {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Open files of everything but connections: stores, PostgreSQL, the runtime.
const RESERVE: u64 = 256;

/// How many connections may be open at once.
pub(super) struct Connections {
    /// Of producers, on all listeners.
    pub producers: usize,
    /// Of the HTTP API.
    pub http: usize,
}

/// Raises the process's limit as far as it may, and says how many connections fit below it, at most as many as are
/// wanted. The WAL would fail, and the daemon end, if connections took the last descriptor.
pub(super) fn connections(wanted: &Connections) -> Connections {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the limit stays what it is.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let fit = share(wanted, current.unwrap_or(u64::MAX));
    if fit.producers < wanted.producers || fit.http < wanted.http {
        tracing::warn!(
            connections = fit.producers,
            max_connections = wanted.producers,
            http_connections = fit.http,
            http_max_connections = wanted.http,
            files = current,
            "fewer connections than configured fit below the limit of open files (ulimit -n); more wait"
        );
    }
    fit
}

/// Shares out this many open files: a reserve for the rest, half of it under a small limit; a quarter of
/// the remainder at most for the API.
fn share(wanted: &Connections, files: u64) -> Connections {
    let room = files - RESERVE.min(files.div_ceil(2));
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let http = wanted.http.min(room / 4).max(1);
    Connections { producers: wanted.producers.min(room.saturating_sub(http)).max(1), http }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_always_has_some() {
        for (files, producers, http) in
            [(u64::MAX, 16_384, 512), (20_000, 16_384, 512), (1_024, 576, 192), (256, 96, 32), (0, 1, 1)]
        {
            let fit = share(&Connections { producers: 16_384, http: 512 }, files);
            assert_eq!((fit.producers, fit.http), (producers, http), "{files} files");
        }
    }
}
