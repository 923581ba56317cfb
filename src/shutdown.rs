//! Tasks with names, and an end with a deadline: tasks that miss it are named.

use std::fmt::Display;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// The tasks of one stage.
pub(crate) struct Stage<E> {
    tasks: JoinSet<Result<(), E>>,
    names: Vec<(Id, String)>,
}

/// A task that failed.
#[derive(Debug, thiserror::Error)]
#[error("{task} failed: {reason}")]
pub(crate) struct TaskFailed {
    pub task: String,
    /// Its error, or its panic.
    pub reason: String,
}

impl<E: Display + Send + 'static> Default for Stage<E> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), names: Vec::new() }
    }
}

impl<E: Display + Send + 'static> Stage<E> {
    pub(crate) fn spawn(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn_on(&Handle::current(), name, task);
    }

    /// Starts a task on the given runtime.
    pub(crate) fn spawn_on(
        &mut self,
        runtime: &Handle,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let id = self.tasks.spawn_on(task, runtime).id();
        self.names.push((id, name.into()));
    }

    /// Waits for a task that fails. Never returns otherwise, even after all tasks have ended.
    pub(crate) async fn failure(&mut self) -> TaskFailed {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(ended) => {
                    if let Err(failed) = self.judge(ended) {
                        return failed;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all tasks have ended, at most until `deadline`; those that have not are stopped and named.
    ///
    /// # Errors
    /// The first [`TaskFailed`].
    pub(crate) async fn finish(mut self, deadline: Instant) -> Result<(), TaskFailed> {
        let mut first = Ok(());
        loop {
            match tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(None) => return first,
                Ok(Some(ended)) => {
                    let judged = self.judge(ended);
                    first = first.and(judged);
                }
                Err(_) => {
                    let hung: Vec<_> = self.names.iter().map(|(_, name)| name.as_str()).collect();
                    tracing::warn!(tasks = hung.join(", "), "stopped at the deadline");
                    self.tasks.abort_all();
                    return first;
                }
            }
        }
    }

    fn judge(&mut self, ended: Result<(Id, Result<(), E>), JoinError>) -> Result<(), TaskFailed> {
        let (id, reason) = match ended {
            Ok((id, Ok(()))) => (id, None),
            Ok((id, Err(error))) => (id, Some(error.to_string())),
            Err(error) => (error.id(), Some(panic_text(error))),
        };
        let at = self.names.iter().position(|(known, _)| *known == id);
        let task = at.map_or_else(|| "a task".into(), |at| self.names.swap_remove(at).1);
        reason.map_or(Ok(()), |reason| Err(TaskFailed { task, reason }))
    }
}

/// A panic's message.
fn panic_text(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".into() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}

/// A time that all stages share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[must_use]
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    #[must_use]
    pub(crate) const fn at(self) -> Instant {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_named_and_the_deadline_holds() {
        let mut stage = Stage::<String>::default();
        stage.spawn("good", async { Ok(()) });
        stage.spawn("bad", async { Err("no".to_owned()) });
        assert_eq!(stage.failure().await.to_string(), "bad failed: no");
        stage.spawn("panicking", async { panic!("ouch") });
        assert_eq!(stage.failure().await.to_string(), "panicking failed: it panicked: ouch");
        stage.spawn("hanging", std::future::pending());
        let start = Instant::now();
        stage.finish(Deadline::after(Duration::from_secs(3)).at()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
