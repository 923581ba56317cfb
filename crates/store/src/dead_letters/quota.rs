//! Bounds on the refused records that are kept of a day: per sender, and in total.
//!
//! The bounds are checked in two places. A connection checks the daemon's [`Quota`] before a payload goes into the WAL:
//! beyond the bound only a count is written, so a flood of refusals does not fill the disk. The transaction that writes
//! the letters checks a [`Ledger`] of the database's numbers under a lock, so the bound is exact over restarts, lanes
//! and daemons. The transaction then reports the numbers to [`Quota`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDate};

/// Senders with numbers of their own. Further ones share one entry.
const SENDERS_MAX: usize = 10_000;
/// The entry that senders beyond [`SENDERS_MAX`] share.
pub const OTHER: &str = "(other)";

/// Rows and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaUse {
    /// Rows of `dead_letters`.
    pub rows: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl QuotaUse {
    const fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), bytes: self.bytes.saturating_add(other.bytes) }
    }

    const fn is_within(self, bound: Self) -> bool {
        self.rows <= bound.rows && self.bytes <= bound.bytes
    }

    fn max(self, other: Self) -> Self {
        Self { rows: self.rows.max(other.rows), bytes: self.bytes.max(other.bytes) }
    }

    /// The larger of the two shares; 1 means the whole bound.
    fn share_of(self, bound: Self) -> f64 {
        let share = |used: u64, bound: u64| if bound == 0 { 0.0 } else { used as f64 / bound as f64 };
        share(self.rows, bound.rows).max(share(self.bytes, bound.bytes))
    }
}

/// The bounds of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaBounds {
    /// Bound of one sender.
    pub sender: QuotaUse,
    /// Bound of all senders together.
    pub total: QuotaUse,
}

impl From<&tallyd_config::DeadLetters> for QuotaBounds {
    fn from(config: &tallyd_config::DeadLetters) -> Self {
        Self {
            sender: QuotaUse { rows: config.rows_per_day, bytes: config.bytes_per_day },
            total: QuotaUse { rows: config.total_rows_per_day, bytes: config.total_bytes_per_day },
        }
    }
}

/// The stored numbers of one day.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    total: QuotaUse,
    senders: HashMap<String, QuotaUse>,
}

impl Ledger {
    /// Adds stored numbers of a sender.
    pub fn add(&mut self, sender: &str, kept: QuotaUse) {
        self.total = self.total.plus(kept);
        let of_sender = self.of(sender);
        *of_sender = of_sender.plus(kept);
    }

    /// True if one more record of the sender may be kept; the record is then added.
    pub fn take(&mut self, bounds: &QuotaBounds, sender: &str, bytes: usize) -> bool {
        let record = QuotaUse { rows: 1, bytes: bytes as u64 };
        let total = self.total.plus(record);
        let of_sender = self.of(sender);
        let used = of_sender.plus(record);
        let is_kept = used.is_within(bounds.sender) && total.is_within(bounds.total);
        if is_kept {
            *of_sender = used;
            self.total = total;
        }
        is_kept
    }

    fn of(&mut self, sender: &str) -> &mut QuotaUse {
        let is_known = self.senders.len() < SENDERS_MAX || self.senders.contains_key(sender);
        self.senders.entry(if is_known { sender } else { OTHER }.to_owned()).or_default()
    }

    fn share_of(&self, bounds: &QuotaBounds) -> f64 {
        let senders = self.senders.values().map(|used| used.share_of(bounds.sender));
        senders.fold(self.total.share_of(bounds.total), f64::max)
    }
}

/// Today's refusals of this daemon, including those that are not in the database yet.
pub struct Quota {
    bounds: QuotaBounds,
    today: Mutex<(NaiveDate, Ledger)>,
}

impl Quota {
    /// Starts at zero.
    #[must_use]
    pub fn new(bounds: QuotaBounds) -> Self {
        Self { bounds, today: Mutex::default() }
    }

    /// The bounds.
    #[must_use]
    pub const fn bounds(&self) -> &QuotaBounds {
        &self.bounds
    }

    /// True if the payload of one more refused record may go into the WAL.
    pub fn take(&self, sender: &str, bytes: usize, now_us: i64) -> bool {
        self.with(now_us, |ledger| ledger.take(&self.bounds, sender, bytes))
    }

    /// Updates a day by the database's numbers.
    pub fn learn(&self, day: NaiveDate, found: &Ledger, now_us: i64) {
        if day != day_of(now_us) {
            return;
        }
        self.with(now_us, |ledger| {
            ledger.total = ledger.total.max(found.total);
            for (sender, kept) in &found.senders {
                let of_sender = ledger.of(sender);
                *of_sender = of_sender.max(*kept);
            }
        });
    }

    /// The largest used share of today's bounds; 1 means a whole bound.
    #[must_use]
    pub fn used_ratio(&self, now_us: i64) -> f64 {
        self.with(now_us, |ledger| ledger.share_of(&self.bounds))
    }

    fn with<T>(&self, now_us: i64, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let today = day_of(now_us);
        let mut held = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != today {
            *held = (today, Ledger::default());
        }
        act(&mut held.1)
    }
}

/// The UTC day of an instant.
#[must_use]
pub fn day_of(us: i64) -> NaiveDate {
    DateTime::from_timestamp_micros(us).unwrap_or_default().date_naive()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn bounds(rows: u64, total: u64) -> QuotaBounds {
        let amount = |rows| QuotaUse { rows, bytes: rows * 10 };
        QuotaBounds { sender: amount(rows), total: amount(total) }
    }

    #[test]
    fn a_sender_has_a_bound_all_have_one_and_a_new_day_begins_anew() {
        let quota = Quota::new(bounds(3, 5));
        let taken = |sender: &str, bytes, now_us| (0..10).filter(|_| quota.take(sender, bytes, now_us)).count();
        assert_eq!(taken("a", 1, DAY_US), 3);
        assert_eq!(taken("b", 1, DAY_US), 2, "all together");
        assert!((quota.used_ratio(DAY_US) - 1.0).abs() < 1e-9);
        assert_eq!(quota.used_ratio(2 * DAY_US).to_string(), "0");
        assert_eq!(taken("a", 16, 2 * DAY_US), 1, "by bytes");
        assert_eq!(taken("b", 0, 2 * DAY_US), 3);
    }

    #[test]
    fn what_the_database_has_counts() {
        let quota = Quota::new(bounds(3, 100));
        let mut found = Ledger::default();
        found.add("a", QuotaUse { rows: 2, bytes: 2 });
        quota.learn(day_of(DAY_US), &found, DAY_US);
        quota.learn(day_of(0), &found, DAY_US);
        assert!(quota.take("a", 1, DAY_US));
        assert!(!quota.take("a", 1, DAY_US));
    }

    #[test]
    fn names_without_end_share_an_entry() {
        let mut ledger = Ledger::default();
        let bounds = bounds(2, u64::MAX / 10);
        let kept = (0..SENDERS_MAX + 50).filter(|name| ledger.take(&bounds, &name.to_string(), 1)).count();
        assert_eq!(kept, SENDERS_MAX + 2);
        assert!(ledger.senders.len() <= SENDERS_MAX + 1);
    }
}
