//! Access to a listener, and the resources of strangers before they have shown a token.
//!
//! A connection over TCP is a stranger's until it has shown a token. Strangers have places of their own ([`Seats`]), so
//! that many of them take none from clients that may record. With its token a connection gets one of the producers'
//! shared places, of which TCP has half at most. A wrong token is answered late, and each guess keeps a stranger's
//! place meanwhile.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::seats::{Guard, Seat};

/// The delay of the answer to a wrong token.
pub(super) const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);
/// The longest time for a stranger to show its token; `listen.hello_timeout_ms` may be less.
pub(super) const STRANGER_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) enum ConnectionAccess {
    /// Everybody who can open the socket: its file permissions decide. The place is one of the producers'.
    Anyone(#[expect(dead_code, reason = "held for as long as the connection is open")] OwnedSemaphorePermit),
    /// Everybody who knows a token.
    Stranger(Stranger),
}

pub(crate) struct Stranger {
    tokens: Arc<[String]>,
    peer: IpAddr,
    seat: Arc<Seat>,
    places: Arc<ConnectionSlots>,
    held: Mutex<Held>,
}

/// State that connections over TCP share.
pub struct ConnectionSlots {
    /// The producers' places, on all listeners.
    pub all: Arc<Semaphore>,
    /// Those of them that TCP may have.
    pub tcp: Arc<Semaphore>,
}

/// A place among the strangers, then one among the producers.
enum Held {
    Stranger(Guard),
    Known { _all: OwnedSemaphorePermit, _tcp: OwnedSemaphorePermit },
    Nothing,
}

impl Stranger {
    /// A connection that has not shown a token yet.
    #[must_use]
    pub(crate) fn new(tokens: Arc<[String]>, peer: IpAddr, guard: Guard, places: Arc<ConnectionSlots>) -> Self {
        let seat = Arc::clone(&guard.seat);
        Self { tokens, peer, seat, places, held: Mutex::new(Held::Stranger(guard)) }
    }

    /// Waits until another connection needs the stranger's place.
    pub(crate) async fn displaced(&self) {
        self.seat.left().await;
    }

    /// Compares in constant time, so that the time does not tell how much of a token is right.
    fn knows(&self, token: &str) -> bool {
        let mut known = subtle::Choice::from(0);
        for right in self.tokens.iter() {
            known |= right.as_bytes().ct_eq(token.as_bytes());
        }
        known.into()
    }

    /// Exchanges the stranger's place for one of the producers'. False if the stranger's place was already taken away.
    async fn enter(&self) -> bool {
        // Neither semaphore is ever closed.
        let Ok(tcp) = Arc::clone(&self.places.tcp).acquire_owned().await else { return false };
        let Ok(all) = Arc::clone(&self.places.all).acquire_owned().await else { return false };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Held::Stranger(guard) = std::mem::replace(&mut *held, Held::Nothing) else { return false };
        let is_free = guard.give_up();
        if is_free {
            *held = Held::Known { _all: all, _tcp: tcp };
        }
        is_free
    }
}

impl ConnectionAccess {
    /// Waits for a place and lets the connection in, if the token is right.
    pub(crate) async fn admits(&self, token: Option<&str>) -> bool {
        match self {
            Self::Anyone(_) => true,
            Self::Stranger(stranger) => {
                if !stranger.knows(token.unwrap_or_default()) {
                    static TOLD: Once = Once::new();
                    let peer = stranger.peer;
                    TOLD.call_once(|| {
                        tracing::warn!(%peer, "a wrong token was shown over TCP; further ones are counted, and logged as debug");
                    });
                    tracing::debug!(%peer, "a wrong token was shown over TCP");
                    tokio::time::sleep(WRONG_TOKEN_DELAY).await;
                    return false;
                }
                stranger.enter().await
            }
        }
    }

    /// The longest time until the hello.
    pub(crate) fn patience(&self, hello_timeout: Duration) -> Duration {
        match self {
            Self::Anyone(_) => hello_timeout,
            Self::Stranger(_) => hello_timeout.min(STRANGER_PATIENCE),
        }
    }

    /// Whether a token has to be shown.
    pub(crate) const fn is_of_strangers(&self) -> bool {
        matches!(self, Self::Stranger(_))
    }
}
