//! Quiet hours: the part of each day in which messages that are not urgent wait.

use std::fmt;

use crate::zone::Tz;
use chrono::{DateTime, Days, Duration, NaiveTime, TimeZone, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// From one time of the day to another, `22:00-07:00`, by the clocks of the reporting time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: NaiveTime,
    to: NaiveTime,
}

impl QuietHours {
    /// Reads `22:00-07:00`. None for another form, or if both times are equal.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (clock(from)?, clock(to)?);
        (from != to).then_some(Self { from, to })
    }

    /// The end of the quiet hours that `now` is in. None outside of them.
    #[must_use]
    pub fn end_after(&self, now: &DateTime<Tz>) -> Option<DateTime<Utc>> {
        let (date, time) = (now.date_naive(), now.time());
        let over_midnight = self.from > self.to;
        let is_quiet =
            if over_midnight { time >= self.from || time < self.to } else { time >= self.from && time < self.to };
        if !is_quiet {
            return None;
        }
        let date = if over_midnight && time >= self.from { date + Days::new(1) } else { date };
        let local = date.and_time(self.to);
        let zone = now.timezone();
        // A time that the clocks skip in spring comes an hour later.
        let end = zone.from_local_datetime(&local).earliest();
        let end = end.or_else(|| zone.from_local_datetime(&(local + Duration::hours(1))).earliest())?;
        Some(end.with_timezone(&Utc))
    }
}

/// A time of the day: `07:00`.
#[must_use]
pub fn clock(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text.trim(), "%H:%M").ok()
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.format("%H:%M"), self.to.format("%H:%M"))
    }
}

impl Serialize for QuietHours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            de::Error::custom(format_args!("{text:?} is not a part of the day; write two times, such as 22:00-07:00"))
        };
        Self::parse(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(quiet: &str, zone: Tz, now: &str) -> Option<String> {
        let now: DateTime<Utc> = now.parse().unwrap();
        let end = QuietHours::parse(quiet).unwrap().end_after(&now.with_timezone(&zone))?;
        Some(end.format("%m-%d %H:%M").to_string())
    }

    #[test]
    fn quiet_hours_end_in_the_morning_of_the_zone_also_when_its_clocks_change() {
        let berlin = "Europe/Berlin".parse::<crate::zone::Tz>().unwrap();
        assert_eq!(end("22:00-07:00", berlin, "2026-06-01T19:59:59Z"), None);
        assert_eq!(end("22:00-07:00", berlin, "2026-06-01T20:00:00Z").as_deref(), Some("06-02 05:00"));
        assert_eq!(end("22:00-07:00", berlin, "2026-06-02T04:59:59Z").as_deref(), Some("06-02 05:00"));
        assert_eq!(end("22:00-07:00", berlin, "2026-06-02T05:00:00Z"), None);
        assert_eq!(end("12:00-13:30", berlin, "2026-01-05T11:10:00Z").as_deref(), Some("01-05 12:30"));
        // The clocks skip 02:00 to 03:00, and go back from 03:00 to 02:00.
        assert_eq!(end("22:00-02:30", berlin, "2026-03-28T22:00:00Z").as_deref(), Some("03-29 01:30"));
        assert_eq!(end("22:00-07:00", berlin, "2026-10-24T22:00:00Z").as_deref(), Some("10-25 06:00"));
        for wrong in ["", "22:00", "22-07", "25:00-07:00", "07:00-07:00"] {
            assert_eq!(QuietHours::parse(wrong), None, "{wrong}");
        }
        let text = r#""22:00-07:00""#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<QuietHours>(text).unwrap()).unwrap(), text);
    }
}
