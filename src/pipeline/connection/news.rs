//! What a client is told beside its answers: where the budgets stand, once it has asked for that.
//!
//! Only the newest state counts. What is waited with is a version number, and the frame is shared by all connections.

use std::sync::Arc;

use tokio::sync::watch;

use crate::budgets::standing::Told;

/// A client's news.
pub(super) struct News {
    told: Option<watch::Receiver<Arc<Told>>>,
    is_asked: bool,
}

impl News {
    /// None ever.
    pub(super) const fn none() -> Self {
        Self { told: None, is_asked: false }
    }

    /// What comes after the state that the receiver has seen, once it is asked for.
    pub(super) const fn after(told: watch::Receiver<Arc<Told>>) -> Self {
        Self { told: Some(told), is_asked: false }
    }

    /// The client wants them from now on.
    pub(super) const fn ask(&mut self) {
        self.is_asked = true;
    }

    /// The newest, if there is one now.
    pub(super) fn take(&mut self) -> Option<Arc<Told>> {
        let told = self.told.as_mut().filter(|told| self.is_asked && told.has_changed().unwrap_or(false))?;
        Some(Arc::clone(&told.borrow_and_update()))
    }

    /// Waits for the next. Nothing is lost if that is given up.
    pub(super) async fn next(&mut self) -> Arc<Told> {
        loop {
            if let Some(told) = self.take() {
                return told;
            }
            let is_over = match &mut self.told {
                Some(told) if self.is_asked => told.changed().await.is_err(),
                _ => true,
            };
            if is_over {
                std::future::pending::<()>().await;
            }
            // `changed` has marked the state as seen.
            if let Some(told) = &self.told {
                return Arc::clone(&told.borrow());
            }
        }
    }
}
