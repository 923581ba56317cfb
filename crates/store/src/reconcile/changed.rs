//! The same proof for days that have changed since they were proven.
//!
//! ## Comparison
//! `tallyd_proven_days` has the fingerprint of each day whose rollups equalled the call log: sums of that day's rows in each rollup. Every operation
//! that writes calls of a day changes its rollups in the same transaction, and so the fingerprint. A day with the fingerprint of its proof is not
//! read from the call log again. Lifetime totals are compared with the sums of all days, by fingerprint too.
//!
//! ## The fingerprint
//! For each rollup by day, sums of the measures, and sums of calls and costs that are weighted by a hash of the row's key: they tell to
//! which keys the sums belong. All are linear, so a merge of users' deltas, which adds rows together, does not change them.
//!
//! ## Limit
//! A change of the call log by hand is not found if the rollups of its day stay the same. [`super::reconcile`] reads everything.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::{Days, Difference, MAX_DIFFERENCES, ReconcileError, compare_list, compare_rollup, one_state};
use crate::rollups::{MEASURES, Period, ROLLUPS, Rollup, TOTALS, USERS};

/// The outcome of comparing changed days with the call log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedDays {
    /// Whether all rollups of these days equal the call log, and the lifetime totals the days.
    pub equal: bool,
    /// Days that were read.
    pub days_read: usize,
    /// Days that have not changed since they were proven.
    pub days_unchanged: usize,
    /// How many values differ.
    pub difference_count: i64,
    /// The first [`MAX_DIFFERENCES`] of them.
    pub differences: Vec<Difference>,
}

/// Compares the rollups of changed days with the call log, and notes which days are proven now.
///
/// # Errors
/// [`ReconcileError`]; never because of a difference.
pub async fn reconcile_changed(client: &mut Client) -> Result<ChangedDays, ReconcileError> {
    let (transaction, zone) = one_state(client, false).await?;
    let days = fingerprints(&transaction, &zone).await?;
    let changed: Vec<&Day> = days.iter().filter(|day| !day.is_proven).collect();
    let (mut differences, mut difference_count) = (Vec::new(), 0);
    for run in runs(changed.iter().map(|day| day.day)) {
        let mut found = 0;
        for rollup in ROLLUPS.iter().filter(|rollup| rollup.period().is_some()) {
            found += compare_rollup(&transaction, rollup, &zone, Some(&run), &mut differences).await?;
        }
        if found == 0 {
            let proven = changed.iter().filter(|day| (run.first..=run.last).contains(&day.day));
            prove(&transaction, proven.copied()).await?;
        }
        difference_count += found;
    }
    difference_count += compare_totals(&transaction, &mut differences).await?;
    difference_count += compare_list(&transaction, &mut differences).await?;
    transaction.commit().await?;
    Ok(ChangedDays {
        equal: difference_count == 0,
        days_read: changed.len(),
        days_unchanged: days.len() - changed.len(),
        difference_count,
        differences,
    })
}

/// A day of the rollups.
struct Day {
    day: NaiveDate,
    fingerprint: String,
    is_proven: bool,
}

/// The days of all rollups, in order.
async fn fingerprints(transaction: &Transaction<'_>, zone: &str) -> Result<Vec<Day>, tokio_postgres::Error> {
    let each = ROLLUPS.iter().filter_map(|rollup| {
        let day = match rollup.period()? {
            Period::Day => "day",
            Period::Hour => "(hour AT TIME ZONE $1)::date AS day",
        };
        Some(format!(
            "SELECT {day}, '{}' AS name, {} AS sums FROM public.{} GROUP BY 1",
            rollup.name,
            weighed(rollup),
            parts(rollup)
        ))
    });
    // Each alone and then together: if some are distributed, the coordinator adds them up.
    let sql = format!(
        "WITH sums AS MATERIALIZED ({}) SELECT day, md5(string_agg(name || ' ' || sums, ' ' ORDER BY name) || $1) FROM sums GROUP BY day",
        each.collect::<Vec<_>>().join(" UNION ALL "),
    );
    let found = transaction.query_typed(&sql, &[(&zone, Type::TEXT)]).await?;
    let proven = transaction.query_typed("SELECT day, fingerprint FROM public.tallyd_proven_days", &[]).await?;
    let proven: BTreeMap<NaiveDate, &str> = proven.iter().map(|row| (row.get(0), row.get(1))).collect();
    // A proven day without a row in any rollup has changed, too: its fingerprint is empty now.
    let mut days: BTreeMap<NaiveDate, String> = proven.keys().map(|day| (*day, String::new())).collect();
    days.extend(found.iter().map(|row| (row.get(0), row.get(1))));
    let is_proven = |day, fingerprint: &String| proven.get(&day) == Some(&fingerprint.as_str());
    let day = |(day, fingerprint)| Day { day, is_proven: is_proven(day, &fingerprint), fingerprint };
    Ok(days.into_iter().map(day).collect())
}

/// Where a rollup's rows are, several a key for those by user.
fn parts(rollup: &Rollup) -> &'static str {
    match rollup.name {
        name if name == USERS.name => "tallyd_user_day_parts",
        name if name == TOTALS.name => "tallyd_user_total_parts",
        name => name,
    }
}

/// The fingerprint of rows of a rollup, as text: each sum without zeros at its end, which differ by the order of adding.
fn weighed(rollup: &Rollup) -> String {
    let key = |(name, _): &(&'static str, &str)| match *name {
        "day" => None,
        // Its text would depend on the session's zone.
        "hour" => Some("extract(epoch FROM hour)::int8"),
        name => Some(name),
    };
    let keys: Vec<&str> = rollup.keys.iter().filter_map(key).collect();
    let hash = format!("hashtextextended(concat_ws(chr(1), {}), 0)", keys.join(", "));
    let plain = MEASURES.iter().map(|(name, _)| format!("sum({name}::numeric)"));
    let weighed = ["calls", "cost_usd"].map(|name| format!("sum({hash}::numeric * {name})"));
    let sums: Vec<String> = plain.chain(weighed).map(|sum| format!("trim_scale({sum})")).collect();
    format!("concat_ws(' ', {})", sums.join(", "))
}

/// Days as stretches that follow one another within a month: each is read at once, and proven at once.
fn runs(days: impl Iterator<Item = NaiveDate>) -> Vec<Days> {
    let mut runs: Vec<Days> = Vec::new();
    for day in days {
        match runs.last_mut() {
            Some(run) if run.last.succ_opt() == Some(day) && run.last.month() == day.month() => run.last = day,
            _ => runs.push(Days { first: day, last: day }),
        }
    }
    runs
}

/// Notes that days are proven.
async fn prove<'d>(
    transaction: &Transaction<'_>,
    days: impl Iterator<Item = &'d Day>,
) -> Result<(), tokio_postgres::Error> {
    let (days, fingerprints): (Vec<NaiveDate>, Vec<&str>) = days.map(|day| (day.day, day.fingerprint.as_str())).unzip();
    let sql = "INSERT INTO public.tallyd_proven_days (day, fingerprint) SELECT * FROM unnest($1::date[], $2::text[]) \
        ON CONFLICT (day) DO UPDATE SET fingerprint = excluded.fingerprint, proven_at = excluded.proven_at";
    transaction.query_typed(sql, &[(&days, Type::DATE_ARRAY), (&fingerprints, Type::TEXT_ARRAY)]).await.map(drop)
}

/// Compares the lifetime totals with the sums of the days, user by user, by fingerprint.
async fn compare_totals(
    transaction: &Transaction<'_>,
    differences: &mut Vec<Difference>,
) -> Result<i64, tokio_postgres::Error> {
    let sums = format!("SELECT {} FROM public.", weighed(TOTALS));
    let mut sides = Vec::new();
    for rollup in [TOTALS, USERS] {
        let rows = transaction.query_typed(&format!("{sums}{}", parts(rollup)), &[]).await?;
        sides.push(rows.first().map_or_else(String::new, |row| row.get(0)));
    }
    if sides[0] == sides[1] {
        return Ok(0);
    }
    let log = sides.pop();
    if differences.len() < MAX_DIFFERENCES {
        differences.push(Difference {
            table: TOTALS.name,
            key: "all users, compared with the sums of daily_user_api_costs".into(),
            column: "fingerprint".into(),
            rollup: sides.pop(),
            log,
        });
    }
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_follow_one_another_are_read_together() {
        let day = |number| NaiveDate::from_ymd_opt(2026, 2, number).unwrap();
        let run = |first, last| Days { first: day(first), last: day(last) };
        assert_eq!(runs([1, 2, 3, 5, 27, 28].map(day).into_iter()), [run(1, 3), run(5, 5), run(27, 28)]);
        let march = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        assert_eq!(runs([day(28), march].into_iter()), [run(28, 28), Days { first: march, last: march }]);
        assert!(runs(std::iter::empty()).is_empty());
    }
}
