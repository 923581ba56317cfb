//! Parameters of a query: read strictly, and each bounded.
//!
//! An unknown parameter is an error, since a misspelt filter that is ignored would show everything. A text has at most
//! [`TEXT_BYTES_MAX`] bytes and no NUL, which PostgreSQL refuses.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use serde::de::DeserializeOwned;

use super::Daemon;
use super::error::ApiError;

/// The longest text parameter, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 512;
/// The longest range that the rollups answer, days: ten years.
pub(crate) const ROLLUP_DAYS_MAX: u64 = 3_660;
/// The most rows of a page.
pub(crate) const LIMIT_MAX: i64 = 10_000;
/// The most rows that can be skipped. Beyond this bound, a narrower filter is needed.
pub(crate) const OFFSET_MAX: i64 = 1_000_000;

/// The query's parameters. `T` denies unknown fields.
pub(crate) struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// The same beside any number of filters by tags: `tag:team=search`. These come apart, with their whole names.
pub(crate) struct TaggedParameters<T>(pub T, pub Vec<(String, String)>);

/// Tags that one request may filter by: as many as a record has.
const TAGS_MAX: usize = tallyd_protocol::limits::TAGS;

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for TaggedParameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let is_tag = |pair: &&str| {
            pair.starts_with("tag:") || pair.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("tag%3a"))
        };
        let (tags, others): (Vec<&str>, Vec<&str>) = parts.uri.query().unwrap_or_default().split('&').partition(is_tag);
        if tags.len() > TAGS_MAX {
            let message = format!("{} tags, at most {TAGS_MAX} are accepted", tags.len());
            return Err(ApiError::parameter("query", message, "no record has more"));
        }
        let tags = query(&tags.join("&"))?;
        Ok(Self(query(&others.join("&"))?, tags))
    }
}

/// The parameters in a query's text.
fn query<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let unreadable = || ApiError::parameter("query", "it cannot be read", "use name=value&name=value, URL-encoded");
    let uri = format!("/?{text}").parse().map_err(|_| unreadable())?;
    Query::<T>::try_from_uri(&uri).map(|Query(parameters)| parameters).map_err(|rejection| match rejection {
        QueryRejection::FailedToDeserializeQueryString(error) => {
            let message = error.body_text();
            let message = message.strip_prefix("Failed to deserialize query string: ").unwrap_or(&message);
            ApiError::parameter("query", message, "/api/docs lists each endpoint's parameters")
        }
        _ => unreadable(),
    })
}

/// The positive number in a path with one parameter.
pub(crate) struct PathNumber<N>(pub N);

impl<S, N> FromRequestParts<S> for PathNumber<N>
where
    S: Send + Sync,
    N: std::str::FromStr + Default + PartialOrd + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Text that is not UTF-8 is not a number either.
        let text = Path::<String>::from_request_parts(parts, state).await.map_or_else(|_| String::new(), |path| path.0);
        let number = text.parse().ok().filter(|number| *number > N::default());
        number.map(Self).ok_or_else(|| ApiError::parameter("id", "not a number of this list", "its rows have an id"))
    }
}

/// The text in a path with one parameter, checked as [`text`] does.
pub(crate) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let name = path.map_err(|_| ApiError::parameter("id", "it is not UTF-8", "write it percent-encoded"))?.0;
        Ok(Self(text("id", Some(name))?.unwrap_or_default()))
    }
}

/// The text, unchanged.
///
/// # Errors
/// If it is too long or has a NUL.
pub(crate) fn text(name: &str, value: Option<String>) -> Result<Option<String>, ApiError> {
    match &value {
        Some(text) if text.len() > TEXT_BYTES_MAX => {
            let message = format!("{} bytes, at most {TEXT_BYTES_MAX} are accepted", text.len());
            Err(ApiError::parameter(name, message, "no stored text is longer"))
        }
        Some(text) if text.contains('\0') => {
            Err(ApiError::parameter(name, "a NUL character", "no stored text has one; leave it out"))
        }
        _ => Ok(value),
    }
}

/// A page's size, from 1 to `max`.
///
/// # Errors
/// If it lies outside.
pub(crate) fn limit(value: Option<i64>, default: i64, max: i64) -> Result<i64, ApiError> {
    within("limit", value.unwrap_or(default), 1, max)
}

/// The number of rows to skip, from 0 to [`OFFSET_MAX`].
///
/// # Errors
/// If it lies outside.
pub(crate) fn offset(value: Option<i64>) -> Result<i64, ApiError> {
    within("offset", value.unwrap_or(0), 0, OFFSET_MAX)
}

/// The value, if it is from `min` to `max`.
///
/// # Errors
/// If it lies outside.
pub(crate) fn within(name: &str, value: i64, min: i64, max: i64) -> Result<i64, ApiError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::parameter(name, format!("{value} is not within {min} and {max}"), "ask for several pages"))
}

/// Today, in the reporting time zone.
#[must_use]
pub(crate) fn today(daemon: &Daemon) -> NaiveDate {
    local_now(daemon).date_naive()
}

#[must_use]
pub(crate) fn local_now(daemon: &Daemon) -> DateTime<tallyd_model::zone::Tz> {
    now(daemon).with_timezone(&daemon.settings.zone)
}

#[must_use]
pub(crate) fn now(daemon: &Daemon) -> DateTime<Utc> {
    // The clock's microseconds lie within the calendar for 250,000 years.
    DateTime::from_timestamp_micros(daemon.clock.now_us()).unwrap_or_default()
}

/// The first and the last day of a range: `days` up to today, or `from` and `to`, both included.
///
/// # Errors
/// If they contradict each other, or the range is longer than `max` days.
pub(crate) fn day_range(
    daemon: &Daemon,
    (days, from, to): (Option<u64>, Option<&str>, Option<&str>),
    default: u64,
    max: u64,
) -> Result<(NaiveDate, NaiveDate), ApiError> {
    let today = today(daemon);
    let hint = "either days=30, or from=2026-01-01&to=2026-01-31 with both days included";
    let to_day = to.map(|to| date("to", to)).transpose()?;
    let back = |end: NaiveDate, days: u64| {
        end.checked_sub_days(Days::new(days - 1))
            .ok_or_else(|| ApiError::parameter("days", "before the calendar", hint))
    };
    let (first, last) = match (days, from) {
        (Some(_), Some(_)) => return Err(ApiError::parameter("days", "it excludes from and to", hint)),
        (Some(_), None) if to.is_some() => return Err(ApiError::parameter("days", "it excludes from and to", hint)),
        (Some(days), None) if days == 0 || days > max => {
            return Err(ApiError::parameter("days", format!("{days} is not within 1 and {max}"), hint));
        }
        (Some(days), None) => (back(today, days)?, today),
        (None, Some(from)) => (date("from", from)?, to_day.unwrap_or(today)),
        (None, None) => {
            let end = to_day.unwrap_or(today);
            (back(end, default)?, end)
        }
    };
    if first > last {
        return Err(ApiError::parameter("from", format!("{first} is after {last}"), hint));
    }
    // Not negative: checked above.
    if (last - first).num_days().unsigned_abs() >= max {
        let message = format!("{first} to {last} is longer than {max} days");
        return Err(ApiError::parameter("from", message, "ask for a shorter range"));
    }
    Ok((first, last))
}

/// A day as `YYYY-MM-DD`, between 2000 and 2199.
///
/// # Errors
/// If it is another text.
pub(crate) fn date(name: &str, text: &str) -> Result<NaiveDate, ApiError> {
    let parsed = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let parsed = parsed.filter(|day| text.len() == 10 && (2000..2200).contains(&day.year()));
    parsed.ok_or_else(|| {
        let text: String = text.chars().take(32).collect();
        ApiError::parameter(
            name,
            format!("{text:?} is not a day between 2000 and 2199"),
            "write YYYY-MM-DD: 2026-01-31",
        )
    })
}

/// An instant in RFC 3339, or a day of the reporting time zone, which stands for its midnight.
///
/// # Errors
/// If it is neither, or of another era.
pub(crate) fn instant(daemon: &Daemon, name: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    if text.len() == 10 {
        let day = date(name, text)?;
        let midnight = day.and_time(chrono::NaiveTime::MIN).and_local_timezone(daemon.settings.zone).earliest();
        // Where clocks skip midnight, the day begins an hour later. UTC's midnight is close enough for a search.
        let midnight = midnight.map(|at| at.to_utc());
        return Ok(midnight.unwrap_or_else(|| day.and_time(chrono::NaiveTime::MIN).and_utc()));
    }
    let parsed = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    parsed.filter(|at| (2000..2200).contains(&at.year())).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        let hint = "write RFC 3339 with a zone (2026-01-31T12:00:00Z; + is %2B in a URL), or YYYY-MM-DD";
        ApiError::parameter(name, format!("{text:?} is not a time between 2000 and 2199"), hint)
    })
}
