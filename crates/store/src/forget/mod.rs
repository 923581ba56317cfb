//! Forgets a user: their calls stay, anonymised.
//!
//! ## Results
//! | place of the id | result |
//! |---|---|
//! | `api_usage_log` | `user_id` becomes `''`, as in calls without a user; `request_id` and `metadata` are emptied; of the tags, dimensions stay |
//! | tags whose value is the user's id | leave the call; their sums in `daily_dimension_costs` are added to those without the tag |
//! | `daily_user_api_costs`, `user_api_totals`, and their dropped sums | added to the sums of `''` |
//! | `tallyd_user_list` | the row is deleted |
//! | `dead_letters` | `user_id`, `request_id`, `metadata` and `tags` leave the record; one that cannot be corrected is dropped |
//! | `api_budgets`, `tallyd_alert_rules`, `api_alerts` | the user's budgets, rules and alerts are deleted; reports that name the user keep their headline |
//! | `tallyd_units` | units of a value that is the user's id are added to those without the value |
//! | `tallyd_audit_log` | changes of the user's budgets and rules lose the id; those of units never have it. Authors of changes stay: an admin's actions are not a user's data |
//!
//! The only sums that change are the user's own and those of `''`: costs by day, provider and model stay the same. The
//! application's own tables (`auth.users`), backups, and WAL segments that were set aside as damaged are not touched.
//!
//! ## Steps (`rows`)
//! A step is one transaction. It takes some of the user's calls out of the call log, inserts them again without their
//! user, and moves their sums from one key to the other, tables in the loader's order. So `reconcile` holds at every
//! instant, and loading goes on. There is no position to keep: the remaining calls are those with the user's id. After
//! a kill the same command goes on. Rows are deleted and inserted, never updated in their key: in tables distributed by
//! user, a row cannot change its node in place.
//!
//! ## Late records
//! A record may wait in a daemon's WAL, or at a client. So a mark of the user stays, a hash of the id (`marks`), and
//! the hourly upkeep anonymises late calls ([`sweep`]). Without the mark (`keep_mark: false`), a user who returns under
//! the same id is counted as before.

mod elsewhere;
mod letters;
mod marks;
mod preview;
mod rows;

use serde::Serialize;
use tokio_postgres::Client;

use super::queries::audit::{self, Actor, Change};
use super::retry::{may_pass, persistently};
pub use marks::sweep;
pub use preview::{ForgetPreview, preview};
pub(super) use rows::mend_times;

/// Records may arrive while the user is being forgotten. After this number of rounds the sweep has to find the rest.
const ROUNDS: u32 = 5;

/// The user to forget, and the extent.
#[derive(Debug, Clone, Copy)]
pub struct ForgetOptions<'a> {
    /// The id, as records have it. Not empty.
    pub user_id: &'a str,
    /// Approximate number of calls per transaction.
    pub batch_calls: u32,
    /// True if later records are anonymised, too.
    pub keep_mark: bool,
    /// The author, for the audit log.
    pub by: Actor<'a>,
}

/// Totals of forgetting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Calls in the call log.
    pub calls: u64,
    /// Calls in the dropped sums.
    pub dropped_calls: u64,
    /// Dead letters that were corrected.
    pub letters_corrected: u64,
    /// Dead letters that could not be corrected, and whose content was deleted.
    pub letters_dropped: u64,
    /// Budgets and alert rules that were deleted.
    pub budgets: u64,
    /// Alerts that were deleted, and reports that lost the id.
    pub alerts: u64,
    /// Entries of the audit log that lost the id.
    pub audit_entries: u64,
}

/// Why forgetting stopped. Committed steps stay, and are complete.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// PostgreSQL failed.
    #[error("forgetting stopped: {}; run the same command again to go on", super::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The id is empty.
    #[error(
        "the user's id is empty: calls without a user cannot be forgotten. hint: `tallyd users list` shows the ids"
    )]
    NoUser,
    /// Records keep arriving.
    #[error(
        "records of this user keep arriving, so some are left. hint: stop the senders and run the same command again; \
         with the mark that was kept, the daemons' hourly upkeep makes them anonymous, too"
    )]
    Arriving,
    /// Other transactions blocked every try.
    #[error("other transactions kept being in the way; run the same command again to go on")]
    Busy,
    /// The schema is missing, or somebody has removed a setting.
    #[error("tallyd_settings has no {0}. hint: run `tallyd migrate`")]
    Setting(&'static str),
}

/// Forgets the user. `report` is called after each committed step. Another call finds the rest.
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
    step(client, || note(client, &mark, options)).await?;
    let mut done = Forgotten::default();
    letters::correct(client, &letters::Wanted::User(options.user_id), None, &mut done).await?;
    report(&done);
    elsewhere::remove(client, options.user_id, &mut done).await?;
    report(&done);
    forget_calls(client, options.user_id, options.batch_calls, &mut done, &mut report).await?;
    Ok(done)
}

/// Anonymises the user's calls: those in the call log, and the sums of dropped ones.
async fn forget_calls(
    client: &Client,
    user: &str,
    batch_calls: u32,
    done: &mut Forgotten,
    report: &mut impl FnMut(&Forgotten),
) -> Result<(), ForgetError> {
    let columns = rows::Columns::read(client).await?;
    for _ in 0..ROUNDS {
        done.dropped_calls += step(client, || rows::move_dropped(client, user)).await?;
        for slice in rows::slices(client, user, batch_calls).await? {
            done.calls += step(client, || rows::move_slice(client, user, &columns, &slice)).await?;
            report(done);
        }
        if step(client, || rows::move_rest(client, user)).await? {
            return Ok(());
        }
    }
    Err(ForgetError::Arriving)
}

/// Writes an audit entry without the id, and keeps the mark on request.
async fn note(client: &Client, mark: &[u8], options: &ForgetOptions<'_>) -> Result<(), ForgetError> {
    if options.keep_mark {
        marks::keep(client, mark, options.by.name).await?;
    }
    let object = hex::encode(&mark[..8]);
    let new = Some(serde_json::json!({ "mark_kept": options.keep_mark }));
    let change = Change { new, ..options.by.change("user.forget", &object) };
    Ok(audit::write(client, &change).await?)
}

/// Does a step in a transaction of its own, with retries while others block it.
async fn step<T, W: Future<Output = Result<T, ForgetError>>>(
    client: &Client,
    work: impl Fn() -> W,
) -> Result<T, ForgetError> {
    let passes = |error: &ForgetError| matches!(error, ForgetError::Database(error) if may_pass(error));
    persistently(client, passes, work).await?.ok_or(ForgetError::Busy)
}
