//! Threads for what must not stand in recording's way.
//!
//! Connections and their acknowledgements have the daemon's own runtime to themselves. A lane that encodes a batch, and a
//! crowd of questions, are each milliseconds of work that an acknowledgement on the same thread would wait for: with a
//! thousand questions at once its p99 went from one millisecond to more than a second. So loading and questions have a
//! runtime each, and the operating system is asked to prefer other threads to theirs. `make bench` measures both (`ack`,
//! `dashboard`). Health, metrics and status on the local socket stay with connections: they must answer in a crowd.

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own. Its tasks are cut off when it is dropped.
pub(super) struct Plane(Option<Runtime>);

impl Plane {
    /// Threads that load batches: one a lane, and one for what is beside them.
    ///
    /// # Errors
    /// The operating system's, if there can be no more threads.
    pub(super) fn loading(lanes: u16) -> std::io::Result<Self> {
        Self::start("tallyd-load", usize::from(lanes) + 1, 5)
    }

    /// Threads that answer questions.
    ///
    /// # Errors
    /// The operating system's, if there can be no more threads.
    pub(super) fn questions() -> std::io::Result<Self> {
        Self::start("tallyd-http", 2, 10)
    }

    /// `niceness` of 5 leaves a third of the weight in a contest for a processor, 10 a tenth.
    fn start(name: &str, workers: usize, niceness: i32) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .thread_name(name)
            .on_thread_start(move || {
                // Of the calling thread alone. Where it is refused, it is as important as the others.
                let _ = rustix::process::setpriority_process(None, niceness);
            })
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where its tasks are started.
    pub(super) fn handle(&self) -> Handle {
        // Taken in `drop` alone.
        self.0.as_ref().expect("a plane has its runtime until it is dropped").handle().clone()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
