//! The sums of many windows: one statement a rollup for all rules, and a statement for each user, whose rows are
//! on one of Citus' nodes.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Timelike, Utc};
use tallyd_model::zone::Tz;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::rule::{NewRule, Window};
use super::value::{Measured, WindowSums};
use crate::budgets::Budget;
use crate::queries::grouped::Dimension;

/// A window's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calls {
    pub window: Window,
    pub provider: String,
    /// The model, or its family without the date.
    pub model: String,
    pub user: String,
    /// A dimension; empty without one.
    pub dimension: String,
    pub value: String,
}

impl Calls {
    /// The calls of a rule's filter.
    pub(super) fn of_rule(rule: &NewRule, window: Window) -> Self {
        let (dimension, value) = rule.dimension().unwrap_or_default();
        let [provider, model, user, dimension, value] =
            [rule.of("provider"), rule.of("model"), rule.of("user"), dimension, value].map(str::to_owned);
        Self { window, provider, model, user, dimension, value }
    }

    /// The calls of a budget. None if the rollup by hour does not tell them apart.
    pub(super) fn of_budget(budget: &Budget, window: Window) -> Option<Self> {
        let key = budget.scope.key();
        let user = budget.scope.of(&Dimension::User).to_owned();
        let value = if user.is_empty() { key.value } else { "" };
        if window.in_hours && !key.value.is_empty() {
            return None;
        }
        let [provider, model, dimension, value] = [key.provider, key.model, key.dimension, value].map(str::to_owned);
        Some(Self { window, provider, model, user, dimension, value })
    }

    pub(super) fn source(&self) -> Source {
        match self {
            _ if self.window.in_hours => Source::Hours,
            _ if !self.user.is_empty() => Source::Users,
            _ if !self.dimension.is_empty() => Source::Dimensions,
            _ => Source::Days,
        }
    }
}

/// A rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Hours,
    Days,
    Dimensions,
    Users,
}

/// A model of `r.model`, alone or with a date.
const OF_MODEL: &str = "(r.model = '' OR m.model = r.model OR (left(m.model, length(r.model)) = r.model \
    AND substr(m.model, length(r.model) + 1) ~ '^([-@]20[0-9]{6}|-20[0-9]{2}-[0-9]{2}-[0-9]{2})$'))";

impl Source {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Hours => "hourly_api_costs",
            Self::Days => "daily_api_costs",
            Self::Dimensions => "daily_dimension_costs",
            Self::Users => "tallyd_user_day_parts",
        }
    }

    pub(super) fn time(self) -> &'static str {
        if self == Self::Hours { "hour" } else { "day" }
    }

    /// The condition of the calls `r` on rows `m`.
    pub(super) fn condition(self) -> String {
        let provider = "(r.provider = '' OR m.provider = r.provider)";
        match self {
            Self::Hours | Self::Days => format!("{provider} AND {OF_MODEL}"),
            Self::Dimensions => {
                format!("m.dimension = r.dimension AND m.value = r.value AND {provider} AND {OF_MODEL}")
            }
            // Its statements name the user themselves.
            Self::Users => String::new(),
        }
    }

    /// The name of a part of the calls.
    pub(super) fn part(self) -> &'static str {
        if self == Self::Users { "m.provider" } else { "CASE m.model WHEN '' THEN m.provider ELSE m.model END" }
    }
}

/// When a window of hours, or of days, begins.
pub(super) fn begins(window: Window, now: &DateTime<Tz>) -> (DateTime<Utc>, NaiveDate) {
    let past = i64::from(now.minute() * 60 + now.second());
    let hour = *now - TimeDelta::seconds(past) - TimeDelta::nanoseconds(i64::from(now.nanosecond() % 1_000_000_000));
    let hours = TimeDelta::hours(i64::from(window.size - 1));
    let days = Days::new(u64::from(window.size.unsigned_abs()) - 1);
    ((hour - hours).with_timezone(&Utc), now.date_naive() - days)
}

/// The window that begins an hour or a day earlier.
fn wider(window: Window) -> Window {
    Window { size: window.size + 1, ..window }
}

/// The sums of each of these calls, in their order.
pub(super) async fn measure(client: &Client, asked: &[Calls], now: &DateTime<Tz>) -> Result<Vec<Measured>, Error> {
    let mut found = vec![Measured::default(); asked.len()];
    for source in [Source::Hours, Source::Days, Source::Dimensions] {
        let group: Vec<_> = asked.iter().enumerate().filter(|(_, calls)| calls.source() == source).collect();
        if !group.is_empty() {
            at_once(client, source, &group, now, &mut found).await?;
        }
    }
    for (at, calls) in asked.iter().enumerate().filter(|(_, calls)| calls.source() == Source::Users) {
        found[at] = of_user(client, calls, now).await?;
    }
    Ok(found)
}

/// Sums of the rows `m` from `from` on, and of all.
fn both(time: &str, from: &str) -> String {
    let sums = |filter: &str| {
        let tokens = "m.input_tokens + m.output_tokens + m.cache_read_tokens + m.cache_write_5m_tokens + m.cache_write_1h_tokens";
        let counts = ["m.calls", "m.errors", tokens, "m.unpriced_calls"];
        let counts: Vec<String> =
            counts.iter().map(|count| format!("coalesce(sum(({count})::numeric){filter}, 0)")).collect();
        format!("{}, round(coalesce(sum(m.cost_usd){filter}, 0), 18)", counts.join(", "))
    };
    format!("{}, {}", sums(&format!(" FILTER (WHERE m.{time} >= {from})")), sums(""))
}

fn measured(row: &Row, at: usize) -> Result<Measured, Error> {
    let sums = |at: usize| -> Result<WindowSums, Error> {
        Ok(WindowSums {
            calls: row.try_get(at)?,
            errors: row.try_get(at + 1)?,
            tokens: row.try_get(at + 2)?,
            unpriced: row.try_get(at + 3)?,
            cost: row.try_get(at + 4)?,
        })
    };
    Ok(Measured { now: sums(at)?, wider: sums(at + 5)? })
}

async fn at_once(
    client: &Client,
    source: Source,
    group: &[(usize, &Calls)],
    now: &DateTime<Tz>,
    found: &mut [Measured],
) -> Result<(), Error> {
    let (time, table) = (source.time(), source.table());
    let kind = if source == Source::Hours { "timestamptz" } else { "date" };
    let sql = format!(
        "SELECT r.place, s.* FROM unnest($1::int4[], $2::{kind}[], $3::{kind}[], $4::text[], $5::text[], $6::text[], $7::text[]) \
            AS r (place, since, wide_since, provider, model, dimension, value) \
         CROSS JOIN LATERAL (SELECT {} FROM public.{table} AS m WHERE m.{time} >= r.wide_since AND {}) AS s",
        both(time, "r.since"),
        source.condition()
    );
    let places: Vec<i32> = (0..).take(group.len()).collect();
    let begin = |widen: fn(Window) -> Window| group.iter().map(move |(_, calls)| begins(widen(calls.window), now));
    let (hours, days): (Vec<_>, Vec<_>) = begin(|window| window).unzip();
    let (wide_hours, wide_days): (Vec<_>, Vec<_>) = begin(wider).unzip();
    let times: [(&(dyn ToSql + Sync), Type); 2] = if source == Source::Hours {
        [(&hours, Type::TIMESTAMPTZ_ARRAY), (&wide_hours, Type::TIMESTAMPTZ_ARRAY)]
    } else {
        [(&days, Type::DATE_ARRAY), (&wide_days, Type::DATE_ARRAY)]
    };
    let texts = |of: fn(&Calls) -> &str| group.iter().map(|(_, calls)| of(calls)).collect::<Vec<&str>>();
    let filters = [texts(|c| &c.provider), texts(|c| &c.model), texts(|c| &c.dimension), texts(|c| &c.value)];
    let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&places, Type::INT4_ARRAY)];
    parameters.extend(times);
    parameters.extend(filters.iter().map(|texts| (texts as &(dyn ToSql + Sync), Type::TEXT_ARRAY)));
    for row in client.query_typed(&sql, &parameters).await? {
        let place = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
        if let Some((at, _)) = group.get(place) {
            found[*at] = measured(&row, 1)?;
        }
    }
    Ok(())
}

async fn of_user(client: &Client, calls: &Calls, now: &DateTime<Tz>) -> Result<Measured, Error> {
    let sql = format!(
        "SELECT {} FROM public.tallyd_user_day_parts AS m \
         WHERE m.user_id = $3 AND m.day >= $2 AND ($4 = '' OR m.provider = $4)",
        both("day", "$1")
    );
    let (since, wide_since) = (begins(calls.window, now).1, begins(wider(calls.window), now).1);
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&since, Type::DATE), (&wide_since, Type::DATE), (&calls.user, Type::TEXT), (&calls.provider, Type::TEXT)];
    // An aggregate always returns one row.
    let rows = client.query_typed(&sql, &parameters).await?;
    rows.first().map_or_else(|| Ok(Measured::default()), |row| measured(row, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_full_hours_and_midnights_of_the_zone() {
        let now: DateTime<Utc> = "2026-06-03T00:40:12.5Z".parse().unwrap();
        let begin = |window: &str, zone: Tz| begins(Window::parse(window).unwrap(), &now.with_timezone(&zone));
        let (hour, day) = begin("1h", "Asia/Kolkata".parse::<tallyd_model::zone::Tz>().unwrap());
        assert_eq!((hour.to_rfc3339(), day.to_string()), ("2026-06-03T00:30:00+00:00".into(), "2026-06-03".into()));
        assert_eq!(begin("24h", tallyd_model::zone::Tz::UTC).0.to_rfc3339(), "2026-06-02T01:00:00+00:00");
        assert_eq!(
            begin("7d", "America/New_York".parse::<tallyd_model::zone::Tz>().unwrap()).1.to_string(),
            "2026-05-27"
        );
    }
}
