//! Resources of the operating system: threads for `http.listen`, open files.
//!
//! API requests must not delay recording. On the runtime that serves producers, an acknowledgement would wait behind
//! every request that is ready to run. So API requests have a runtime of their own, and the operating system prefers
//! all other threads to its threads. `make bench BENCH="--only dashboard"` measures the effect of fifty dashboards on
//! acknowledgements. Health, metrics and status on the local socket stay on the daemon's runtime, because they must
//! answer under any load of API requests.
//!
//! Each connection is an open file. So are the WAL's segments, which need a descriptor at any time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the API's runtime.
const WORKERS: usize = 2;
/// Niceness of these threads: ten steps leave a tenth of the weight in a contest for a processor.
const NICENESS: i32 = 10;

/// The API's runtime. Dropping it aborts its tasks.
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

    pub(super) fn handle(&self) -> Handle {
        // Only `drop` takes it.
        self.0.as_ref().expect("the runtime is there until it is dropped").handle().clone()
    }
}

/// Sets the niceness of the calling thread alone. If the operating system refuses, API requests have the same priority
/// as records.
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

/// Numbers of connections that may be open at once.
pub(super) struct Connections {
    /// Producers' connections, on all listeners.
    pub producers: usize,
    /// Connections of the HTTP API.
    pub http: usize,
}

/// Raises the process's limit of open files to its maximum. Returns the numbers of connections that fit below it, at
/// most the wanted ones. The WAL would fail, and the daemon end, if connections took the last descriptor.
pub(super) fn connections(wanted: &Connections) -> Connections {
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be raised, the present limit counts.
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

/// Shares out this many open files. A reserve is kept for the rest, of half the files under a small limit; the API gets
/// at most a quarter of the remainder.
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
