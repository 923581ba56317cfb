//! Days and instants in the forms of files.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime};

use crate::pricing::Usd;

/// The unit of a time that is a bare number since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Epoch {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}

/// Which number of `8/5/2026` is the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum DateOrder {
    /// Month, day, year, as Excel writes in the United States
    Mdy,
    /// Day, month, year
    Dmy,
}

/// 2000-01-01, microseconds since 1970. A smaller number of microseconds is really one of seconds or milliseconds.
const EARLIEST_US: i64 = 946_684_800_000_000;

/// Microseconds since 1970. A time without a zone is UTC; digits below a microsecond are cut off.
///
/// # Errors
/// A message with the correct form.
pub fn instant(text: &str, epoch: Option<Epoch>) -> Result<i64, String> {
    if let Some(number) = number(text, epoch)? {
        return Ok(number);
    }
    // `2026-01-31 12:00:00 UTC`, and Go's `2026-01-31 12:00:00 +0000 UTC`.
    let bare = ["UTC", "GMT", "Z"].iter().find_map(|zone| text.strip_suffix(zone)?.strip_suffix(' '));
    let bare = bare.map(|bare| bare.strip_suffix(" +0000").unwrap_or(bare));
    let local = bare.unwrap_or(text);
    if bare.is_none() {
        let zoned = DateTime::parse_from_rfc3339(text);
        // PostgreSQL's form: a space, and a zone that may have hours only.
        let zoned = zoned.or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
        if let Ok(time) = zoned.or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f %#z")) {
            return Ok(time.timestamp_micros());
        }
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(local, format) {
            return Ok(time.and_utc().timestamp_micros());
        }
    }
    let midnight = NaiveDate::parse_from_str(local, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let time = midnight.ok_or_else(|| {
        format!(
            "{text:?} is not a time: expected RFC 3339, `2026-01-31 12:00:00`, or a number with --epoch s, ms, us or ns"
        )
    })?;
    Ok(time.and_utc().timestamp_micros())
}

fn number(text: &str, epoch: Option<Epoch>) -> Result<Option<i64>, String> {
    let Some(epoch) = epoch else {
        return match text.parse::<i64>() {
            Ok(us) if us.unsigned_abs() < EARLIEST_US.unsigned_abs() => Err(format!(
                "{text} is a time before the year 2000 in microseconds: give --epoch s for seconds, --epoch ms for milliseconds"
            )),
            Ok(us) => Ok(Some(us)),
            Err(_) => Ok(None),
        };
    };
    // An amount's form fits as well: a decimal number with up to 18 decimals.
    let Ok(number) = Usd::parse(text) else { return Ok(None) };
    let per_us = match epoch {
        Epoch::S => 12,
        Epoch::Ms => 15,
        Epoch::Us => 18,
        Epoch::Ns => 21,
    };
    let us = number.attos().div_euclid(10_i128.pow(per_us));
    i64::try_from(us).map(Some).map_err(|_| format!("{text} is a time that no calendar has"))
}

/// The day in a cell: `2026-08-05`, with or without a time; `05.08.2026`; with an order `8/5/2026`; Excel's number of
/// days.
///
/// # Errors
/// A message with the correct form.
pub fn day(text: &str, order: Option<DateOrder>) -> Result<NaiveDate, String> {
    let wrong = || format!("{text:?} is not a date: expected 2026-08-05");
    // Days since 1899-12-30, for the years 2009 to 2064, which include all bills.
    if let Some(days) =
        text.strip_suffix(".0").unwrap_or(text).parse::<u64>().ok().filter(|days| (40_000..60_000).contains(days))
    {
        let first = NaiveDate::from_ymd_opt(1899, 12, 30).ok_or_else(wrong)?;
        return first.checked_add_days(Days::new(days)).ok_or_else(wrong);
    }
    if let Some(date) = text.get(..10).and_then(|date| NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()) {
        return Ok(date);
    }
    let date = text.split([' ', 'T']).next().unwrap_or(text);
    if date.contains('/') {
        let formats = match order {
            Some(DateOrder::Mdy) => ["%m/%d/%Y", "%m/%d/%y"],
            Some(DateOrder::Dmy) => ["%d/%m/%Y", "%d/%m/%y"],
            None => {
                return Err(format!(
                    "{text:?} does not say which number is the month: give --dates mdy or --dates dmy"
                ));
            }
        };
        // %Y reads two digits as a year of the first century.
        let format = if date.rsplit('/').next().is_some_and(|year| year.len() == 4) { formats[0] } else { formats[1] };
        return NaiveDate::parse_from_str(date, format).map_err(|_| wrong());
    }
    NaiveDate::parse_from_str(date, "%d.%m.%Y").map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_to_the_microsecond() {
        let cases = [
            ("2023-11-16 18:15:46.6805900", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.6805909", 1_700_158_546_680_590),
            ("2023-11-16T18:15:46.68059Z", 1_700_158_546_680_590),
            ("2023-11-16T20:15:46.68059+02:00", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.68059+00", 1_700_158_546_680_590),
            ("2023-11-16 20:15:46.68059 +02:00", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.68059 UTC", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.68059 +0000 UTC", 1_700_158_546_680_590),
            ("2023-11-16 18:15:46.68059 Z", 1_700_158_546_680_590),
            ("2023-11-16T18:15:46", 1_700_158_546_000_000),
            ("2023-11-16", 1_700_092_800_000_000),
            ("1700158546680590", 1_700_158_546_680_590),
        ];
        for (text, us) in cases {
            assert_eq!(instant(text, None), Ok(us), "{text}");
        }
        assert!(instant("16.11.2023", None).unwrap_err().starts_with("\"16.11.2023\" is not a time"));
        for text in ["2023-02-30", "2023-11-16 25:00:00", "1.7e9", "2023-11-16 18:15:46 +0200 UTC"] {
            assert!(instant(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_what_the_flag_says() {
        for (text, epoch) in [
            ("1700158546", Epoch::S),
            ("1700158546.0", Epoch::S),
            ("1700158546000", Epoch::Ms),
            ("1700158546000000", Epoch::Us),
            ("1700158546000000999", Epoch::Ns),
        ] {
            assert_eq!(instant(text, Some(epoch)), Ok(1_700_158_546_000_000), "{text}");
        }
        assert_eq!(instant("1700158546.25", Some(Epoch::S)), Ok(1_700_158_546_250_000));
        for seconds in ["1700158546", "1700158546000"] {
            assert!(instant(seconds, None).unwrap_err().contains("--epoch s"), "{seconds}");
        }
        assert_eq!(instant("2023-11-16", Some(Epoch::S)), Ok(1_700_092_800_000_000));
    }

    #[test]
    fn days_are_read_as_spreadsheets_write_them() {
        let fifth = NaiveDate::from_ymd_opt(2026, 8, 5).unwrap();
        for text in [
            "2026-08-05",
            "2026-08-05T13:00:00Z",
            "2026-08-05 00:00:00",
            "05.08.2026",
            "5.8.2026 00:00",
            "46239",
            "46239.0",
        ] {
            assert_eq!(day(text, None), Ok(fifth), "{text}");
        }
        for (text, order) in
            [("8/5/2026", DateOrder::Mdy), ("8/5/26 0:00", DateOrder::Mdy), ("05/08/2026", DateOrder::Dmy)]
        {
            assert_eq!(day(text, Some(order)), Ok(fifth), "{text}");
        }
        assert!(day("8/5/2026", None).unwrap_err().contains("--dates mdy"));
        for text in ["2026-13-01", "", "13/13/2026", "46", "august"] {
            assert!(day(text, Some(DateOrder::Mdy)).is_err(), "{text}");
        }
    }
}
