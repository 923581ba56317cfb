//! Load slots: a bound on the transactions that load into one PostgreSQL at once, over all daemons.
//!
//! All loaders update the same rollup rows. A transaction that has updated one of them keeps the others waiting until
//! its COMMIT. Users are hashed to lanes, in every daemon in the same way: lanes of one number meet at the same rows,
//! lanes of different numbers hardly ever. So each lane number has slots of its own.
//!
//! Many transactions at once share the processors, so each holds its rows for longer. Small batches then queue behind
//! it, each with nearly as many rollup rows as a large one. So a batch takes a slot first; without a free slot it goes
//! on filling.
//!
//! A slot is a row of `tallyd_locks` that the transaction locks (`crate::locks` says why a row). It is requested
//! together with BEGIN, without a round trip of its own, and ends with the transaction however that ends. Slots are
//! best effort: a lane that has waited for [`PATIENCE`] loads without one, so that daemons stopped in mid-transaction
//! do not block others for ever.

use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Begins a transaction whose COMMIT waits for the disk, regardless of the server's default, because the WAL is trimmed
/// after it. The isolation level is fixed, too: under a stricter default, lanes that meet in a rollup row would fail
/// one another's batches, and one lane could fail for ever.
///
/// On Citus the transaction uses one connection to each node. By default a COPY opens one for each shard, and COMMIT
/// prepares as many transactions: a batch of 200 calls took twice the time. Elsewhere nothing reads that setting.
///
/// A daemon's machine can vanish in mid-transaction, without a word to the server. By Linux's defaults the server would
/// look for it after two hours, and until then other daemons would wait for the rollup rows of that transaction. It looks
/// after half a minute instead. On a Unix socket, where the kernel tells at once, the three settings do nothing.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT set_config('synchronous_commit', \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true), \
     set_config('citus.multi_shard_modify_mode', 'sequential', true), set_config('tcp_keepalives_idle', '30', true), \
     set_config('tcp_keepalives_interval', '10', true), set_config('tcp_keepalives_count', '3', true)";

/// Transactions at once, over all lane numbers: enough for PostgreSQL to be busy while one waits for its disk. Each lane
/// number has at least one.
const SLOTS: u16 = 4;
/// How long a lane tries to get a slot before it loads without one.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The mean pause between two tries.
const PAUSE: Duration = Duration::from_millis(60);

/// Begins a transaction in a slot of this lane, one of `lanes`. Returns false if no slot is free: then no transaction
/// has begun.
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

/// The pause before the next try, with jitter.
pub fn pause() -> Duration {
    PAUSE.mul_f64(rand::random_range(0.5..1.5))
}
