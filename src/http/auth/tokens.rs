//! Static tokens, as this daemon knows them: a copy of `tallyd_tokens` that is renewed every second.
//!
//! With the copy a token works for recording while the database is down, and a revoked one is refused within a second
//! or two. Before the first copy, no token is refused as unknown: the answer is [`Denied::Unavailable`].
//!
//! A token that is newer than the copy is looked up in the database, so that it works as soon as it is made. Numbers
//! only grow, so a number up to the copy's highest is not looked up. [`LOOK_UP_EVERY`] bounds the rate of look-ups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Transaction};

use super::{Denied, Role};
use crate::http::Daemon;
use tallyd_base::clock::Clock;
use tallyd_config::StatedCosts;
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::tokens::{NewToken, StoredToken, TokenError, create, in_force, one_in_force};

/// The first characters of a token. Secret scanners can look for them, and no JWT begins so.
pub(crate) const TOKEN_PREFIX: &str = "tallyd_";
/// How often the copy is renewed.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// The least time between two look-ups, so that unknown tokens do not load the database.
const LOOK_UP_EVERY: Duration = Duration::from_millis(20);
/// The most look-ups under way or waiting; further tokens are unknown until the next copy.
const LOOK_UPS_MAX: usize = 8;
/// The longest time for a look-up.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(2);
/// The most that a new token's number may exceed the highest known one.
const NUMBERS_AHEAD: i32 = 1_000;
const SECRET_CHARS: usize = 64;

/// A token's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// As in the audit log.
    pub actor: String,
    pub role: Role,
    /// The token's own limit on stated costs, if it has one.
    pub costs: Option<StatedCosts>,
}

pub(crate) struct StaticTokens {
    by_id: ArcSwapOption<HashMap<i32, StoredToken>>,
    /// When a token was last looked up. Locked during a renewal and during each change of the copy, so that a renewal
    /// that was read before a change does not undo it. A request that changes it gives its connection back first: a
    /// look-up holds the lock while it waits for one.
    looked_up: tokio::sync::Mutex<Option<Instant>>,
    look_ups: Semaphore,
    clock: Arc<dyn Clock>,
}

impl StaticTokens {
    #[must_use]
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            by_id: ArcSwapOption::empty(),
            looked_up: tokio::sync::Mutex::default(),
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            clock,
        }
    }

    /// Reads a new copy from the database.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn renew(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let _at_a_time = self.looked_up.lock().await;
        self.replace(in_force(client).await?);
        Ok(())
    }

    /// Replaces the copy.
    fn replace(&self, tokens: Vec<StoredToken>) {
        self.by_id.store(Some(Arc::new(tokens.into_iter().map(|token| (token.id, token)).collect())));
    }

    /// Whether there is a copy yet.
    #[must_use]
    pub(crate) fn are_known(&self) -> bool {
        self.by_id.load().is_some()
    }

    /// Adds a token that was just made, so that it works before the next copy.
    pub(crate) async fn add(&self, token: StoredToken) {
        let _at_a_time = self.looked_up.lock().await;
        self.change(|known| _ = known.insert(token.id, token));
    }

    /// Removes a token that was just revoked, so that it is refused before the next copy.
    pub(crate) async fn remove(&self, id: i32) {
        let _at_a_time = self.looked_up.lock().await;
        self.change(|known| _ = known.remove(&id));
    }

    /// Changes the copy, if there is one yet. The caller holds the lock.
    fn change(&self, change: impl FnOnce(&mut HashMap<i32, StoredToken>)) {
        if let Some(mut known) = self.by_id.load().as_deref().cloned() {
            change(&mut known);
            self.by_id.store(Some(Arc::new(known)));
        }
    }

    /// Looks up a token that is newer than the copy in the database.
    ///
    /// # Errors
    /// As [`StaticTokens::verify`].
    pub(crate) async fn look_up(&self, daemon: &Daemon, text: &str) -> Result<i32, Denied> {
        let id = id(text).filter(|id| self.may_be_new(*id) && is_well_formed(text)).ok_or(Denied::UnknownToken)?;
        let _one_of_few = self.look_ups.try_acquire().map_err(|_| Denied::UnknownToken)?;
        // If the database does not answer in time, the next copy has the token.
        let _ = tokio::time::timeout(LOOK_UP_PATIENCE, self.look_up_number(daemon, id)).await;
        self.verify(text)
    }

    async fn look_up_number(&self, daemon: &Daemon, id: i32) -> Option<()> {
        let mut looked_up = self.looked_up.lock().await;
        if let Some(at) = *looked_up {
            tokio::time::sleep_until((at + LOOK_UP_EVERY).into()).await;
        }
        *looked_up = Some(Instant::now());
        let client = daemon.loading.get()?.pool.get().await.ok()?;
        let token = one_in_force(&client, id).await.ok()??;
        self.change(|known| _ = known.insert(id, token));
        Some(())
    }

    fn may_be_new(&self, id: i32) -> bool {
        let known = self.by_id.load();
        let highest = known.as_ref().and_then(|known| known.keys().max().copied()).unwrap_or(0);
        id > highest && id <= highest.saturating_add(NUMBERS_AHEAD)
    }

    /// The number of a token.
    ///
    /// # Errors
    /// [`Denied::UnknownToken`], or [`Denied::Unavailable`] before the database has answered for the first time.
    pub(crate) fn verify(&self, text: &str) -> Result<i32, Denied> {
        let tokens = self.by_id.load();
        let tokens = tokens.as_ref().ok_or(Denied::Unavailable)?;
        let stored = id(text).and_then(|id| tokens.get(&id)).ok_or(Denied::UnknownToken)?;
        let same: bool = digest(text).as_slice().ct_eq(&stored.sha256).into();
        if same { Ok(stored.id) } else { Err(Denied::UnknownToken) }
    }

    /// The owner of a token, as the audit log has it, and the token's role.
    ///
    /// # Errors
    /// As [`Self::verify`]: a token may be revoked, or expire, while its session goes on.
    pub(crate) fn owner(&self, id: i32) -> Result<Holder, Denied> {
        let tokens = self.by_id.load();
        let stored = tokens.as_ref().ok_or(Denied::Unavailable)?.get(&id).ok_or(Denied::UnknownToken)?;
        if stored.expires_at.is_some_and(|at| at.timestamp_micros() <= self.clock.now_us()) {
            return Err(Denied::UnknownToken);
        }
        let actor = format!("token:{} {}", stored.id, stored.name);
        Ok(Holder { actor, role: stored.role, costs: stored.stated_costs })
    }
}

/// The number in a token's text.
fn id(text: &str) -> Option<i32> {
    let (id, _) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    id.parse().ok()
}

/// Whether the secret looks as [`compose`] writes it.
fn is_well_formed(text: &str) -> bool {
    text.rsplit_once('_').is_some_and(|(_, secret)| {
        secret.len() == SECRET_CHARS && secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Creates a token, with its audit entry. Returns its number and its text, which is shown this once.
///
/// # Errors
/// [`TokenError`]; nothing was created then.
pub(crate) async fn issue(
    transaction: &Transaction<'_>,
    token: &NewToken,
    by: &Actor<'_>,
) -> Result<(i32, String), TokenError> {
    let secret: [u8; 32] = rand::random();
    let mut text = String::new();
    let digest_of = |id| {
        text = compose(id, secret);
        digest(&text)
    };
    let id = create(transaction, token, by, digest_of).await?;
    Ok((id, text))
}

/// The stored form of a token.
#[must_use]
pub(crate) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A token's text: its number, and 256 random bits from the operating system.
#[must_use]
fn compose(id: i32, secret: [u8; 32]) -> String {
    format!("{TOKEN_PREFIX}{id}_{}", hex::encode(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_base::clock::ManualClock;

    fn stored(id: i32, text: &str) -> StoredToken {
        StoredToken {
            id,
            name: "n".into(),
            role: Role::Read,
            sha256: digest(text).to_vec(),
            expires_at: None,
            stated_costs: None,
        }
    }

    #[test]
    fn a_token_is_known_by_its_whole_text() {
        let tokens = StaticTokens::new(Arc::new(ManualClock::at(10)));
        let text = compose(7, [0xab; 32]);
        assert_eq!(tokens.verify(&text), Err(Denied::Unavailable));
        tokens.replace(vec![stored(7, &text)]);
        assert_eq!(tokens.verify(&text), Ok(7));
        assert_eq!(tokens.owner(7), Ok(Holder { actor: "token:7 n".into(), role: Role::Read, costs: None }));
        for wrong in [compose(7, [0xac; 32]), compose(8, [0xab; 32]), format!("{text}0"), "tallyd_7_".into()] {
            assert_eq!(tokens.verify(&wrong), Err(Denied::UnknownToken), "{wrong}");
        }
        tokens.replace(Vec::new());
        assert_eq!(tokens.verify(&text), Err(Denied::UnknownToken), "revoked");
        assert_eq!(tokens.owner(7), Err(Denied::UnknownToken), "revoked");
    }

    #[test]
    fn a_token_expires_at_its_time() {
        let clock = Arc::new(ManualClock::at(999_999));
        let tokens = StaticTokens::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let text = compose(1, [1; 32]);
        let expires_at = chrono::DateTime::from_timestamp(1, 0);
        tokens.replace(vec![StoredToken { expires_at, ..stored(1, &text) }]);
        assert!(tokens.owner(1).is_ok());
        clock.set(1_000_000);
        assert_eq!(tokens.owner(1), Err(Denied::UnknownToken));
    }

    #[tokio::test]
    async fn a_renewal_that_was_read_before_a_token_was_made_or_revoked_does_not_undo_it() {
        let tokens = StaticTokens::new(Arc::new(ManualClock::at(10)));
        let (old, new) = (compose(7, [7; 32]), compose(8, [8; 32]));
        tokens.replace(vec![stored(7, &old)]);
        let changes = async {
            tokens.remove(7).await;
            tokens.add(stored(8, &new)).await;
        };
        let renewal = async {
            let _at_a_time = tokens.looked_up.lock().await;
            let read = vec![stored(7, &old)];
            tokio::task::yield_now().await;
            tokens.replace(read);
        };
        // The renewal reads first, then the changes begin, then the renewal has its answer.
        tokio::join!(biased; renewal, changes);
        assert_eq!(tokens.verify(&old), Err(Denied::UnknownToken), "revoked");
        assert_eq!(tokens.verify(&new), Ok(8));
    }
}
