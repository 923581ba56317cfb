//! The page's sessions, as this daemon knows them: a copy of `tallyd_page_sessions` that is renewed every second.
//!
//! With the copy the page works while the database is down, and a session that ends on one daemon is over on the others
//! within a second or two. A session that is not in the copy is looked up in the database, because it may have just
//! begun on another daemon.
//!
//! A browser keeps a session's id in a cookie: for this host, unreadable for scripts, never sent from another site's
//! pages.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use deadpool_postgres::Pool;
use subtle::ConstantTimeEq;
use tokio_postgres::Client;

use super::Denied;
use crate::http::page::secret::SessionSecret;
use tallyd_base::clock::Clock;
use tallyd_store::queries::page_sessions::{self, StoredSession};

/// A browser's credentials: the id from its cookie, and the proof from its page.
pub(crate) struct ShownSession {
    pub id: SessionSecret,
    pub proof: SessionSecret,
}

pub(crate) struct PageSessions {
    by_id: ArcSwap<HashMap<[u8; 32], Arc<StoredSession>>>,
    /// Held during a renewal and during each change of the copy, so that a renewal that was read before a change does not
    /// undo it.
    changing: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
}

impl PageSessions {
    #[must_use]
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { by_id: ArcSwap::default(), changing: tokio::sync::Mutex::default(), clock }
    }

    /// Reads a new copy from the database.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn renew(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let _at_a_time = self.changing.lock().await;
        self.replace(page_sessions::in_force(client).await?);
        Ok(())
    }

    fn replace(&self, sessions: Vec<StoredSession>) {
        self.by_id.store(Arc::new(sessions.into_iter().map(|one| (one.id_sha256, Arc::new(one))).collect()));
    }

    /// Adds a session that was just begun or renewed, so that requests before the next copy find it as it is.
    pub(crate) async fn add(&self, session: StoredSession) {
        let _at_a_time = self.changing.lock().await;
        let mut known = HashMap::clone(&self.by_id.load());
        known.insert(session.id_sha256, Arc::new(session));
        self.by_id.store(Arc::new(known));
    }

    /// Removes a session that was just ended, so that requests before the next copy do not find it.
    pub(crate) async fn remove(&self, id_sha256: &[u8; 32]) {
        let _at_a_time = self.changing.lock().await;
        let mut known = HashMap::clone(&self.by_id.load());
        known.remove(id_sha256);
        self.by_id.store(Arc::new(known));
    }

    /// The session of this id and proof, whether its token has expired or not. `pool`: for a session that is not in the
    /// copy, or why it cannot be looked up.
    ///
    /// # Errors
    /// [`Denied::Session`] if there is none, or it has ended; [`Denied::Unavailable`] if the database is needed and
    /// does not answer.
    pub(crate) async fn find(
        &self,
        pool: Result<&Pool, Denied>,
        shown: &ShownSession,
    ) -> Result<Arc<StoredSession>, Denied> {
        let id = shown.id.digest();
        let known = self.by_id.load().get(&id).cloned();
        let session = match known {
            Some(session) => session,
            // It is not put into the copy: it may have ended since.
            None => Arc::new(look_up(pool?, &id).await?),
        };
        let same: bool = shown.proof.digest().ct_eq(&session.proof_sha256).into();
        if same && self.now_us() < session.ends_at.timestamp_micros() { Ok(session) } else { Err(Denied::Session) }
    }

    /// As [`Self::find`], for a request.
    ///
    /// # Errors
    /// As there; [`Denied::Expired`] if the session has to be renewed first.
    pub(crate) async fn verify(
        &self,
        pool: Result<&Pool, Denied>,
        shown: &ShownSession,
    ) -> Result<Arc<StoredSession>, Denied> {
        let session = self.find(pool, shown).await?;
        if self.is_valid(&session) { Ok(session) } else { Err(Denied::Expired) }
    }

    /// Whether the token that began or renewed the session is still valid.
    #[must_use]
    pub(crate) fn is_valid(&self, session: &StoredSession) -> bool {
        session.valid_until.is_none_or(|at| self.now_us() < at.timestamp_micros())
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }
}

async fn look_up(pool: &Pool, id: &[u8; 32]) -> Result<StoredSession, Denied> {
    let client = pool.get().await.map_err(|_| Denied::Unavailable)?;
    let found = page_sessions::find(&client, id).await.map_err(|error| {
        let error = tallyd_store::describe(&error);
        tracing::warn!(error, "a session of the page could not be looked up");
        Denied::Unavailable
    })?;
    found.ok_or(Denied::Session)
}

/// The name of the cookie with a session's id. Over TLS its prefix makes browsers refuse a cookie that a subdomain or
/// an unencrypted page has set.
const fn cookie_name(encrypted: bool) -> &'static str {
    if encrypted { "__Host-tallyd_session" } else { "tallyd_session" }
}

/// The session's id in a request.
#[must_use]
pub(crate) fn cookie_of(headers: &HeaderMap, encrypted: bool) -> Option<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == cookie_name(encrypted)).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The headers that make a browser keep a session's id for this many seconds, or forget it at 0. `encrypted`: the
/// browser uses TLS, and must send the id over nothing else.
#[must_use]
pub(crate) fn set_cookie(encrypted: bool, id: &str, seconds: i64) -> HeaderMap {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", cookie_name(encrypted));
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Hexadecimal digits and ASCII punctuation are a valid value.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(SET_COOKIE, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::http::auth::Proven;
    use tallyd_base::clock::ManualClock;

    fn session() -> (ShownSession, StoredSession) {
        let shown = ShownSession { id: SessionSecret::random(), proof: SessionSecret::random() };
        let stored = StoredSession {
            id_sha256: shown.id.digest(),
            proof_sha256: shown.proof.digest(),
            owner: Proven::Token { id: 1 },
            valid_until: DateTime::from_timestamp(1, 0),
            ends_at: DateTime::from_timestamp(2, 0).unwrap(),
            sealed: None,
        };
        (shown, stored)
    }

    #[tokio::test]
    async fn a_session_takes_both_values_and_ends_in_time() {
        let clock = Arc::new(ManualClock::at(0));
        let sessions = PageSessions::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (shown, stored) = session();
        assert_eq!(sessions.verify(Err(Denied::Unavailable), &shown).await.err(), Some(Denied::Unavailable));
        sessions.replace(vec![stored]);
        assert!(sessions.verify(Err(Denied::Unavailable), &shown).await.is_ok());
        let forged =
            ShownSession { id: SessionSecret::parse(&shown.id.text()).unwrap(), proof: SessionSecret::random() };
        assert_eq!(sessions.verify(Err(Denied::Unavailable), &forged).await.err(), Some(Denied::Session));
        clock.set(1_000_000);
        assert_eq!(sessions.verify(Err(Denied::Unavailable), &shown).await.err(), Some(Denied::Expired));
        assert!(sessions.find(Err(Denied::Unavailable), &shown).await.is_ok(), "it can be renewed");
        clock.set(2_000_000);
        assert_eq!(sessions.find(Err(Denied::Unavailable), &shown).await.err(), Some(Denied::Session));
    }

    #[tokio::test]
    async fn a_renewal_that_was_read_before_a_session_began_or_ended_does_not_undo_it() {
        let sessions = PageSessions::new(Arc::new(ManualClock::at(0)));
        let ((ended, of_ended), (begun, of_begun)) = (session(), session());
        sessions.replace(vec![of_ended.clone()]);
        let renewal = async {
            let _at_a_time = sessions.changing.lock().await;
            tokio::task::yield_now().await;
            sessions.replace(vec![of_ended.clone()]);
        };
        let changes = async {
            sessions.remove(&of_ended.id_sha256).await;
            sessions.add(of_begun).await;
        };
        // The renewal reads first, then the changes begin, then the renewal has its answer.
        tokio::join!(biased; renewal, changes);
        assert_eq!(sessions.find(Err(Denied::Session), &ended).await.err(), Some(Denied::Session));
        assert!(sessions.find(Err(Denied::Session), &begun).await.is_ok());
    }
}
