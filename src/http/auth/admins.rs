//! Decides which of the issuer's users are admins: those with `app_metadata.role`, or with a row in `user_profiles`.
//!
//! A signed claim is as old as its token, so it is compared with `auth.users`, if that table exists. A user who is
//! deleted or banned there is not an admin. One who has lost the role there is an admin only by `user_profiles`. The
//! answer is cached for `auth.admin_ttl_ms`, so a demoted admin stays in for that long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;

use super::Denied;
use tallyd_store::queries::admins::{UserStanding, standing};

/// The most cached users; a full cache is emptied.
const USERS_MAX: usize = 1_024;

/// The cache.
pub(crate) struct Admins {
    ttl: Duration,
    standings: Mutex<HashMap<String, (Instant, UserStanding)>>,
}

impl Admins {
    #[must_use]
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, standings: Mutex::default() }
    }

    /// Whether a user is an admin. `says_admin`: the verified token says so.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if the token does not say so, and the database does not answer.
    pub(crate) async fn is_admin(&self, pool: Option<&Pool>, user: &str, says_admin: bool) -> Result<bool, Denied> {
        let standing = match self.remembered(user) {
            Some(standing) => Some(standing),
            None => self.ask(pool, user).await,
        };
        match standing {
            Some(standing) => Ok(standing.is_admin(says_admin)),
            // The claim is signed, and a database that is down must not lock admins out of the status.
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
