//! Which day of the reporting time zone an instant belongs to.

use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;

/// Every offset that has been in force since 2015 is a multiple of this, so a slot lies within one day.
const SLOT_US: i64 = 15 * 60 * 1_000_000;

/// Finds days. Remembers the last slot: a batch's records lie close together.
#[derive(Debug, Clone)]
pub struct Days {
    zone: Tz,
    slot: i64,
    day: NaiveDate,
}

impl Days {
    /// Days of a time zone.
    #[must_use]
    pub fn new(zone: Tz) -> Self {
        Self { zone, slot: 0, day: day_of(0, zone) }
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> Tz {
        self.zone
    }

    /// The day of an instant, given in microseconds since 1970.
    #[inline]
    pub fn of(&mut self, us: i64) -> NaiveDate {
        let slot = us.div_euclid(SLOT_US);
        if slot != self.slot {
            self.slot = slot;
            self.day = day_of(us, self.zone);
        }
        self.day
    }
}

fn day_of(us: i64, zone: Tz) -> NaiveDate {
    // Admitted records lie between 2015 and now; anything else would be a defect, and shows as the first day.
    DateTime::from_timestamp_micros(us).unwrap_or_default().with_timezone(&zone).date_naive()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn days_begin_at_local_midnight_also_when_clocks_change() {
        let cases = [
            (Tz::UTC, "2026-03-08T23:59:59.999999Z", "2026-03-08"),
            (Tz::UTC, "2026-03-09T00:00:00Z", "2026-03-09"),
            (Tz::Asia__Kolkata, "2026-03-08T18:29:59Z", "2026-03-08"),
            (Tz::Asia__Kolkata, "2026-03-08T18:30:00Z", "2026-03-09"),
            (Tz::Asia__Kathmandu, "2026-03-08T18:14:59Z", "2026-03-08"),
            (Tz::Asia__Kathmandu, "2026-03-08T18:15:00Z", "2026-03-09"),
            // New York goes from UTC-5 to UTC-4 on 8 March 2026.
            (Tz::America__New_York, "2026-03-08T04:59:59Z", "2026-03-07"),
            (Tz::America__New_York, "2026-03-08T05:00:00Z", "2026-03-08"),
            (Tz::America__New_York, "2026-03-09T03:59:59Z", "2026-03-08"),
            (Tz::America__New_York, "2026-03-09T04:00:00Z", "2026-03-09"),
        ];
        for (zone, instant, day) in cases {
            assert_eq!(Days::new(zone).of(us(instant)).to_string(), day, "{zone} {instant}");
        }
        let mut days = Days::new(Tz::America__New_York);
        for (_, instant, day) in cases.iter().filter(|(zone, ..)| *zone == Tz::America__New_York) {
            assert_eq!(days.of(us(instant)).to_string(), *day, "with memory: {instant}");
        }
    }
}
