//! The threads of `http.listen`: questions never stand in recording's way.
//!
//! On the runtime that serves producers, an acknowledgement would wait behind every question that is ready to run: with a
//! thousand of them at once its p99 went from a millisecond to more than a second (`make bench BENCH="--only dashboard"`).
//! Questions have a runtime of their own, and the operating system is asked to prefer every other thread to its threads.
//! Health, metrics and status on the local socket stay with the daemon's runtime: they must answer in a crowd.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::shutdown::Stage;

/// How much the operating system should prefer others: ten steps of niceness, a tenth of the weight.
const NICENESS: i32 = 10;
const WORKERS: usize = 2;

/// Serves HTTP until it is dropped.
pub(super) struct ControlPlane {
    runtime: Option<Runtime>,
}

impl ControlPlane {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system's, if there can be no more of them.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .thread_name("tallyd-http")
            .on_thread_start(|| {
                // Of this thread alone. Where it is refused, questions are as important as records.
                let _ = rustix::process::setpriority_process(None, NICENESS);
            })
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Serves `router` on these threads; `stage` hears of its end.
    ///
    /// # Errors
    /// The operating system's, if the listener cannot be handed over.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        stage: &mut Stage<std::io::Error>,
    ) -> std::io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let listener = listener.into_std()?;
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = runtime.spawn(async move { axum::serve(TcpListener::from_std(listener)?, router).await });
        stage.spawn("the HTTP listener", async move { serving.await.map_err(std::io::Error::other)? });
        Ok(())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Questions under way are cut off, as the process's end would.
            runtime.shutdown_background();
        }
    }
}
