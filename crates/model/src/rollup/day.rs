//! The day and the hour of the reporting time zone at an instant.

use crate::zone::Tz;
use chrono::{DateTime, NaiveDate, Offset};

/// Every offset in force since 2015 is a multiple of this, so a slot lies within one hour of one day.
const SLOT_US: i64 = 15 * 60 * 1_000_000;
const HOUR_US: i64 = 4 * SLOT_US;

/// Finds days and hours. Remembers the last slot, because a batch's records are close together.
#[derive(Debug, Clone)]
pub struct Days {
    zone: Tz,
    slot: i64,
    place: (NaiveDate, i64),
}

impl Days {
    /// Days of a time zone.
    #[must_use]
    pub fn new(zone: Tz) -> Self {
        Self { zone, slot: 0, place: place_of(0, zone) }
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> Tz {
        self.zone
    }

    /// The day of an instant, given in microseconds since 1970.
    #[inline]
    pub fn of(&mut self, us: i64) -> NaiveDate {
        self.with_hour(us).0
    }

    /// The day of an instant, and the beginning of its hour by that zone's clocks, both instants in microseconds since
    /// 1970. Some zones' hours begin at other times than those of UTC. Same as PostgreSQL's
    /// `date_trunc('hour', at, zone)`.
    #[inline]
    pub fn with_hour(&mut self, us: i64) -> (NaiveDate, i64) {
        let slot = us.div_euclid(SLOT_US);
        if slot != self.slot {
            self.slot = slot;
            self.place = place_of(us, self.zone);
        }
        self.place
    }
}

fn place_of(us: i64, zone: Tz) -> (NaiveDate, i64) {
    // Admitted records are between 2015 and now. An invalid instant would be a bug, and counts as the first day.
    let local = DateTime::from_timestamp_micros(us).unwrap_or_default().with_timezone(&zone);
    let offset_us = i64::from(local.offset().fix().local_minus_utc()) * 1_000_000;
    (local.date_naive(), us - (us + offset_us).rem_euclid(HOUR_US))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Tz {
        name.parse().unwrap()
    }

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn days_begin_at_local_midnight_also_when_clocks_change() {
        let cases = [
            (Tz::UTC, "2026-03-08T23:59:59.999999Z", "2026-03-08"),
            (Tz::UTC, "2026-03-09T00:00:00Z", "2026-03-09"),
            (zone("Asia/Kolkata"), "2026-03-08T18:29:59Z", "2026-03-08"),
            (zone("Asia/Kolkata"), "2026-03-08T18:30:00Z", "2026-03-09"),
            (zone("Asia/Kathmandu"), "2026-03-08T18:14:59Z", "2026-03-08"),
            (zone("Asia/Kathmandu"), "2026-03-08T18:15:00Z", "2026-03-09"),
            // New York goes from UTC-5 to UTC-4 on 8 March 2026.
            (zone("America/New_York"), "2026-03-08T04:59:59Z", "2026-03-07"),
            (zone("America/New_York"), "2026-03-08T05:00:00Z", "2026-03-08"),
            (zone("America/New_York"), "2026-03-09T03:59:59Z", "2026-03-08"),
            (zone("America/New_York"), "2026-03-09T04:00:00Z", "2026-03-09"),
        ];
        for (zone, instant, day) in cases {
            assert_eq!(Days::new(zone).of(us(instant)).to_string(), day, "{zone} {instant}");
        }
        let york = zone("America/New_York");
        let mut days = Days::new(york);
        for (_, instant, day) in cases.iter().filter(|(zone, ..)| *zone == york) {
            assert_eq!(days.of(us(instant)).to_string(), *day, "with memory: {instant}");
        }
    }

    #[test]
    fn hours_begin_with_those_of_the_zone() {
        for (zone, instant, hour) in [
            (Tz::UTC, "2026-03-08T23:59:59.999999Z", "2026-03-08T23:00:00Z"),
            (zone("Asia/Kolkata"), "2026-03-08T18:29:59Z", "2026-03-08T17:30:00Z"),
            (zone("Asia/Kathmandu"), "2026-03-08T18:15:00Z", "2026-03-08T18:15:00Z"),
            // The clocks go from 2:00 to 3:00.
            (zone("America/New_York"), "2026-03-08T06:59:59Z", "2026-03-08T06:00:00Z"),
            (zone("America/New_York"), "2026-03-08T07:00:00Z", "2026-03-08T07:00:00Z"),
        ] {
            let day = Days::new(zone).of(us(instant));
            assert_eq!(Days::new(zone).with_hour(us(instant)), (day, us(hour)), "{zone} {instant}");
        }
    }
}
