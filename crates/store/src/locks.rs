//! Locks that one transaction at a time holds, over all daemons and commands.
//!
//! A lock is a row of `tallyd_locks`, taken with FOR UPDATE until the transaction ends. It is not an advisory lock, because every
//! login of the database can take those, and loading would wait for a stranger: a row is locked only by roles that may change
//! the table. Nothing is written to the rows.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// What a transaction does that must be alone in doing it. The names are those of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Takes over older tables.
    Adopt,
    /// Evaluates budgets.
    Budgets,
    /// Changes the base of the users' rollups: [`crate::user_deltas`].
    Merge,
    /// Counts refused records.
    Refusals,
    /// Looks for calls by their ids and acts on what is there: loads damaged or foreign segments, retries dead letters, drops doubles.
    Replay,
    /// Drops partitions.
    Retention,
    /// Builds indexes and closes tables.
    Upkeep,
}

impl Lock {
    fn select(self) -> String {
        let name = match self {
            Self::Adopt => "adopt",
            Self::Budgets => "budgets",
            Self::Merge => "merge",
            Self::Refusals => "refusals",
            Self::Replay => "replay",
            Self::Retention => "retention",
            Self::Upkeep => "upkeep",
        };
        format!("SELECT FROM public.tallyd_locks WHERE name = '{name}' FOR UPDATE")
    }

    /// Takes the lock until the transaction ends, and waits for it.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn wait(self, client: &Client) -> Result<(), Error> {
        client.batch_execute(&self.select()).await
    }

    /// Takes the lock until the transaction ends; false if another transaction has it.
    ///
    /// It is a simple query, whose snapshot ends with it: that of an extended one stays with its portal, and an index that is built
    /// concurrently would wait for it for ever.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn try_take(self, client: &Client) -> Result<bool, Error> {
        let answer = client.simple_query(&format!("{} SKIP LOCKED", self.select())).await?;
        Ok(matches!(answer.last(), Some(SimpleQueryMessage::CommandComplete(1))))
    }
}
