//! The steps of a repricing, each one transaction.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::job::{Job, Step};
use super::preview::{sum, zone};
use super::row::{Decision, LogRow, instant, select, wanted};
use super::sums::Sums;
use super::{RepriceError, RepriceOptions, digest};
use crate::queries::audit::Actor;
use crate::retry::{may_pass, persistently};
use crate::user_deltas::Side;
use crate::{dimensions, rollup_upserts};
use tallyd_model::pricing::{Catalog, Usd};
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::measures::Measures;

/// Rows that are fetched and updated at once.
const FETCH_ROWS: usize = 10_000;
/// Width of the first slice, and the largest one: an hour in microseconds.
const FIRST_US: i64 = 3_600_000_000;
const WIDEST_US: i64 = 31 * 24 * FIRST_US;

/// Progress of a job, and the totals of one run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Progress {
    /// The job.
    pub job: i64,
    /// True if an earlier run had begun it.
    pub resumed: bool,
    /// Everything before it is done. Microseconds since 1970 UTC.
    pub position_us: i64,
    /// Calls that were read by this run.
    pub read: u64,
    /// Calls that this run has changed.
    pub changed: u64,
    /// Of those, the ones that were unpriced.
    pub priced: u64,
    /// The change of the sum of all costs by this run.
    pub difference_usd: Usd,
}

/// Prices the period anew; continues an earlier run of the same scope and prices. `go_on` is called after each
/// committed step but the last. If it returns false, the job stops there, and another call continues it.
///
/// # Errors
/// [`RepriceError`]. Another call continues the job.
pub async fn reprice(
    client: &Client,
    catalog: &Catalog,
    options: &RepriceOptions,
    by: &Actor<'_>,
    mut go_on: impl FnMut(&Progress) -> bool,
) -> Result<Progress, RepriceError> {
    let days = Days::new(zone(client).await?);
    let mut job = Job::take(client, options, &digest(catalog), by).await?;
    let mut progress =
        Progress { job: job.id, resumed: job.resumed, position_us: job.position_us, ..Progress::default() };
    let mut width_us = first_width(options.batch_rows, job.position_us - options.from_us, job.read);
    loop {
        let to_us = job.position_us.saturating_add(width_us).min(options.to_us);
        let step = persistent_step(client, (catalog, options, by), &job, &days, to_us).await?;
        job.position_us = to_us;
        progress.position_us = to_us;
        progress.read += step.read;
        progress.changed += step.changed;
        progress.priced += step.priced;
        progress.difference_usd = sum(progress.difference_usd, step.difference);
        if to_us >= options.to_us || !go_on(&progress) {
            return Ok(progress);
        }
        width_us = next_width(options.batch_rows, width_us, step.read);
    }
}

/// The width of a run's first slice: at most an hour. Less where earlier runs of the job have read more calls an hour: over HTTP a
/// run works for some seconds, so each would begin with a slice that is far too wide.
fn first_width(batch_rows: u32, done_us: i64, read: u64) -> i64 {
    let batch = i64::from(batch_rows);
    let first = FIRST_US.min(batch.saturating_mul(1_000_000)).max(1);
    let usual = i128::from(done_us) * i128::from(batch) / i128::from(read.max(1));
    if read == 0 { first } else { i64::try_from(usual).unwrap_or(first).clamp(1, first) }
}

/// The next slice's width, so that a slice has about the requested number of calls for any traffic.
fn next_width(batch_rows: u32, width_us: i64, read: u64) -> i64 {
    let wanted = u64::from(batch_rows);
    if read > wanted.saturating_mul(2) {
        (width_us / 2).max(1)
    } else if read < wanted / 2 {
        (width_us * 2).min(WIDEST_US)
    } else {
        width_us
    }
}

/// The scope, the prices, and the author.
type Work<'a> = (&'a Catalog, &'a RepriceOptions, &'a Actor<'a>);

/// A step, with retries while other transactions block it.
async fn persistent_step(
    client: &Client,
    work: Work<'_>,
    job: &Job,
    days: &Days,
    to_us: i64,
) -> Result<Step, RepriceError> {
    let at = || DateTime::from_timestamp_micros(job.position_us).unwrap_or_default().to_string();
    let passes = |error: &RepriceError| match error {
        RepriceError::Database(error) => may_pass(error),
        RepriceError::Moving { .. } => true,
        _ => false,
    };
    let work = || async {
        step(client, work, job, days.clone(), to_us).await?.ok_or_else(|| RepriceError::Moving { at: at() })
    };
    persistently(client, passes, work).await?.ok_or_else(|| RepriceError::Moving { at: at() })
}

/// Does the slice in the caller's transaction. None if another transaction has moved a row.
async fn step(
    client: &Client,
    (catalog, options, by): Work<'_>,
    job: &Job,
    mut days: Days,
    to_us: i64,
) -> Result<Option<Step>, RepriceError> {
    crate::zone::enter(client, days.zone()).await??;
    if !job.advance(client, to_us).await? {
        return Err(RepriceError::Overtaken(job.id));
    }
    let dimensions = dimensions::counted(client).await?;
    let rows = select(&wanted(options, job.position_us, to_us), &dimensions);
    let cursor = format!("DECLARE repriced NO SCROLL CURSOR FOR {rows}");
    client.batch_execute(&cursor).await?;
    let mut done = Step::default();
    let mut sums = Sums::default();
    loop {
        // The cursor sees the calls as they were when it was declared, unchanged by later updates.
        let rows = client.query_typed(&format!("FETCH {FETCH_ROWS} FROM repriced"), &[]).await?;
        done.read += rows.len() as u64;
        let mut updates = Updates::default();
        for row in rows.iter().map(LogRow::read) {
            let Decision::Change { old, new, price_id } = row.decide(catalog) else { continue };
            done.changed += 1;
            done.priced += u64::from(old.is_none());
            // Both are costs of one record.
            let change = new.checked_sub(old.unwrap_or_default()).expect("a record's costs are within 10^9 USD");
            done.difference = sum(done.difference, change);
            let change = Measures { cost: change, unpriced: -i64::from(old.is_none()), ..Measures::default() };
            sums.add(days.with_hour(row.occurred_at_us), &row, &change);
            updates.push(row, new, price_id);
        }
        if !updates.apply(client, job.position_us, to_us).await? {
            return Ok(None);
        }
        if rows.len() < FETCH_ROWS {
            break;
        }
    }
    client.batch_execute("CLOSE repriced").await?;
    // After the calls: operations that take calls out of the call log lock those first, too.
    let side = Side::enter(client).await?;
    rollup_upserts::add(client, side, &sums.deltas(&dimensions)).await?;
    job.note(client, done, to_us >= options.to_us, by).await?;
    Ok(Some(done))
}

/// New costs of rows, by place, time and id: the time gives the partition, the id the shard.
#[derive(Default)]
struct Updates {
    places: Vec<String>,
    times: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
    costs: Vec<Usd>,
    prices: Vec<i32>,
}

impl Updates {
    fn push(&mut self, row: LogRow, cost: Usd, price_id: i32) {
        self.places.push(row.place);
        // It was read from the call log, so it is a time.
        self.times.push(DateTime::from_timestamp_micros(row.occurred_at_us).unwrap_or_default());
        self.ids.push(row.id);
        self.costs.push(cost);
        self.prices.push(price_id);
    }

    /// Returns false if a row is not at its place.
    async fn apply(&self, client: &Client, from_us: i64, to_us: i64) -> Result<bool, tokio_postgres::Error> {
        if self.places.is_empty() {
            return Ok(true);
        }
        let sql = format!(
            "WITH changed AS (UPDATE public.api_usage_log AS l SET cost_usd = d.cost, cost_source = 'catalog', price_id = d.price \
             FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::numeric[], $5::int4[]) AS d (place, at, id, cost, price) \
             WHERE l.ctid = d.place::tid AND l.occurred_at = d.at AND l.id = d.id \
             AND l.occurred_at >= {from} AND l.occurred_at < {to} RETURNING 1) SELECT count(*) FROM changed",
            from = instant(from_us),
            to = instant(to_us),
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&self.places, Type::TEXT_ARRAY),
            (&self.times, Type::TIMESTAMPTZ_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
            (&self.costs, Type::NUMERIC_ARRAY),
            (&self.prices, Type::INT4_ARRAY),
        ];
        let rows = client.query_typed(&sql, &parameters).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) == self.places.len() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u32 = 20_000;
    /// Calls that a request reads until its time is over.
    const REQUEST: u64 = 100_000;

    /// Prices a period of `hours` anew, in as many requests as it takes. Returns the calls of each slice, by request.
    fn requests(hours: i64, calls_an_hour: i64) -> Vec<Vec<u64>> {
        let to_us = hours * FIRST_US;
        let calls_until = |at_us: i64| u64::try_from(at_us * calls_an_hour / FIRST_US).unwrap();
        let (mut requests, mut position_us) = (Vec::new(), 0);
        while position_us < to_us {
            let mut slices = Vec::new();
            let mut width_us = first_width(BATCH, position_us, calls_until(position_us));
            while position_us < to_us && slices.iter().sum::<u64>() < REQUEST {
                let next_us = (position_us + width_us).min(to_us);
                slices.push(calls_until(next_us) - calls_until(position_us));
                position_us = next_us;
                width_us = next_width(BATCH, width_us, *slices.last().unwrap());
            }
            requests.push(slices);
        }
        requests
    }

    #[test]
    fn a_request_goes_on_with_slices_of_the_usual_size_however_dense_the_calls_are() {
        // Two million calls an hour, for ten hours.
        let dense = requests(10, 2_000_000);
        let (first, later) = dense.split_first().unwrap();
        assert_eq!(first.len(), 1, "nothing is known yet: an hour of calls is one slice");
        let largest = later.iter().flatten().max().unwrap();
        assert!(*largest <= u64::from(BATCH) * 2, "{largest} calls in a slice");
        let slices = dense.iter().map(Vec::len).sum::<usize>();
        assert!(slices <= 1_000, "{slices} slices for 20 million calls");
        // A year with a call an hour is still one request of a few slices.
        let sparse = requests(366 * 24, 1);
        assert!(sparse.len() == 1 && sparse[0].len() < 30, "{sparse:?}");
    }
}
