//! What must be in place before a batch is loaded: the partitions for its times, and the names its days have.
//!
//! A COPY that is under way does not see a partition that is made meanwhile, so the partitions that a batch needs are
//! found first: from the chunks' earliest and latest times, and by reading a chunk only where those lie apart.
//!
//! A batch whose rows all belong to one partition, as nearly every batch's do, is copied straight into it: routing each
//! row through the parent costs a tenth of a COPY. That is only right while the partition is one, so the transaction
//! asks again after it has taken the partition's lock ([`Partition::still_attached`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::FlushError;
use crate::database::Granularity;
use crate::pipeline::chunk::{Columns, Entry, PayloadReader};
use crate::pipeline::wal::WalError;
use crate::pipeline::wal::log::Log;
use crate::pipeline::wal::recent::StoredChunk;
use crate::rollup::day::Days;
use crate::rollup::guard::{KeyGuard, Names};

/// One partition of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    oid: u32,
    /// Its name, as SQL.
    table: String,
    /// The first instant that it holds, microseconds since 1970.
    from_us: i64,
    /// The first instant that it does not hold any more.
    until_us: i64,
    /// The optional columns whose defaults are not those that records leave out.
    changed: Columns,
    /// True if this role may insert into it by name.
    direct: bool,
}

/// The partitions that are known to be there.
pub struct Partitions {
    granularity: Granularity,
    known: Mutex<Known>,
}

/// By their first instant.
type Known = BTreeMap<i64, Arc<Partition>>;

impl Partitions {
    /// Knows none yet.
    #[must_use]
    pub fn new(granularity: Granularity) -> Self {
        Self { granularity, known: Mutex::default() }
    }

    /// Forgets what is known: one that was thought to be there is not.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// Makes the partitions that the chunks need and that are not known to be there. Returns the one that takes them all,
    /// if one does and rows may be copied straight into it.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn ensure(
        &self,
        client: &Client,
        log: Option<&Log>,
        chunks: &[impl AsRef<StoredChunk>],
    ) -> Result<Option<Arc<Partition>>, FlushError> {
        loop {
            let found = self.find(log, chunks)?;
            if found.missing.is_empty() {
                let mut used = found.used.into_values();
                let only = used.next().filter(|partition| partition.direct);
                return Ok(only.filter(|_| used.next().is_none()));
            }
            for at_us in found.missing.into_values() {
                let partition = Arc::new(self.make(client, at_us).await?);
                remember(&mut self.lock(), partition);
            }
        }
    }

    /// Which of the known partitions the chunks need, and one instant a day that none of them holds.
    fn find(&self, log: Option<&Log>, chunks: &[impl AsRef<StoredChunk>]) -> Result<Found, FlushError> {
        let known = self.lock();
        let mut found = Found::default();
        for chunk in chunks.iter().map(AsRef::as_ref).filter(|chunk| chunk.records > 0) {
            let (first, last) = (holder(&known, chunk.min_us), holder(&known, chunk.max_us));
            found.take(chunk.min_us, first);
            found.take(chunk.max_us, last);
            if chunk.min_us == chunk.max_us || first.zip(last).is_some_and(|(first, last)| first.oid == last.oid) {
                continue;
            }
            for entry in PayloadReader::new(&payload(log, chunk)?) {
                if let Entry::Call(call) = entry? {
                    found.take(call.occurred_at_us, holder(&known, call.occurred_at_us));
                }
            }
        }
        Ok(found)
    }

    async fn make(&self, client: &Client, at_us: i64) -> Result<Partition, FlushError> {
        let at = DateTime::<Utc>::from_timestamp_micros(at_us).unwrap_or_default();
        let sql = "SELECT public.tallyd_ensure_partition($1, $2)";
        client.query_typed(sql, &[(&at, Type::TIMESTAMPTZ), (&self.granularity.as_str(), Type::TEXT)]).await?;
        let rows = client.query_typed(PARTITION, &[(&at, Type::TIMESTAMPTZ)]).await?;
        // It was made a moment ago. Whoever has taken it away since is told by the row that finds no partition.
        let Some(row) = rows.first() else { return Ok(Partition::unknown(at_us)) };
        let defaults: Vec<String> = row.get("defaults");
        let is_changed = |name: &str, default: Option<&str>| {
            !defaults.iter().any(|found| found.split_once('=') == Some((name, default.unwrap_or("NULL"))))
        };
        let changed = Columns::ALL.iter().filter(|(_, name, default)| is_changed(name, *default));
        Ok(Partition {
            oid: row.get("oid"),
            table: row.get("name"),
            from_us: row.get("from_us"),
            until_us: row.get("until_us"),
            changed: changed.fold(Columns::NONE, |set, (column, ..)| set | *column),
            direct: row.get("direct"),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the catalog about the partition that holds an instant. It is addressed by name only by a role that may
/// insert into it and is not subject to its row level security, and where no statement-level trigger of the parent
/// would be passed over.
const PARTITION: &str = "
SELECT c.oid, c.oid::regclass::text AS name,
    CASE WHEN isfinite(p.lower_bound) THEN (extract(epoch FROM p.lower_bound) * 1000000)::int8
        ELSE -9223372036854775808 END AS from_us,
    CASE WHEN isfinite(p.upper_bound) THEN (extract(epoch FROM p.upper_bound) * 1000000)::int8
        ELSE 9223372036854775807 END AS until_us,
    ARRAY(SELECT a.attname || '=' || coalesce(pg_get_expr(d.adbin, d.adrelid), 'NULL')
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS defaults,
    has_table_privilege(c.oid, 'INSERT') AND NOT row_security_active(c.oid) AND NOT EXISTS (
        SELECT FROM pg_trigger t WHERE t.tgrelid = i.inhparent AND NOT t.tgisinternal AND t.tgtype & 1 = 0) AS direct
FROM public.tallyd_partition_at($1) AS p
JOIN pg_class c ON c.relname = p.partition_name
JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'public.api_usage_log'::regclass";

#[derive(Default)]
struct Found {
    used: BTreeMap<u32, Arc<Partition>>,
    missing: BTreeMap<NaiveDate, i64>,
}

impl Found {
    fn take(&mut self, us: i64, holder: Option<&Arc<Partition>>) {
        match holder {
            Some(partition) if self.used.contains_key(&partition.oid) => {}
            Some(partition) => {
                self.used.insert(partition.oid, Arc::clone(partition));
            }
            None => {
                let day = DateTime::from_timestamp_micros(us).unwrap_or_default().date_naive();
                self.missing.entry(day).or_insert(us);
            }
        }
    }
}

/// A chunk's entries; without a log, only of chunks that are in memory.
fn payload<'c>(log: Option<&Log>, chunk: &'c StoredChunk) -> Result<Cow<'c, [u8]>, WalError> {
    match (chunk.payload.held(), log) {
        (Some(bytes), _) => Ok(Cow::Borrowed(bytes)),
        (None, Some(log)) => log.payload(chunk),
        (None, None) => Err(WalError::Unreadable { key: chunk.first_key }),
    }
}

/// Adds a partition. Whatever was thought to lie in its range is not there any more: left in, it would hide this one, and
/// the instants behind it would be looked for again and again.
fn remember(known: &mut Known, partition: Arc<Partition>) {
    known.retain(|_, other| other.until_us <= partition.from_us || other.from_us >= partition.until_us);
    known.insert(partition.from_us, partition);
}

fn holder(known: &Known, us: i64) -> Option<&Arc<Partition>> {
    known.range(..=us).next_back().map(|(_, partition)| partition).filter(|partition| us < partition.until_us)
}

impl Partition {
    /// One that holds a single instant and takes no rows by name.
    fn unknown(at_us: i64) -> Self {
        let (table, until_us) = (String::new(), at_us.saturating_add(1));
        Self { oid: 0, table, from_us: at_us, until_us, changed: Columns::EVERY, direct: false }
    }

    /// Its name, as SQL.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The columns that rows must bring which need `columns`: those whose defaults were changed are always named.
    #[must_use]
    pub fn columns(&self, columns: Columns) -> Columns {
        columns | self.changed
    }

    /// Fails if it has been detached. To be asked within the transaction that has inserted into it: that holds the
    /// partition's lock, so what is found stays true until the end.
    ///
    /// # Errors
    /// [`FlushError::Detached`], and PostgreSQL's.
    pub async fn still_attached(&self, client: &Client) -> Result<(), FlushError> {
        // PostgreSQL 13 has no column inhdetachpending.
        let sql = "SELECT FROM pg_inherits i WHERE i.inhrelid = $1 AND i.inhparent = 'public.api_usage_log'::regclass \
                   AND coalesce(to_jsonb(i) ->> 'inhdetachpending', 'false') = 'false'";
        let rows = client.query_typed(sql, &[(&self.oid, Type::OID)]).await?;
        if rows.is_empty() { Err(FlushError::Detached(self.table.clone())) } else { Ok(()) }
    }
}

/// Teaches the guard the names that the chunks' days have in the rollup.
///
/// # Errors
/// PostgreSQL's.
pub async fn learn_days(
    client: &Client,
    guard: &KeyGuard,
    days: &Days,
    log: Option<&Log>,
    chunks: &[impl AsRef<StoredChunk>],
) -> Result<(), FlushError> {
    let mut days = days.clone();
    let mut needed = BTreeSet::new();
    for chunk in chunks {
        each_extreme(log, chunk.as_ref(), |us| days.of(us), &mut needed)?;
    }
    for day in guard.unknown(needed.into_iter()) {
        let mut names = Names::default();
        let sql = "SELECT DISTINCT model, endpoint FROM daily_api_costs WHERE day = $1";
        for row in client.query_typed(sql, &[(&day, Type::DATE)]).await? {
            names.models.insert(row.get(0));
            names.endpoints.insert(row.get(1));
        }
        names.models.remove("");
        names.endpoints.remove("");
        guard.learn(day, names);
    }
    Ok(())
}

/// Collects the periods of a chunk's calls.
fn each_extreme(
    log: Option<&Log>,
    chunk: &StoredChunk,
    mut period: impl FnMut(i64) -> NaiveDate,
    periods: &mut BTreeSet<NaiveDate>,
) -> Result<(), FlushError> {
    if chunk.records == 0 {
        return Ok(());
    }
    let (first, last) = (period(chunk.min_us), period(chunk.max_us));
    periods.extend([first, last]);
    if first != last {
        for entry in PayloadReader::new(&payload(log, chunk)?) {
            if let Entry::Call(call) = entry? {
                periods.insert(period(call.occurred_at_us));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(oid: u32, from_us: i64, until_us: i64) -> Arc<Partition> {
        Arc::new(Partition { oid, from_us, until_us, ..Partition::unknown(0) })
    }

    #[test]
    fn what_is_found_takes_the_place_of_what_was_thought_to_be_there() {
        let mut known = Known::new();
        let held = |known: &Known, us| holder(known, us).map(|partition| partition.oid);
        // A day that went, an instant that no partition held for a moment, and a neighbour that stays.
        for stale in [partition(1, 40, 50), Arc::new(Partition::unknown(60)), partition(2, 100, 200)] {
            remember(&mut known, stale);
        }
        remember(&mut known, partition(3, 0, 100));
        assert_eq!([0, 45, 60, 61, 99, 100].map(|us| held(&known, us)), [3, 3, 3, 3, 3, 2].map(Some));
        // The other way round: the month that went, and a day of it.
        remember(&mut known, partition(4, 40, 50));
        assert_eq!([39, 40, 50, 100].map(|us| held(&known, us)), [None, Some(4), None, Some(2)]);
    }
}
