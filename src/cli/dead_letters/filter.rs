//! The filters of `tallyd dead-letters`.

use anyhow::bail;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::{Args, ValueEnum};

use tallyd_base::clock::{Clock, SystemClock};
use tallyd_store::dead_letters::Filter;

/// Flags that choose letters. A letter must fit all of the given flags.
#[derive(Args)]
pub(super) struct FilterArgs {
    /// These letters, by number
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// With this reason (missing, type, unknown_field, range, too_long, nul … or a poison row's SQLSTATE); several with
    /// commas between
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    code: Vec<String>,
    /// Refused by the daemon, or by PostgreSQL (poison)
    #[arg(long)]
    kind: Option<Kind>,
    /// Whose record names this provider
    #[arg(long)]
    provider: Option<String>,
    /// Whose field at fault is this one
    #[arg(long)]
    field: Option<String>,
    /// Sent by this producer
    #[arg(long)]
    producer: Option<String>,
    /// Written since then: RFC 3339, a date (UTC), or so long ago: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Written before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Refused,
    Poison,
}

impl FilterArgs {
    /// Unsettled letters that match the arguments.
    ///
    /// # Errors
    /// If the arguments exclude every letter.
    pub(super) fn filter(&self) -> anyhow::Result<Filter> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            bail!("--since {since} is not before --until {until}");
        }
        Ok(Filter {
            ids: self.ids.clone(),
            codes: self.code.clone(),
            kind: self.kind.map(|kind| if kind == Kind::Refused { "refused".into() } else { "poison".into() }),
            field: self.field.clone(),
            producer: self.producer.clone(),
            provider: self.provider.clone(),
            since: self.since,
            until: self.until,
            settled: false,
        })
    }

    /// As [`Self::filter`], for commands that must not apply to every letter by mistake.
    ///
    /// # Errors
    /// If no argument was given.
    pub(super) fn required(&self, what: &str) -> anyhow::Result<Filter> {
        let is_any = self.ids.is_empty()
            && self.code.is_empty()
            && self.kind.is_none()
            && self.provider.is_none()
            && self.producer.is_none()
            && self.field.is_none()
            && self.since.is_none()
            && self.until.is_none();
        if is_any {
            bail!("which letters? Give numbers or a filter; `tallyd dead-letters {what} --since 2000-01-01` means all");
        }
        self.filter()
    }
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let now = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    ago(text).and_then(|ago| now.checked_sub_signed(ago)).ok_or_else(|| {
        format!("{text:?} is not a time: expected 2026-11-23T10:00:00Z, 2026-11-23, or 90m, 24h, 7d for so long ago")
    })
}

fn ago(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back()?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().ok().filter(|number| *number >= 0)?;
    match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        assert_eq!(time("2026-11-23").unwrap().to_rfc3339(), "2026-11-23T00:00:00+00:00");
        assert_eq!(time("2026-11-23T10:00:00+02:00").unwrap().to_rfc3339(), "2026-11-23T08:00:00+00:00");
        assert_eq!(ago("90m"), TimeDelta::try_minutes(90));
        assert_eq!(ago("7d"), TimeDelta::try_days(7));
        for text in ["", "d", "-1d", "7", "7w", "1e3h", "é", "9999999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
