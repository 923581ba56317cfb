//! Turns: how many transactions load into one PostgreSQL at once, over all daemons.
//!
//! The rollups' rows are the same for everybody who loads: whoever has touched one of them keeps the others waiting until
//! its COMMIT. Lanes share the users, in every daemon in the same way: those of one number meet at the same rows, and others
//! hardly ever. So each number of a lane has turns of its own.
//! Many transactions at once share the processors, so each of them holds those rows for longer, and what stands in
//! line behind it is small batches, each with nearly as many rollup rows as a large one. So a batch takes a turn
//! first, and one that finds none goes on filling.
//!
//! A turn is a row of `tallyd_locks` that the transaction locks (`database/locks.rs` says why a row): it is asked for together with
//! BEGIN, without a round trip of its own, and ends with the transaction whatever becomes of it. It is a courtesy, nothing rests on it: a lane that has waited for [`PATIENCE`]
//! loads without one, so that daemons which stopped in mid-transaction keep nobody for ever.

use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::transaction::BEGIN;

/// Transactions at once, over all lanes: enough for PostgreSQL to be busy while one waits for its disk.
const TURNS: u16 = 4;
/// How long a lane looks for a turn before it loads without.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the next look, on average.
const PAUSE: Duration = Duration::from_millis(60);

/// Begins a transaction in a turn of this lane, one of so many. False if there is none at the moment: then no transaction has
/// begun.
///
/// # Errors
/// PostgreSQL's.
pub async fn begin(client: &Client, lane: u16, lanes: usize) -> Result<bool, Error> {
    let turns = (usize::from(TURNS) / lanes).max(1);
    let first = lane * TURNS;
    let sql = format!(
        "{BEGIN}; SELECT FROM public.tallyd_locks WHERE name = 'load' AND number >= {first} AND number < {first} + {turns} \
         LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    let answer = client.simple_query(&sql).await?;
    let has_turn = matches!(answer.last(), Some(SimpleQueryMessage::CommandComplete(rows)) if *rows > 0);
    if !has_turn {
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(has_turn)
}

/// How long to wait before the next look: not the same for all.
pub fn pause() -> Duration {
    PAUSE.mul_f64(rand::random_range(0.5..1.5))
}
