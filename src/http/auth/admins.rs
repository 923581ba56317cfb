//! Who of the issuer's users is an admin: whoever `app_metadata.role` calls one, or a row of `user_profiles` does.
//!
//! A signed claim is as old as its token, so it is held against the database where that has a say: a user whom `auth.users`
//! does not have any more, has banned, or no longer calls an admin is none, whatever the token says. The answer is
//! remembered for `auth.admin_ttl_ms`, so that is how long a demoted admin stays in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;

use super::Denied;
use tallyd_store::queries::admins::{UserStanding, standing};

/// Users who are remembered.
const USERS_MAX: usize = 1_024;

/// What is remembered.
pub(crate) struct Admins {
    ttl: Duration,
    standings: Mutex<HashMap<String, (Instant, UserStanding)>>,
}

impl Admins {
    /// Nobody is remembered yet.
    #[must_use]
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, standings: Mutex::default() }
    }

    /// Whether a user is an admin, given what their verified token says.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if only the database could tell, and it does not answer.
    pub(crate) async fn is_admin(&self, pool: Option<&Pool>, user: &str, says_admin: bool) -> Result<bool, Denied> {
        let standing = match self.remembered(user) {
            Some(standing) => Some(standing),
            None => self.ask(pool, user).await,
        };
        match standing {
            Some(standing) => Ok(standing.is_admin(says_admin)),
            // The issuer has signed it, and a database that is down must not lock the admins out of the status.
            None if says_admin => Ok(true),
            None => Err(Denied::Unavailable),
        }
    }

    async fn ask(&self, pool: Option<&Pool>, user: &str) -> Option<UserStanding> {
        let client = pool?.get().await.ok()?;
        let standing = match standing(&client, user).await {
            Ok(standing) => standing,
            Err(error) => {
                let error = tallyd_store::describe(&error);
                tracing::warn!(error, "whether a user is an admin could not be looked up");
                return None;
            }
        };
        let mut table = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= USERS_MAX {
            table.clear();
        }
        table.insert(user.to_owned(), (Instant::now(), standing));
        Some(standing)
    }

    fn remembered(&self, user: &str) -> Option<UserStanding> {
        let table = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, standing) = table.get(user)?;
        (at.elapsed() < self.ttl).then_some(*standing)
    }
}
