//! The queries of the HTTP API and the command line, and their few changes, with all of their SQL.
//!
//! Costs are read from the rollups. Only requests for dimensions that no rollup has (single calls, users' models) read
//! the call log, over a bounded range. Each answer is read in one snapshot ([`Reading`]), so that its parts agree. Its
//! statement timeout is local to the transaction and does not stay in a pooled session.

pub mod accounts;
pub mod admins;
pub mod audit;
pub mod bounds;
pub mod budgets;
pub mod change;
pub mod costs;
mod dearest;
pub mod focus;
pub mod grouped;
pub mod history;
pub mod latency;
pub mod movers;
pub mod names;
pub mod page_sessions;
pub mod prices;
pub mod records;
pub mod sums;
pub mod tokens;
pub mod users;

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// A parameter and its type: statements are unnamed, so that poolers may share sessions.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The pool did not give a session.
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError),
    /// PostgreSQL failed.
    #[error("{}", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// A read-only snapshot with a time limit for each statement. Dropped unfinished, it closes its session.
pub struct Reading {
    session: Option<Object>,
}

impl Reading {
    /// Begins the transaction.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn begin(pool: &Pool, timeout: Duration) -> Result<Self, QueryError> {
        let reading = Self { session: Some(pool.get().await?) };
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}; SET LOCAL jit = off",
            timeout.as_millis()
        );
        reading.batch_execute(&begin).await?;
        Ok(reading)
    }

    /// Ends the transaction and returns the session to the pool.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn finish(mut self) -> Result<(), QueryError> {
        self.batch_execute("COMMIT").await?;
        drop(self.session.take());
        Ok(())
    }
}

impl Deref for Reading {
    type Target = Client;

    fn deref(&self) -> &Client {
        // Only the two functions that own `self` take it, at the end.
        self.session.as_ref().expect("a reading has its session until it ends")
    }
}

impl Drop for Reading {
    /// A session in the middle of a transaction must not go back to the pool.
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(Object::take(session));
        }
    }
}

/// A LIKE pattern that finds `text` anywhere, with LIKE's own characters taken literally.
#[must_use]
pub fn containing(text: &str) -> String {
    format!("%{}", beginning(text))
}

/// A pattern that finds what begins with `text`.
#[must_use]
pub fn beginning(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::{beginning, containing};

    #[test]
    fn a_pattern_takes_text_literally() {
        assert_eq!(containing("a_b%c\\"), "%a\\_b\\%c\\\\%");
        assert_eq!(beginning("a_"), "a\\_%");
    }
}
