//! Load slots: how many transactions load into one PostgreSQL at once, over all daemons.
//!
//! The rollups' rows are the same for everybody who loads: whoever has touched one of them keeps the others waiting until
//! its COMMIT. Lanes share the users, in every daemon in the same way: those of one number meet at the same rows, and others
//! hardly ever. So each number of a lane has slots of its own.
//! Many transactions at once share the processors, so each of them holds those rows for longer, and what stands in
//! line behind it is small batches, each with nearly as many rollup rows as a large one. So a batch takes a slot
//! first, and one that finds none goes on filling.
//!
//! A slot is a row of `tallyd_locks` that the transaction locks (`crate::locks` says why a row): it is asked for together with
//! BEGIN, without a round trip of its own, and ends with the transaction whatever becomes of it. It is best effort: a lane that
//! has waited for [`PATIENCE`]
//! loads without one, so that daemons which stopped in mid-transaction keep nobody for ever.

use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Begins a transaction whose COMMIT waits for the disk, whatever the server's default is: the log is trimmed after it. And
/// whatever the default isolation is, it adds to what is committed: under a stricter one lanes that meet in a rollup's row
/// would fail one another's batches, and one of them could for ever be the one that fails.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT set_config('synchronous_commit', \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)";

/// Transactions at once, over all lanes: enough for PostgreSQL to be busy while one waits for its disk.
const SLOTS: u16 = 4;
/// How long a lane looks for a slot before it loads without.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the next look, on average.
const PAUSE: Duration = Duration::from_millis(60);

/// Begins a transaction in a slot of this lane, one of so many. False if there is none at the moment: then no transaction has
/// begun.
///
/// # Errors
/// PostgreSQL's.
pub async fn begin(client: &Client, lane: u16, lanes: usize) -> Result<bool, Error> {
    let slots = (usize::from(SLOTS) / lanes).max(1);
    let first = lane * SLOTS;
    let sql = format!(
        "{BEGIN}; SELECT FROM public.tallyd_locks WHERE name = 'load' AND number >= {first} AND number < {first} + {slots} \
         LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    let answer = client.simple_query(&sql).await?;
    let has_slot = matches!(answer.last(), Some(SimpleQueryMessage::CommandComplete(rows)) if *rows > 0);
    if !has_slot {
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(has_slot)
}

/// How long to wait before the next look: not the same for all.
pub fn pause() -> Duration {
    PAUSE.mul_f64(rand::random_range(0.5..1.5))
}
