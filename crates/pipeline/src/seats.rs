//! Places on a listener that strangers can reach: who holds a place, and who loses it when others need one.
//!
//! A connection is a stranger's until it has shown a valid token. Strangers hold at most half of the places, and one
//! address of strangers at most its share. At a bound, a stranger is displaced: from the address with the most
//! connections, the one that has kept the daemon waiting longest. So connections that say nothing displace each other.
//! If all places are taken by known connections, the same holds for them, after a longer grace. A connection at work is
//! never displaced.
//!
//! Over HTTP a few places are kept for `/healthz` and `/readyz`. A connection in such a place that requests something
//! else waits a moment for another place, and is told that the daemon is busy if there is none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a stranger may keep the daemon waiting while others need its place.
const STRANGERS_GRACE: Duration = Duration::from_millis(250);
/// The same for a connection that has shown a valid token.
const KNOWN_GRACE: Duration = Duration::from_secs(5);
/// How long a connection in a kept place waits for another one.
const PROMOTION: Duration = Duration::from_millis(250);
/// How often expired graces are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// The most places that are kept for health; of few places, an eighth.
const KEPT_MAX: usize = 32;

/// The numbers of places.
#[derive(Debug, Clone, Copy)]
pub struct SeatBounds {
    /// For all connections.
    places: usize,
    /// For strangers, of all addresses together.
    strangers: usize,
    /// For strangers of one address.
    per_address: usize,
    /// For health, beside the others.
    kept: usize,
}

impl SeatBounds {
    /// `connections` in all, and `per_address` strangers of one address.
    #[must_use]
    pub fn new(connections: usize, per_address: usize) -> Self {
        let kept = (connections / 8).clamp(1, KEPT_MAX);
        let places = connections.saturating_sub(kept).max(1);
        Self { places, strangers: places.div_ceil(2), per_address, kept }
    }

    /// For strangers alone, half of them of one address. None is kept for health.
    #[must_use]
    pub fn strangers(strangers: usize) -> Self {
        Self { places: strangers, strangers, per_address: strangers.div_ceil(2), kept: 0 }
    }
}

/// The places of one listener.
pub struct Seats {
    bounds: SeatBounds,
    started: Instant,
    taken: Mutex<Vec<Arc<Seat>>>,
    changed: Notify,
}

/// A connection's place. It is free again once its [`Guard`] is dropped.
pub struct Seat {
    address: IpAddr,
    known: AtomicBool,
    kept: AtomicBool,
    /// True while a request is worked on: the daemon does not wait for the client then.
    at_work: AtomicBool,
    /// Milliseconds from `started` until the daemon began to wait for the client.
    waits_since: AtomicU64,
    requests: AtomicU64,
    started: Instant,
    left: Notify,
}

/// The addresses of one customer of a provider: an IPv4 address, or a /64 of IPv6.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

/// Frees the place when dropped.
pub struct Guard {
    seats: Arc<Seats>,
    /// The place.
    pub seat: Arc<Seat>,
}

impl Guard {
    /// Frees the place. False if it had already been taken away.
    #[must_use]
    pub(crate) fn give_up(self) -> bool {
        self.free()
    }

    fn free(&self) -> bool {
        let mut taken = self.seats.lock();
        let at = taken.iter().position(|seat| Arc::ptr_eq(seat, &self.seat));
        at.map(|at| taken.swap_remove(at)).is_some()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.free();
        self.seats.changed.notify_one();
    }
}

impl Seat {
    /// Notes that a valid token was shown.
    pub fn know(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Whether a valid token was shown.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes that a request's head was received.
    pub fn ask(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of received heads.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes that a whole request was received, and is worked on.
    pub fn work(&self) {
        self.at_work.store(true, Ordering::Relaxed);
    }

    /// Notes that the daemon waits for the client from here on: to send, or to take its answer.
    pub fn wait(&self) {
        self.waits_since.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.at_work.store(false, Ordering::Relaxed);
    }

    /// Waits until another connection needs the place.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// A place that nobody else can need.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        Seats::new(SeatBounds::new(1, 1)).seat(IpAddr::V4(Ipv4Addr::UNSPECIFIED), false)
    }

    /// Whether a whole request is worked on.
    pub fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Relaxed)
    }

    /// Whether the place is one of those kept for health.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    fn waits_for(&self, now_ms: u64) -> Option<Duration> {
        let since = self.waits_since.load(Ordering::Relaxed);
        (!self.is_at_work()).then(|| Duration::from_millis(now_ms.saturating_sub(since)))
    }
}

impl Seats {
    /// Places within these bounds, all free.
    #[must_use]
    pub fn new(bounds: SeatBounds) -> Arc<Self> {
        Arc::new(Self { bounds, started: Instant::now(), taken: Mutex::default(), changed: Notify::new() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Seat>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from this address; a kept one if there is no other. Waits if there is none at all.
    pub async fn take(self: &Arc<Self>, address: IpAddr) -> Guard {
        let address = network(address);
        loop {
            {
                let mut taken = self.lock();
                let kept = match self.make_room(&mut taken, address) {
                    true => Some(false),
                    false => self.make_kept_room(&mut taken).then_some(true),
                };
                if let Some(kept) = kept {
                    let seat = self.seat(address, kept);
                    taken.push(Arc::clone(&seat));
                    return Guard { seats: Arc::clone(self), seat };
                }
            }
            self.look_again().await;
        }
    }

    /// Exchanges a kept place for another one, if there is one soon.
    pub async fn promote(&self, seat: &Arc<Seat>) -> bool {
        let deadline = Instant::now() + PROMOTION;
        loop {
            {
                let mut taken = self.lock();
                if self.make_room(&mut taken, seat.address) {
                    seat.kept.store(false, Ordering::Relaxed);
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.look_again().await;
        }
    }

    async fn look_again(&self) {
        // After a timeout the caller checks as well.
        let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
    }

    fn seat(&self, address: IpAddr, kept: bool) -> Arc<Seat> {
        let seat = Seat {
            address,
            known: AtomicBool::new(false),
            kept: AtomicBool::new(kept),
            at_work: AtomicBool::new(false),
            waits_since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            started: self.started,
            left: Notify::new(),
        };
        seat.wait();
        Arc::new(seat)
    }

    /// True if there is a place for a stranger of this address, after displacing another connection if need be.
    fn make_room(&self, taken: &mut Vec<Arc<Seat>>, address: IpAddr) -> bool {
        let strangers = |seat: &Arc<Seat>| !seat.is_kept() && !seat.is_known();
        let of_address = taken.iter().filter(|seat| strangers(seat) && seat.address == address).count();
        if of_address >= self.bounds.per_address {
            return self.send_away(taken, STRANGERS_GRACE, |seat| strangers(seat) && seat.address == address);
        }
        if taken.iter().filter(|seat| strangers(seat)).count() >= self.bounds.strangers {
            return self.send_away(taken, STRANGERS_GRACE, |seat| strangers(seat));
        }
        taken.iter().filter(|seat| !seat.is_kept()).count() < self.bounds.places
            || self.send_away(taken, STRANGERS_GRACE, |seat| strangers(seat))
            || self.send_away(taken, KNOWN_GRACE, |seat| !seat.is_kept())
    }

    fn make_kept_room(&self, taken: &mut Vec<Arc<Seat>>) -> bool {
        taken.iter().filter(|seat| seat.is_kept()).count() < self.bounds.kept
            || self.send_away(taken, STRANGERS_GRACE, |seat| seat.is_kept())
    }

    /// Displaces a connection that is past its grace: of the address with the most connections, the one that is waited
    /// for longest.
    fn send_away(&self, taken: &mut Vec<Arc<Seat>>, grace: Duration, may_go: impl Fn(&Arc<Seat>) -> bool) -> bool {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let mut by_address = HashMap::<IpAddr, usize>::new();
        for seat in taken.iter().filter(|seat| may_go(seat)) {
            *by_address.entry(seat.address).or_default() += 1;
        }
        let overdue = |seat: &Arc<Seat>| seat.waits_for(now_ms).filter(|waits| *waits >= grace);
        let candidates = taken.iter().enumerate().filter(|(_, seat)| may_go(seat));
        let candidates = candidates.filter_map(|(at, seat)| Some((by_address[&seat.address], overdue(seat)?, at)));
        let Some((_, _, at)) = candidates.max() else { return false };
        let gone = taken.swap_remove(at);
        gone.left.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn waits_since(guard: &Guard, ms_ago: u64) {
        // The seats of these tests are as old as that.
        let now = guard.seat.started.elapsed().as_millis() as u64;
        guard.seat.waits_since.store(now - ms_ago, Ordering::Relaxed);
    }

    fn old(bounds: SeatBounds) -> Arc<Seats> {
        let started = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        Arc::new(Seats { bounds, started, taken: Mutex::default(), changed: Notify::new() })
    }

    #[tokio::test]
    async fn a_crowd_of_one_address_displaces_itself() {
        // 16 connections: 2 kept, 14 places, 7 for strangers.
        let seats = old(SeatBounds::new(16, 4));
        let mut crowd = Vec::new();
        for _ in 0..4 {
            crowd.push(seats.take(A).await);
        }
        let other = seats.take(B).await;
        waits_since(&other, 10_000);
        crowd.iter().enumerate().for_each(|(at, guard)| waits_since(guard, 1_000 + at as u64));
        let next = seats.take(A).await;
        assert!(!next.seat.is_kept());
        let gone = |guard: &Guard| !seats.lock().iter().any(|seat| Arc::ptr_eq(seat, &guard.seat));
        assert!(gone(&crowd[3]) && !gone(&crowd[0]) && !gone(&other), "the longest of the address that has most");
    }

    #[tokio::test]
    async fn what_is_at_work_or_known_stays_and_health_has_places_of_its_own() {
        let seats = old(SeatBounds::new(8, 100));
        let mut crowd = Vec::new();
        // 7 places, 4 for strangers.
        for _ in 0..7 {
            let guard = seats.take(A).await;
            guard.seat.know();
            waits_since(&guard, 1_000);
            crowd.push(guard);
        }
        let kept = seats.take(B).await;
        assert!(kept.seat.is_kept());
        assert!(!seats.promote(&kept.seat).await);
        waits_since(&crowd[2], 6_000);
        assert!(seats.promote(&kept.seat).await, "somebody known who said nothing for long goes");
        crowd.remove(2);
        for guard in &crowd {
            guard.seat.work();
            waits_since(guard, 50_000);
        }
        kept.seat.work();
        let another = seats.take(B).await;
        assert!(another.seat.is_kept() && crowd.len() == 6);
    }
}
