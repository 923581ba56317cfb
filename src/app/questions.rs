//! Threads for `http.listen`: questions never stand in recording's way.
//!
//! On the runtime that serves producers, an acknowledgement would wait behind every question that is ready to run. So
//! questions have a runtime of their own, and the operating system is asked to prefer every other thread to its threads;
//! `make bench BENCH="--only dashboard"` measures what fifty dashboards do to acknowledgements. Health, metrics and status
//! on the local socket stay with the daemon's runtime: they must answer whatever is asked.

use tokio::runtime::{Builder, Handle, Runtime};

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
