//! Failed attempts by address, in windows of a minute. Bounded: beyond so many addresses the oldest are forgotten, so an
//! attacker with a network of them is slowed less, and never fills the memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long failures count.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// The table.
pub struct Failures {
    per_window: u32,
    by_address: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Failures {
    /// So many failures are allowed in a window.
    #[must_use]
    pub fn new(per_window: u32) -> Self {
        Self { per_window, by_address: Mutex::default() }
    }

    /// Counts a failure.
    pub fn count(&self, address: IpAddr) {
        self.count_at(address, Instant::now());
    }

    /// Whether the address has had its share.
    #[must_use]
    pub fn are_too_many(&self, address: IpAddr) -> bool {
        self.are_too_many_at(address, Instant::now())
    }

    fn count_at(&self, address: IpAddr, now: Instant) {
        let mut table = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if table.len() >= ADDRESSES_MAX && !table.contains_key(&address) {
            table.retain(|_, (began, _)| now.duration_since(*began) < WINDOW);
            if table.len() >= ADDRESSES_MAX {
                // Half at once, so that making room is cheap on the whole.
                let mut ages: Vec<Instant> = table.values().map(|(began, _)| *began).collect();
                let (_, middle, _) = ages.select_nth_unstable(ADDRESSES_MAX / 2);
                let middle = *middle;
                table.retain(|_, (began, _)| *began > middle);
            }
        }
        let entry = table.entry(address).or_insert((now, 0));
        if now.duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    fn are_too_many_at(&self, address: IpAddr, now: Instant) -> bool {
        let table = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = table.get(&network(address));
        entry.is_some_and(|(began, count)| *count >= self.per_window && now.duration_since(*began) < WINDOW)
    }
}

/// What one customer of a provider has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_failures_a_window() {
        let (failures, now) = (Failures::new(3), Instant::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..3 {
            assert!(!failures.are_too_many_at(one, now));
            failures.count_at(one, now);
        }
        assert!(failures.are_too_many_at(one, now));
        assert!(!failures.are_too_many_at(other, now));
        assert!(!failures.are_too_many_at(one, now + WINDOW));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, now) = (Failures::new(1), Instant::now());
        failures.count_at("2001:db8:1:2::1".parse().unwrap(), now);
        assert!(failures.are_too_many_at("2001:db8:1:2:ffff::9".parse().unwrap(), now));
        assert!(!failures.are_too_many_at("2001:db8:1:3::1".parse().unwrap(), now));
    }

    #[test]
    fn the_table_is_bounded() {
        let (failures, now) = (Failures::new(1), Instant::now());
        for number in 0..3 * ADDRESSES_MAX {
            // Each a little later, so that there is an oldest half.
            failures.count_at(IpAddr::from((number as u32).to_be_bytes()), now + Duration::from_micros(number as u64));
        }
        assert!(failures.by_address.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
