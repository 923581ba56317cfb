//! Forgets a user: their calls stay, and nobody can tell any more whose they were.
//!
//! ## What becomes of it
//! | where the id stands | then |
//! |---|---|
//! | `api_usage_log` | `user_id` becomes `''`, as of calls that name nobody; `request_id` and `metadata` are emptied |
//! | `daily_user_api_costs`, `user_api_totals`, and their dropped sums | added to the sums of `''` |
//! | `dead_letters` | `user_id`, `request_id` and `metadata` leave the record; one that cannot be corrected is dropped |
//! | `api_budgets`, `api_alerts` | the user's budgets and alerts are deleted |
//! | `tallyd_audit_log` | changes of the user's budgets lose the id. Who changed something stays: an admin's deeds are not a user's data |
//!
//! No sum changes but the user's own and that of `''`: costs by day, provider and model are what they were. What the
//! application itself keeps (`auth.users`), backups, and segments of a write-ahead log that were set aside as damaged are not
//! touched.
//!
//! ## In steps (`rows`)
//! A step is one transaction that takes some of the user's calls out of the log, puts them back without their user, and
//! moves what they add up to from one key to the other, tables in the loader's order. So `reconcile` holds at every
//! instant, loading goes on, and there is no position to keep: what is left is what still has the user's id. Killed, the
//! same command goes on. Rows are deleted and inserted, never updated in their key: where tables are distributed by user, a
//! row cannot change its server in place.
//!
//! ## What is still on its way
//! A record may wait in a daemon's log, or at a client. So a mark of the user stays, not the id itself but its hash
//! (`marks`), and the hourly upkeep makes anonymous what has arrived since ([`sweep`]). Without the mark
//! (`keep_mark: false`), who comes back under the same id is counted as before.

/// Awaits a step within a transaction of its own, again while others are in the way. (A function would take a closure that
/// borrows, and the compiler could not tell that its future may go to another thread.)
macro_rules! persistent {
    ($client:expr, $step:expr) => {{
        let mut tries = 0;
        loop {
            $client.batch_execute("BEGIN").await?;
            let step = $step.await;
            match $crate::forget::end($client, step).await? {
                Some(done) => break done,
                None if tries < $crate::forget::TRIES => tries += 1,
                None => return Err($crate::forget::ForgetError::Busy),
            }
        }
    }};
}

mod elsewhere;
mod letters;
mod marks;
mod preview;
mod rows;

use serde::Serialize;
use tokio_postgres::Client;

use super::queries::audit::{self, Actor, Change};
use super::{FailureClass, classify};
pub use marks::sweep;
pub use preview::{Preview, preview};
pub(super) use rows::mend_times;

/// Records may arrive while the user is being forgotten. Who still finds some after so many rounds leaves them to the sweep.
const ROUNDS: u32 = 5;
/// A step is tried so often while others are in its way.
const TRIES: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Whom to forget.
#[derive(Debug, Clone, Copy)]
pub struct ForgetOptions<'a> {
    /// The id, as records have it. Not empty.
    pub user_id: &'a str,
    /// About how many calls one transaction takes.
    pub batch_calls: u32,
    /// Whether records that arrive later are made anonymous, too.
    pub keep_mark: bool,
    /// Who asks for it, for the record.
    pub by: Actor<'a>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Calls of the log.
    pub calls: u64,
    /// Calls that had been dropped from the log, and were in the dropped sums.
    pub dropped_calls: u64,
    /// Dead letters that were corrected.
    pub letters_corrected: u64,
    /// Dead letters that could not be corrected, and whose content was deleted.
    pub letters_dropped: u64,
    /// Budgets that were deleted.
    pub budgets: u64,
    /// Alerts that were deleted.
    pub alerts: u64,
    /// Entries of the audit log that lost the id.
    pub audit_entries: u64,
}

/// Why it stopped. What was committed before stays, and is whole.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// PostgreSQL failed.
    #[error("forgetting stopped: {}; run the same command again to go on", super::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The id is empty.
    #[error(
        "the user's id is empty: calls that name nobody have no one to forget. hint: `tallyd users list` shows the ids"
    )]
    NoUser,
    /// Records keep arriving.
    #[error(
        "records of this user keep arriving, so some are left. hint: stop what sends them and run the same command again; \
         with the mark that was kept, the daemons' hourly upkeep makes them anonymous, too"
    )]
    Arriving,
    /// Others kept being in the way.
    #[error("other transactions kept being in the way; run the same command again to go on")]
    Busy,
    /// The schema is not there, or somebody has removed a setting.
    #[error("tallyd_settings has no {0}. hint: run `tallyd migrate`")]
    Setting(&'static str),
}

/// Forgets the user. `report` is called after each committed step. Called again, it finds what is left.
///
/// # Errors
/// [`ForgetError`].
pub async fn forget(
    client: &Client,
    options: &ForgetOptions<'_>,
    mut report: impl FnMut(&Forgotten),
) -> Result<Forgotten, ForgetError> {
    if options.user_id.is_empty() {
        return Err(ForgetError::NoUser);
    }
    let mark = marks::mark(client, options.user_id).await?;
    persistent!(client, note(client, &mark, options));
    let mut done = Forgotten::default();
    letters::correct(client, &letters::Wanted::User(options.user_id), None, &mut done).await?;
    report(&done);
    elsewhere::remove(client, options.user_id, &mut done).await?;
    report(&done);
    forget_calls(client, options.user_id, options.batch_calls, &mut done, &mut report).await?;
    Ok(done)
}

/// Makes the user's calls anonymous: those of the log, and the sums of dropped ones.
async fn forget_calls(
    client: &Client,
    user: &str,
    batch_calls: u32,
    done: &mut Forgotten,
    report: &mut impl FnMut(&Forgotten),
) -> Result<(), ForgetError> {
    let columns = rows::Columns::read(client).await?;
    for _ in 0..ROUNDS {
        done.dropped_calls += persistent!(client, rows::move_dropped(client, user));
        for slice in rows::slices(client, user, batch_calls).await? {
            done.calls += persistent!(client, rows::move_slice(client, user, &columns, &slice));
            report(done);
        }
        if persistent!(client, rows::move_rest(client, user)) {
            return Ok(());
        }
    }
    Err(ForgetError::Arriving)
}

/// Notes who is forgotten by whom, without the id; and keeps the mark, if that is wanted.
async fn note(client: &Client, mark: &[u8], options: &ForgetOptions<'_>) -> Result<(), ForgetError> {
    if options.keep_mark {
        marks::keep(client, mark, options.by.name).await?;
    }
    let object = hex::encode(&mark[..8]);
    let new = Some(serde_json::json!({ "mark_kept": options.keep_mark }));
    let change = Change { new, ..options.by.change("user.forget", &object) };
    Ok(audit::write(client, &change).await?)
}

/// Ends a step's transaction. None if others were in its way, and it is to be tried again.
async fn end<T>(client: &Client, step: Result<T, ForgetError>) -> Result<Option<T>, ForgetError> {
    match step {
        Ok(done) => {
            client.batch_execute("COMMIT").await?;
            Ok(Some(done))
        }
        // A deadlock and the like: the session is whole, and the next try may succeed.
        Err(ForgetError::Database(error))
            if error.as_db_error().is_some() && classify(&error) == FailureClass::Serialization =>
        {
            client.batch_execute("ROLLBACK").await?;
            tokio::time::sleep(PAUSE).await;
            Ok(None)
        }
        Err(error) => {
            // The session may be what failed.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}
