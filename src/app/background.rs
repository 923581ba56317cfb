//! What runs beside the data plane, every so often.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tallyd_protocol::budgets::REPEATED;

use crate::http::View;
use crate::http::auth::tokens::POLL;
use crate::metrics::UPKEEP_INTERVAL;
use crate::shutdown::Stage;
use tallyd_base::registry;
use tallyd_store::describe;
use tallyd_store::queries::page_sessions;

const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the background tasks.
pub(super) fn spawn(view: &Arc<View>) -> Stage<Infallible> {
    let mut stage = Stage::default();
    let shown = Arc::clone(view);
    stage.spawn("gauges", async move {
        loop {
            show(&shown);
            tallyd_base::failpoint::hit("background.gauges");
            tokio::time::sleep(GAUGES_INTERVAL).await;
        }
    });
    let renderer = view.metrics.clone();
    stage.spawn("metrics upkeep", async move {
        loop {
            renderer.run_upkeep();
            tokio::time::sleep(UPKEEP_INTERVAL).await;
        }
    });
    let shown = Arc::clone(view);
    stage.spawn("tokens", async move {
        loop {
            renew_tokens(&shown).await;
            tokio::time::sleep(POLL).await;
        }
    });
    let shown = Arc::clone(view);
    stage.spawn("budgets told again", async move {
        loop {
            tokio::time::sleep(REPEATED).await;
            let intake = shown.intake.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if let Some(intake) = intake {
                intake.budgets.repeat(crate::http::parameters::local_now(&shown).date_naive());
            }
        }
    });
    stage
}

/// Renews the daemon's copies of the static tokens and of the page's sessions. While the database is down the last ones stay in force.
async fn renew_tokens(view: &View) {
    let Some(loading) = view.loading.get() else { return };
    if !*loading.flusher.migrated.borrow() {
        return;
    }
    let Ok(client) = loading.pool.get().await else { return };
    if let Err(error) = view.auth.tokens.renew(&client).await {
        tracing::debug!(error = describe(&error), "the static tokens could not be renewed");
    }
    match page_sessions::in_force(&client).await {
        Ok(sessions) => view.auth.sessions.replace(sessions),
        Err(error) => tracing::debug!(error = describe(&error), "the page's sessions could not be renewed"),
    }
}

fn show(view: &View) {
    let set = |name: &'static str, value: f64| gauge!(name).set(value);
    set(registry::WAL_BYTES, view.log.value_bytes() as f64);
    set(registry::WAL_SEGMENTS, view.log.segment_count() as f64);
    set(registry::WAL_UNFLUSHED_RECORDS, view.log.unflushed_records() as f64);
    let identities = view.writer.window.status();
    set(registry::IDENTITIES, identities.known as f64);
    ::metrics::counter!(registry::IDENTITIES_FORGOTTEN).absolute(identities.forgotten_early);
    set(registry::WAL_FULL, f64::from(u8::from(view.writer.full().is_some())));
    set(registry::DEAD_LETTERS_USED, view.quota.used_ratio(view.clock.now_us()));
    set(registry::WAL_DAMAGED, f64::from(u8::from(crate::http::is_damaged(view))));
    set(registry::OLDEST_UNFLUSHED_SECONDS, view.oldest_unflushed().as_secs_f64());
    let ingest = view.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    set(registry::CHANNEL_BYTES, ingest.as_ref().map_or(0, |ingest| ingest.waiting_bytes()) as f64);
}
