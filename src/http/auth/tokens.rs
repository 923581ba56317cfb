//! Static tokens, as this daemon knows them: a copy of `tallyd_tokens` that is renewed every second.
//!
//! The copy is why a token is good for recording while the database is down, and why a revoked one is out within a second
//! or two of its revocation. Until the first copy has been had nobody is refused for being unknown: the answer is "not now".
//!
//! A token that is newer than the copy is looked up once, so that it is good from the moment on in which it was made. Numbers
//! only grow, so a number that the copy should have is none to look up; the others are bounded by [`LOOK_UP_EVERY`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio_postgres::Client;

use super::{Denied, Role};
use crate::http::Daemon;
use tallyd_base::clock::Clock;
use tallyd_config::StatedCosts;
use tallyd_store::queries::tokens::{StoredToken, in_force, one_in_force};

/// What a token begins with: secret scanners can be taught it, and no JWT begins so.
pub(crate) const TOKEN_PREFIX: &str = "tallyd_";
/// How often the copy is renewed.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// The least time between two tokens that are looked up, whatever strangers show.
const LOOK_UP_EVERY: Duration = Duration::from_millis(20);
/// Those that wait for it; others are unknown until the next copy.
const LOOK_UPS_MAX: usize = 8;
/// How long one may take.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(2);
/// How far beyond the highest known number a token's may be.
const NUMBERS_AHEAD: i32 = 1_000;
/// Characters of a token's secret.
const SECRET_CHARS: usize = 64;

/// Who shows a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// As the audit log has it.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// What the token allows of stated costs, if it is limited.
    pub costs: Option<StatedCosts>,
}

/// The copy.
pub(crate) struct StaticTokens {
    by_id: ArcSwapOption<HashMap<i32, StoredToken>>,
    /// When a token was last looked up. Held meanwhile, and while the copy is renewed: an older copy never takes away what was
    /// looked up after it was asked for.
    looked_up: tokio::sync::Mutex<Option<Instant>>,
    look_ups: Semaphore,
    clock: Arc<dyn Clock>,
}

impl StaticTokens {
    /// No copy yet.
    #[must_use]
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            by_id: ArcSwapOption::empty(),
            looked_up: tokio::sync::Mutex::default(),
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            clock,
        }
    }

    /// Asks the database for a new copy.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn renew(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let _at_a_time = self.looked_up.lock().await;
        self.replace(in_force(client).await?);
        Ok(())
    }

    /// Puts a new copy in place.
    fn replace(&self, tokens: Vec<StoredToken>) {
        self.by_id.store(Some(Arc::new(tokens.into_iter().map(|token| (token.id, token)).collect())));
    }

    /// Adds one that was just made, before the next copy brings it.
    pub(crate) fn add(&self, token: StoredToken) {
        self.by_id.rcu(|known| {
            let mut known = known.as_deref().cloned().unwrap_or_default();
            known.insert(token.id, token.clone());
            Some(Arc::new(known))
        });
    }

    /// Takes one out that was just revoked, before the next copy does.
    pub(crate) fn remove(&self, id: i32) {
        self.by_id.rcu(|known| {
            let mut known = known.as_deref().cloned()?;
            known.remove(&id);
            Some(Arc::new(known))
        });
    }

    /// Asks the database for a token that is newer than the copy.
    ///
    /// # Errors
    /// As [`StaticTokens::verify`].
    pub(crate) async fn look_up(&self, daemon: &Daemon, text: &str) -> Result<i32, Denied> {
        let id = id(text).filter(|id| self.may_be_new(*id) && is_well_formed(text)).ok_or(Denied::UnknownToken)?;
        let _one_of_few = self.look_ups.try_acquire().map_err(|_| Denied::UnknownToken)?;
        // In vain, if the database does not answer in time. The next copy has it then.
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
        self.add(one_in_force(&client, id).await.ok()??);
        Some(())
    }

    fn may_be_new(&self, id: i32) -> bool {
        let known = self.by_id.load();
        let highest = known.as_ref().and_then(|known| known.keys().max().copied()).unwrap_or(0);
        id > highest && id <= highest.saturating_add(NUMBERS_AHEAD)
    }

    /// The number of the token that is shown.
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

    /// Whose a token is, as the audit log has it, and what they may do.
    ///
    /// # Errors
    /// As [`Self::verify`]: a token may be revoked, or expire, while a session that it began goes on.
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

/// The id that a token's text begins with.
fn id(text: &str) -> Option<i32> {
    let (id, _) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    id.parse().ok()
}

/// As [`compose`] writes them.
fn is_well_formed(text: &str) -> bool {
    text.rsplit_once('_').is_some_and(|(_, secret)| {
        secret.len() == SECRET_CHARS && secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What is stored of a token.
#[must_use]
pub(crate) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A token's text: its id, and 256 random bits of the operating system's.
#[must_use]
pub(crate) fn compose(id: i32, secret: [u8; 32]) -> String {
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
}
