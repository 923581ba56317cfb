//! Failed attempts by address, in windows of a minute. Attempts under way count as failed, so parallel attempts gain
//! nothing.
//!
//! The table is bounded: at [`ADDRESSES_MAX`] addresses the older half is forgotten. An attacker with many addresses is
//! slowed less, but cannot fill the memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tallyd_pipeline::seats::network;

pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses in the table.
const ADDRESSES_MAX: usize = 4_096;

pub(crate) struct FailedAttempts {
    per_window: u32,
    by_address: Mutex<HashMap<IpAddr, Entry>>,
}

struct Entry {
    began: Instant,
    failed: u32,
    /// Attempts that have begun and whose outcome is not known yet.
    under_way: u32,
}

/// An attempt that has begun. It counts as failed unless it is [forgiven](Attempt::forgive), even if the client leaves
/// before the outcome.
pub(crate) struct Attempt<'a> {
    failures: &'a FailedAttempts,
    address: IpAddr,
    forgiven: bool,
}

impl Attempt<'_> {
    /// For an attempt that succeeded, or failed through no fault of the client.
    pub(crate) fn forgive(mut self) {
        self.forgiven = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.failures.end(self.address, !self.forgiven);
    }
}

impl FailedAttempts {
    /// `per_window`: failures that an address may have in a window.
    #[must_use]
    pub(crate) fn new(per_window: u32) -> Self {
        Self { per_window, by_address: Mutex::default() }
    }

    /// Begins an attempt. None if the address's failures and attempts under way have reached the bound.
    #[must_use]
    pub(crate) fn begin(&self, address: IpAddr) -> Option<Attempt<'_>> {
        let address = network(address);
        let mut table = self.lock();
        let entry = entry(&mut table, address, Instant::now());
        if entry.failed.saturating_add(entry.under_way) >= self.per_window {
            return None;
        }
        entry.under_way += 1;
        Some(Attempt { failures: self, address, forgiven: false })
    }

    /// Whether the address's failures have reached the bound.
    #[must_use]
    pub(crate) fn are_too_many(&self, address: IpAddr) -> bool {
        let mut table = self.lock();
        let entry = entry(&mut table, network(address), Instant::now());
        entry.failed >= self.per_window
    }

    /// Counts a failure. Returns whether the address had reached the bound before.
    pub(crate) fn count(&self, address: IpAddr) -> bool {
        self.count_at(address, Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_at(&self, address: IpAddr, now: Instant) -> bool {
        let mut table = self.lock();
        let entry = entry(&mut table, network(address), now);
        let had_its_share = entry.failed >= self.per_window;
        entry.failed = entry.failed.saturating_add(1);
        had_its_share
    }

    fn end(&self, network: IpAddr, failed: bool) {
        // The entry may have been dropped to make room for others.
        if let Some(entry) = self.lock().get_mut(&network) {
            entry.under_way = entry.under_way.saturating_sub(1);
            entry.failed = entry.failed.saturating_add(u32::from(failed));
        }
    }
}

/// The address's entry, in a window that has not ended.
fn entry(table: &mut HashMap<IpAddr, Entry>, address: IpAddr, now: Instant) -> &mut Entry {
    let is_over = |entry: &Entry| now.saturating_duration_since(entry.began) >= WINDOW;
    if table.len() >= ADDRESSES_MAX && !table.contains_key(&address) {
        table.retain(|_, entry| !is_over(entry) || entry.under_way > 0);
        if table.len() >= ADDRESSES_MAX {
            // Half of them at once, so that making room is cheap on average.
            let mut ages: Vec<Instant> = table.values().map(|entry| entry.began).collect();
            let (_, middle, _) = ages.select_nth_unstable(ADDRESSES_MAX / 2);
            let middle = *middle;
            table.retain(|_, entry| entry.began > middle);
        }
    }
    let entry = table.entry(address).or_insert(Entry { began: now, failed: 0, under_way: 0 });
    if is_over(entry) {
        (entry.began, entry.failed) = (now, 0);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_failures_a_window() {
        let (failures, now) = (FailedAttempts::new(3), Instant::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..3 {
            assert!(!failures.count_at(one, now));
        }
        assert!(failures.count_at(one, now));
        assert!(!failures.count_at(other, now));
        assert!(!failures.count_at(one, now + WINDOW));
    }

    #[test]
    fn attempts_count_from_their_beginning_and_those_that_are_broken_off_have_failed() {
        let (failures, one) = (FailedAttempts::new(3), IpAddr::from([10, 0, 0, 1]));
        let begin = || failures.begin(one);
        let (a, b, c) = (begin().unwrap(), begin().unwrap(), begin().unwrap());
        assert!(begin().is_none());
        a.forgive();
        drop(b);
        let d = begin().unwrap();
        assert!(begin().is_none());
        d.forgive();
        drop(c);
        begin().unwrap().forgive();
        drop(begin());
        assert!(begin().is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, now) = (FailedAttempts::new(1), Instant::now());
        failures.count_at("2001:db8:1:2::1".parse().unwrap(), now);
        assert!(failures.count_at("2001:db8:1:2:ffff::9".parse().unwrap(), now));
        assert!(!failures.count_at("2001:db8:1:3::1".parse().unwrap(), now));
    }

    #[test]
    fn the_table_is_bounded() {
        let (failures, now) = (FailedAttempts::new(1), Instant::now());
        for number in 0..3 * ADDRESSES_MAX {
            // Each a little later, so that there is an oldest half.
            failures.count_at(IpAddr::from((number as u32).to_be_bytes()), now + Duration::from_micros(number as u64));
        }
        assert!(failures.lock().len() <= ADDRESSES_MAX);
    }
}
