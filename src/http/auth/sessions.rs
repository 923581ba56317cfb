//! The admin page's sessions: a cookie instead of a token in each request.
//!
//! A session is opened by showing a token once (`POST /page/session`, [`crate::http::page`]). The browser gets 256 random
//! bits in a cookie that no script can read (`HttpOnly`), that no other site's request carries (`SameSite=Strict`), and
//! that never leaves an encrypted connection if it came over one (`Secure`). The database keeps their SHA-256
//! (`tallyd_page_sessions`), each daemon a copy that is renewed every second, as with tokens: a session serves while the
//! database is down, outlives a restart, and holds with every daemon on the database.
//!
//! A session grants nothing by itself. At each request the token behind it must be in force, or its user an admin, by the
//! same rules as if they were shown anew: a revoked token's sessions are out within two seconds, a demoted admin's within
//! `auth.admin_ttl_ms`. It ends after [`LIFETIME`], and not after its token or JWT; with a JWT that mostly is an hour.
//!
//! What changes something must come from the page itself: with the header [`PAGE_HEADER`], which no form can send, and an
//! `Origin` that is the host that was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use axum::http::{HeaderMap, Method, header};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::Denied;
use crate::clock::Clock;
use crate::database::queries::page_sessions::{Proof, StoredSession};

/// The cookie's name.
pub const COOKIE: &str = "tallyd_session";
/// The header that the page sends with everything. Its value does not matter: other sites' pages can send none of that name.
pub const PAGE_HEADER: &str = "x-tallyd-page";
/// How long a session lasts at most: a working day.
pub const LIFETIME: TimeDelta = TimeDelta::hours(12);

/// The copy.
pub struct Sessions {
    by_digest: ArcSwapOption<HashMap<Vec<u8>, StoredSession>>,
    /// Sign-ins and sign-outs here. A copy that was read before one of them does not know it, and is not put in place.
    changes: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Sessions {
    /// No copy yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { by_digest: ArcSwapOption::empty(), changes: AtomicU64::new(0), clock }
    }

    /// What [`Sessions::replace`] is to be told: taken before a new copy is read.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Puts a new copy in place, unless somebody has signed in or out since `changes` was taken: the next one knows them.
    pub fn replace(&self, sessions: Vec<StoredSession>, changes: u64) {
        if self.changes() != changes {
            return;
        }
        let by_digest = sessions.into_iter().map(|session| (session.sha256.clone(), session)).collect();
        self.by_digest.store(Some(Arc::new(by_digest)));
    }

    /// Changes the copy without waiting for the next one.
    pub fn note(&self, change: impl Fn(&mut HashMap<Vec<u8>, StoredSession>)) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.by_digest.rcu(|sessions| {
            let mut sessions = sessions.as_deref().cloned().unwrap_or_default();
            change(&mut sessions);
            Some(Arc::new(sessions))
        });
    }

    /// The session of a cookie's value.
    ///
    /// # Errors
    /// [`Denied::Session`], or [`Denied::Unavailable`] before the database has answered for the first time.
    pub fn verify(&self, secret: &str) -> Result<StoredSession, Denied> {
        let sessions = self.by_digest.load();
        let sessions = sessions.as_ref().ok_or(Denied::Unavailable)?;
        // Found by its digest: how long that takes tells nothing of the secret.
        let session = sessions.get(digest(secret).as_slice()).ok_or(Denied::Session)?;
        if session.expires_at.timestamp_micros() <= self.clock.now_us() {
            return Err(Denied::Session);
        }
        Ok(session.clone())
    }

    /// A new session and its cookie's value. It ends at `ends`, if that is before its time.
    #[must_use]
    pub fn draw(&self, actor: String, proof: Proof, ends: Option<DateTime<Utc>>) -> (StoredSession, String) {
        use std::fmt::Write;
        let bits: [u8; 32] = rand::random();
        let mut secret = String::with_capacity(64);
        for byte in bits {
            // Writing into text does not fail.
            let _ = write!(secret, "{byte:02x}");
        }
        // The clock's microseconds lie within the calendar.
        let now = DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let last = now + LIFETIME;
        let expires_at = ends.map_or(last, |ends| ends.min(last));
        (StoredSession { sha256: digest(&secret).to_vec(), actor, proof, expires_at }, secret)
    }
}

/// What is stored of a cookie's value.
#[must_use]
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The session's cookie, if the request has exactly one.
#[must_use]
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value);
    let value = values.next().filter(|value| !value.is_empty())?;
    // Of two, one may be somebody else's.
    values.next().is_none().then_some(value)
}

/// Whether a request that a cookie speaks for may do this: it only asks, or it comes from the page itself.
#[must_use]
pub fn is_from_page(method: &Method, headers: &HeaderMap, trusts_proxy: bool) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = if trusts_proxy { text("x-forwarded-host") } else { None };
    let Some(asked) = forwarded.or_else(|| text("host")) else { return false };
    let authority = text("origin").and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    headers.contains_key(PAGE_HEADER) && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_session_is_known_by_its_cookie_until_it_ends() {
        let clock = Arc::new(ManualClock::at(0));
        let sessions = Sessions::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (session, secret) = sessions.draw("a".into(), Proof::Token(1), None);
        assert_eq!(sessions.verify(&secret), Err(Denied::Unavailable), "there is no copy yet");
        sessions.replace(vec![session.clone()], sessions.changes());
        assert_eq!(sessions.verify(&secret), Ok(session.clone()));
        assert_eq!(sessions.verify(&secret[1..]), Err(Denied::Session));
        clock.set(LIFETIME.num_microseconds().unwrap() - 1);
        assert!(sessions.verify(&secret).is_ok());
        clock.set(LIFETIME.num_microseconds().unwrap());
        assert_eq!(sessions.verify(&secret), Err(Denied::Session), "its time is over");
        clock.set(0);
        sessions.note(|sessions| drop(sessions.remove(&session.sha256)));
        assert_eq!(sessions.verify(&secret), Err(Denied::Session), "signed out");
        sessions.replace(vec![session], 0);
        assert_eq!(sessions.verify(&secret), Err(Denied::Session), "that copy was read before");
    }

    #[test]
    fn a_session_does_not_outlive_what_was_shown_for_it() {
        let sessions = Sessions::new(Arc::new(ManualClock::at(0)));
        let ends = DateTime::from_timestamp(60, 0);
        assert_eq!(sessions.draw("a".into(), Proof::Link, ends).0.expires_at, ends.unwrap());
        let late = DateTime::from_timestamp(1_000_000, 0);
        assert_eq!(sessions.draw("a".into(), Proof::Link, late).0.expires_at.timestamp(), LIFETIME.num_seconds());
    }

    #[test]
    fn one_cookie_counts_and_two_do_not() {
        assert_eq!(cookie(&headers(&[("cookie", "a=b; tallyd_session=ff; c=d")])), Some("ff"));
        for none in ["", "tallyd_session=", "xtallyd_session=ff", "tallyd_session=a; tallyd_session=b"] {
            assert_eq!(cookie(&headers(&[("cookie", none)])), None, "{none}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_the_page() {
        let page = [("host", "h:1"), ("origin", "http://h:1"), ("x-tallyd-page", "1")];
        assert!(is_from_page(&Method::POST, &headers(&page), false));
        assert!(is_from_page(&Method::GET, &headers(&[]), false), "questions change nothing");
        for left_out in 0..page.len() {
            let mut lines = page.to_vec();
            lines.remove(left_out);
            assert!(!is_from_page(&Method::DELETE, &headers(&lines), false), "without {}", page[left_out].0);
        }
        let other = [("host", "h:1"), ("origin", "http://evil"), ("x-tallyd-page", "1")];
        assert!(!is_from_page(&Method::POST, &headers(&other), false));
        let behind = [("host", "inside"), ("x-forwarded-host", "h"), ("origin", "https://h"), ("x-tallyd-page", "1")];
        assert!(is_from_page(&Method::POST, &headers(&behind), true));
        assert!(!is_from_page(&Method::POST, &headers(&behind), false), "the header is not believed");
    }
}
