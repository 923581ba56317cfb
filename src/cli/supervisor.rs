//! What systemd is told (`Type=notify`): that records are accepted, that the daemon is alive, that it ends. Any other
//! supervisor sets no `NOTIFY_SOCKET`, and nothing is said.
//!
//! The watchdog is fed from the runtime that serves producers: a daemon whose threads hang is started anew. A log's
//! writer that dies ends the daemon by itself.

use std::time::Duration;

use sd_notify::NotifyState;

/// Records are accepted.
pub(super) fn ready() {
    say(&[NotifyState::Ready, NotifyState::Status("records are accepted")]);
}

/// What has been received is being made durable and loaded.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("loading what was received")]);
}

/// Feeds the watchdog at twice the rate that it asks for, for ever; returns at once if there is none.
pub(super) async fn feed() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        say(&[NotifyState::Watchdog]);
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor at NOTIFY_SOCKET was not told");
    }
}
