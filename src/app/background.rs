//! Periodic tasks beside the data plane.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tallyd_protocol::budgets::REPEATED;

use crate::http::Daemon;
use crate::http::auth::tokens::POLL;
use crate::metrics::UPKEEP_INTERVAL;
use crate::shutdown::Stage;
use tallyd_base::registry;
use tallyd_pipeline::tls::{self, ListenerTls};
use tallyd_store::describe;

const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn spawn(daemon: &Arc<Daemon>, certificates: Vec<Arc<ListenerTls>>) -> Stage<Infallible> {
    let mut stage = Stage::default();
    if !certificates.is_empty() {
        stage.spawn("certificates", renew_certificates(certificates));
    }
    let shown = Arc::clone(daemon);
    stage.spawn("gauges", async move {
        loop {
            show(&shown);
            tallyd_base::failpoint::hit("background.gauges");
            tokio::time::sleep(GAUGES_INTERVAL).await;
        }
    });
    let renderer = daemon.metrics.clone();
    stage.spawn("metrics upkeep", async move {
        loop {
            renderer.run_upkeep();
            tokio::time::sleep(UPKEEP_INTERVAL).await;
        }
    });
    let shown = Arc::clone(daemon);
    stage.spawn("tokens", async move {
        loop {
            renew_tokens(&shown).await;
            tokio::time::sleep(POLL).await;
        }
    });
    let shown = Arc::clone(daemon);
    stage.spawn("budgets told again", async move {
        loop {
            tokio::time::sleep(REPEATED).await;
            let ingest = shown.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if let Some(ingest) = ingest {
                ingest.budgets.repeat(crate::http::parameters::local_now(&shown).date_naive());
            }
        }
    });
    stage
}

/// Takes over certificates that have changed on the disk.
async fn renew_certificates(certificates: Vec<Arc<ListenerTls>>) -> Result<(), Infallible> {
    loop {
        tokio::time::sleep(tls::LOOK).await;
        let some = certificates.clone();
        // A panic there was reported by the panic hook; the certificates of before stay in use.
        let _ = tokio::task::spawn_blocking(move || some.iter().for_each(|one| one.renew())).await;
    }
}

/// Renews the daemon's copies of the static tokens and of the page's sessions. While the database is down the last
/// copies stay in force.
async fn renew_tokens(daemon: &Daemon) {
    let Some(loading) = daemon.loading.get() else { return };
    if !*loading.flusher.migrated.borrow() {
        return;
    }
    let Ok(client) = loading.pool.get().await else { return };
    if let Err(error) = daemon.auth.tokens.renew(&client).await {
        tracing::debug!(error = describe(&error), "the static tokens could not be renewed");
    }
    if let Err(error) = daemon.auth.sessions.renew(&client).await {
        tracing::debug!(error = describe(&error), "the page's sessions could not be renewed");
    }
}

fn show(daemon: &Daemon) {
    let set = |name: &'static str, value: f64| gauge!(name).set(value);
    set(registry::WAL_BYTES, daemon.wal.value_bytes() as f64);
    set(registry::WAL_SEGMENTS, daemon.wal.segment_count() as f64);
    set(registry::WAL_UNFLUSHED_RECORDS, daemon.wal.unflushed_records() as f64);
    set(registry::RECORDS_UNCOMMITTED, daemon.wal.commits.waiting_records() as f64);
    let identities = daemon.writer.window.status();
    set(registry::IDENTITIES, identities.known as f64);
    ::metrics::counter!(registry::IDENTITIES_FORGOTTEN).absolute(identities.forgotten_early);
    set(registry::WAL_FULL, f64::from(u8::from(daemon.writer.full().is_some())));
    set(registry::DEAD_LETTERS_USED, daemon.quota.used_ratio(daemon.clock.now_us()));
    set(registry::WAL_DAMAGED, f64::from(u8::from(crate::http::is_damaged(daemon))));
    set(registry::OLDEST_UNFLUSHED_SECONDS, daemon.oldest_unflushed().as_secs_f64());
    let context = daemon.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(age) = context.as_ref().and_then(|context| context.budgets.age()) {
        set(registry::BUDGETS_AGE_SECONDS, age.as_secs_f64());
    }
    drop(context);
    let ingest = daemon.chunk_sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    set(registry::CHANNEL_BYTES, ingest.as_ref().map_or(0, |ingest| ingest.waiting_bytes()) as f64);
}
