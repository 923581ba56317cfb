//! Merges the users' deltas, beside the lanes ([`tallyd_store::user_deltas`]).
//!
//! The cost of a merge depends on the number of users with deltas, not on the number of calls. So the task lets deltas
//! accumulate, and merges for a third of the time at most: after a merge it rests for twice the merge's time. The
//! faster deltas come, the more of them each merge adds up by user. Each daemon on a database has this task; one merges
//! at a time, and the ring in the database records the last turn.
//!
//! | bound | effect |
//! |---|---|
//! | [`AGE`] since the ring turned, or [`ROWS`] on a side | a merge is due |
//! | [`ROWS_HURRY`] | the task does not rest, and the list of users waits |
//! | [`ROWS_MAX`] | lanes wait ([`DeltasState::is_full`]) |
//!
//! After a merge the list of users is refreshed ([`tallyd_store::user_list`]), which takes a fifth of the time at most. Between refreshes
//! requests for the list say how old it is, or correct it themselves. Once a day a roll lowers the bounds of costs by which ranges of days
//! are searched ([`user_list::roll`]).
//!
//! A failed merge is tried again; until then the deltas are safe, and count where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use tokio_util::sync::CancellationToken;

use super::Flusher;
use tallyd_base::{failpoint, registry};
use tallyd_store::user_deltas::{self, Waiting};
use tallyd_store::user_list;
use tallyd_store::{Connection, describe};

/// How often the task checks.
const TICK: Duration = Duration::from_secs(1);
/// The longest time that deltas wait for a merge, however few there are.
const AGE: Duration = Duration::from_secs(10);
/// Deltas from which on a merge is due before that: 300 MB.
const ROWS: u64 = 2_000_000;
/// Deltas from which on merges follow one another without a rest.
const ROWS_HURRY: u64 = 8_000_000;
/// Deltas from which on lanes wait: some 2.4 GB.
const ROWS_MAX: u64 = 16_000_000;
/// The rest after a merge, in times of the merge's duration.
const REST: u32 = 2;
/// The rest after a refresh of the list of users, in times of the refresh's duration.
const LIST_REST: u32 = 4;

/// How often the task checks whether a new day has begun.
const ROLL: Duration = Duration::from_secs(60);

/// The number of unmerged deltas at the task's last check.
#[derive(Debug, Default)]
pub struct DeltasState {
    rows: AtomicU64,
}

impl DeltasState {
    /// True if no more may be appended.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= ROWS_MAX
    }
}

/// The task that merges.
pub struct Merging {
    /// The lanes, which wait for a merge at the bound.
    pub flusher: Arc<Flusher>,
}

/// The task's state between two checks.
struct Past {
    /// Since when there have always been unmerged deltas.
    waiting_since: Option<Instant>,
    /// No merge before this instant, unless in a hurry.
    rests_until: Instant,
    /// No refresh of the list of users before this instant.
    list_rests_until: Instant,
    /// No roll before this instant.
    roll_rests_until: Instant,
    /// The last roll has left bounds that are too large.
    rolls_again: bool,
    last_error: String,
}

impl Merging {
    /// Merges until told to stop. The remaining deltas are merged after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut migrated = self.flusher.migrated.clone();
        tokio::select! {
            ready = migrated.wait_for(|migrated| *migrated) => if ready.is_err() { return },
            () = stop.cancelled() => return,
        }
        counter!(registry::MERGE_FAILURES).increment(0);
        let mut past = Past {
            waiting_since: None,
            rests_until: Instant::now(),
            list_rests_until: Instant::now(),
            roll_rests_until: Instant::now(),
            rolls_again: false,
            last_error: String::new(),
        };
        loop {
            let error = tokio::select! {
                error = self.work(&mut past) => error,
                () = stop.cancelled() => return,
            };
            counter!(registry::MERGE_FAILURES).increment(1);
            if error != past.last_error {
                tracing::warn!(error, "the users' deltas are merged later; they count where they are");
                past.last_error = error;
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Checks and merges until something fails. Returns the error as text.
    async fn work(&self, past: &mut Past) -> String {
        let session = match self.flusher.database.connect("tallyd deltas").await {
            Ok(session) => session,
            Err(error) => return error.to_string(),
        };
        loop {
            match self.look(&session, past).await {
                Ok(()) => past.last_error.clear(),
                Err(error) => return error,
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn look(&self, session: &Connection, past: &mut Past) -> Result<(), String> {
        let said = |error: tokio_postgres::Error| describe(&error);
        let waiting = self.show(session, past).await.map_err(said)?;
        if is_due(&waiting, Instant::now() < past.rests_until) {
            let merging = self.merge(past.rests_until);
            past.rests_until = self.showing(session, past, merging).await?;
            self.show(session, past).await.map_err(said)?;
        }
        // A refresh keeps merges waiting.
        let may_refresh = waiting.rows < ROWS_HURRY && Instant::now() >= past.list_rests_until;
        if may_refresh && user_list::is_due(session).await.map_err(said)? {
            past.list_rests_until = self.showing(session, past, self.refresh()).await?;
        }
        if waiting.rows < ROWS_HURRY && Instant::now() >= past.roll_rests_until {
            let start = Instant::now();
            past.rolls_again = self.showing(session, past, self.roll(past.rolls_again)).await?;
            past.roll_rests_until = Instant::now() + ROLL.max(start.elapsed() * LIST_REST);
        }
        waiting.index(session).await.map_err(said)
    }

    /// Does `work` on another session, and keeps counting meanwhile: lanes load, and need the number of deltas. A count may
    /// wait behind a lock that waits for `work`, so `work` goes on while it waits.
    async fn showing<T>(
        &self,
        session: &Connection,
        past: &mut Past,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut work = std::pin::pin!(work);
        loop {
            let count = async {
                tokio::time::sleep(TICK).await;
                self.show(session, past).await
            };
            tokio::select! {
                done = &mut work => return done,
                counted = count => { counted.map_err(|error| describe(&error))?; }
            }
        }
    }

    /// Merges on a session of its own. Returns the end of the rest.
    async fn merge(&self, rests_until: Instant) -> Result<Instant, String> {
        let session = self.flusher.database.connect("tallyd merge").await.map_err(|error| error.to_string())?;
        let Some(merged) = user_deltas::merge(&session).await.map_err(|error| describe(&error))? else {
            return Ok(rests_until);
        };
        tracing::debug!(rows = merged.rows, ms = merged.took.as_millis() as u64, "users' deltas are merged");
        histogram!(registry::MERGE_SECONDS).record(merged.took.as_secs_f64());
        counter!(registry::MERGED_ROWS).increment(merged.rows);
        Ok(Instant::now() + merged.took * REST)
    }

    /// Refreshes the list of users on a session of its own. Returns the end of the rest.
    async fn refresh(&self) -> Result<Instant, String> {
        let session = self.flusher.database.connect("tallyd list").await.map_err(|error| error.to_string())?;
        let took = user_list::refresh(&session).await.map_err(|error| describe(&error))?.unwrap_or_default();
        tracing::debug!(ms = took.as_millis() as u64, "the list of users is refreshed");
        Ok(Instant::now() + took * LIST_REST)
    }

    /// Rolls the bounds of costs on a session of its own. Returns whether to do it again.
    async fn roll(&self, again: bool) -> Result<bool, String> {
        let session = self.flusher.database.connect("tallyd list").await.map_err(|error| error.to_string())?;
        user_list::roll(&session, again).await.map_err(|error| describe(&error))
    }

    /// Reads the number of deltas, and publishes it for lanes and metrics.
    async fn show(&self, session: &Connection, past: &mut Past) -> Result<Waiting, tokio_postgres::Error> {
        let waiting = user_deltas::look(session).await?;
        let rows = if waiting.any { waiting.rows } else { 0 };
        let rows = failpoint::hit("merge.rows").map_or(rows, i64::unsigned_abs);
        self.flusher.deltas.rows.store(rows, Ordering::Relaxed);
        past.waiting_since = past.waiting_since.filter(|_| waiting.any).or_else(|| waiting.any.then(Instant::now));
        let age = past.waiting_since.map_or(Duration::ZERO, |since| since.elapsed().min(waiting.merged_ago));
        gauge!(registry::USER_DELTAS_ROWS).set(rows as f64);
        gauge!(registry::USER_DELTAS_AGE_SECONDS).set(age.as_secs_f64());
        Ok(waiting)
    }
}

fn is_due(waiting: &Waiting, rests: bool) -> bool {
    if failpoint::hit("merge.due").is_some() {
        return waiting.any;
    }
    waiting.any && (waiting.rows >= ROWS_HURRY || !rests && (waiting.rows >= ROWS || waiting.turned_ago >= AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_due_by_age_or_rows_and_rests_unless_there_are_very_many() {
        let waiting =
            |rows, secs| Waiting { rows, any: rows > 0, turned_ago: Duration::from_secs(secs), ..Waiting::default() };
        for (rows, secs, rests, due) in [
            (0, 3_600, false, false),
            (1, 9, false, false),
            (1, 10, false, true),
            (1, 10, true, false),
            (ROWS, 0, false, true),
            (ROWS, 60, true, false),
            (ROWS_HURRY, 0, true, true),
        ] {
            assert_eq!(is_due(&waiting(rows, secs), rests), due, "{rows} {secs} {rests}");
        }
        let state = DeltasState::default();
        state.rows.store(ROWS_MAX - 1, Ordering::Relaxed);
        assert!(!state.is_full());
        state.rows.store(ROWS_MAX, Ordering::Relaxed);
        assert!(state.is_full());
    }
}
