//! Locks that one transaction at a time has, over all daemons and commands.
//!
//! A lock is a row of `tallyd_locks`, taken with FOR UPDATE until the transaction ends. It is not an advisory lock,
//! because every login of the database can take those and thereby stop loading. Only roles that may change the table
//! can lock a row. The rows are never updated.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Operations that run one at a time. The names are those of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Takes over older tables.
    Adopt,
    /// Evaluates budgets.
    Budgets,
    /// Adds to the record of closed vendor-days.
    Closings,
    /// Changes the base of the users' rollups: [`crate::user_deltas`].
    Merge,
    /// Counts refused records.
    Refusals,
    /// Looks calls up by id and acts on the result: loads damaged or foreign segments, retries dead letters, drops
    /// duplicates.
    Replay,
    /// Drops partitions.
    Retention,
    /// Evaluates alert rules, and writes reports.
    Rules,
    /// Builds indexes and closes tables.
    Upkeep,
}

impl Lock {
    fn select(self) -> String {
        let name = match self {
            Self::Adopt => "adopt",
            Self::Budgets => "budgets",
            Self::Closings => "closings",
            Self::Merge => "merge",
            Self::Refusals => "refusals",
            Self::Replay => "replay",
            Self::Retention => "retention",
            Self::Rules => "rules",
            Self::Upkeep => "upkeep",
        };
        format!("SELECT FROM public.tallyd_locks WHERE name = '{name}' FOR UPDATE")
    }

    /// Waits for the lock, which lasts until the transaction ends.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn wait(self, client: &Client) -> Result<(), Error> {
        client.batch_execute(&self.select()).await
    }

    /// Takes the lock until the transaction ends. Returns false if another transaction has it.
    ///
    /// It is a simple query, whose snapshot ends with it. An extended query's snapshot stays with its portal, and a
    /// concurrent build of an index would wait for it for ever.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn try_take(self, client: &Client) -> Result<bool, Error> {
        let answer = client.simple_query(&format!("{} SKIP LOCKED", self.select())).await?;
        Ok(matches!(answer.last(), Some(SimpleQueryMessage::CommandComplete(1))))
    }
}
