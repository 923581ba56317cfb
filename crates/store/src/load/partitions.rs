//! The call log's partitions: those known to exist, and those that a batch still needs.
//!
//! A COPY that is under way does not see a partition made meanwhile. So the partitions that a batch needs are found
//! before it: from each chunk's earliest and latest times, and by reading the chunk only if those are in different
//! partitions.
//!
//! Nearly every batch has rows of one partition only. Such a batch is copied straight into that partition, because
//! routing through the parent costs a tenth of a COPY. This is right only while the partition is attached, so the
//! transaction checks again after it has taken the partition's lock ([`Partition::still_attached`]).
//!
//! Records may be of any day back to `limits.occurred_at_min`, so the number of new partitions is bounded. A day of
//! long ago gets the partition of its month, if that is still free ([`OLD_DAYS`]): 143 for the years since 2015, not
//! 4,349. For one batch at most [`MADE_MAX`] are made. A batch that needs more is halved, so that the earlier ones in
//! the WAL are loaded meanwhile.
//!
//! The known partitions are always a past state of the catalog, without overlaps: a newly read partition replaces
//! those that it overlaps. A partition is remembered only if it covers the instant for which it was made, so the
//! search ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::FlushError;
use super::periods::payload;
use crate::Granularity;
use tallyd_base::failpoint;
use tallyd_wal::chunk::{Columns, Entry, PayloadReader};
use tallyd_wal::recent::StoredChunk;
use tallyd_wal::wal::Wal;

/// Days before now from which on a partition is a month's instead of a day's.
const OLD_DAYS: u32 = 31;
/// Partitions made for one batch of several chunks. A single chunk is never divided: its 7 KB hold some hundred calls.
pub(crate) const MADE_MAX: usize = 8;

/// One partition of the call log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    oid: u32,
    /// Its name, quoted for SQL.
    table: String,
    /// Its first instant, microseconds since 1970.
    from_us: i64,
    /// The first instant after it.
    until_us: i64,
    /// The optional columns whose defaults differ from those that records leave out.
    changed: Columns,
    /// True if this role may insert into it by name.
    direct: bool,
}

/// The partitions that are known to exist.
pub struct Partitions {
    granularity: Granularity,
    known: Mutex<Known>,
}

/// By their first instant; no two overlap.
#[derive(Default)]
struct Known(BTreeMap<i64, Arc<Partition>>);

impl Known {
    /// Adds a partition, and forgets those that it overlaps.
    fn learn(&mut self, partition: Arc<Partition>) {
        self.0.retain(|_, other| other.until_us <= partition.from_us || other.from_us >= partition.until_us);
        self.0.insert(partition.from_us, partition);
    }

    fn holder(&self, us: i64) -> Option<&Arc<Partition>> {
        self.0.range(..=us).next_back().map(|(_, partition)| partition).filter(|partition| us < partition.until_us)
    }
}

impl Partitions {
    /// Starts without any known partition.
    #[must_use]
    pub fn new(granularity: Granularity) -> Self {
        Self { granularity, known: Mutex::default() }
    }

    /// Forgets all partitions, after one of them turned out to be missing.
    pub fn forget(&self) {
        self.lock().0.clear();
    }

    /// Makes the partitions that the chunks need and that are not known. Returns the partition of all rows, if there is
    /// one and rows may be copied straight into it. If a partition vanishes meanwhile, rows go to the parent, whose
    /// error says so.
    ///
    /// # Errors
    /// [`FlushError::Partitions`] once `most` were made and more are needed, unless there is only one chunk;
    /// PostgreSQL's.
    pub async fn ensure(
        &self,
        client: &Client,
        wal: Option<&Wal>,
        chunks: &[impl AsRef<StoredChunk>],
        most: usize,
    ) -> Result<Option<Arc<Partition>>, FlushError> {
        let mut made = 0;
        loop {
            let found = self.find(wal, chunks)?;
            if found.missing.is_empty() {
                let mut used = found.used.into_values();
                let only = used.next().filter(|partition| partition.direct);
                return Ok(only.filter(|_| used.next().is_none()));
            }
            for at_us in found.missing.into_values() {
                if self.lock().holder(at_us).is_some() {
                    // The month that was just made for another of its days.
                    continue;
                }
                if made >= most && chunks.len() > 1 {
                    return Err(FlushError::Partitions);
                }
                match self.make(client, at_us).await? {
                    Some(partition) => self.lock().learn(Arc::new(partition)),
                    None => return Ok(None),
                }
                made += 1;
            }
        }
    }

    /// The known partitions that the chunks need, and one instant for each day without one.
    fn find(&self, wal: Option<&Wal>, chunks: &[impl AsRef<StoredChunk>]) -> Result<Found, FlushError> {
        let known = self.lock();
        let mut found = Found::default();
        for chunk in chunks.iter().map(AsRef::as_ref).filter(|chunk| chunk.records > 0) {
            let (first, last) = (known.holder(chunk.min_us), known.holder(chunk.max_us));
            found.take(chunk.min_us, first);
            found.take(chunk.max_us, last);
            if chunk.min_us == chunk.max_us || first.zip(last).is_some_and(|(first, last)| first.oid == last.oid) {
                continue;
            }
            for entry in PayloadReader::new(&payload(wal, chunk)?) {
                if let Entry::Call(call) = entry? {
                    found.take(call.occurred_at_us, known.holder(call.occurred_at_us));
                }
            }
        }
        Ok(found)
    }

    /// The partition of an instant, made if missing. None if it has vanished before it is read.
    async fn make(&self, client: &Client, at_us: i64) -> Result<Option<Partition>, FlushError> {
        let at = DateTime::<Utc>::from_timestamp_micros(at_us).unwrap_or_default();
        let sql = "SELECT public.tallyd_ensure_partition($1, CASE WHEN $1 < now() - $3 * interval '1 day' THEN 'month' ELSE $2 END)";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&at, Type::TIMESTAMPTZ), (&self.granularity.as_str(), Type::TEXT), (&f64::from(OLD_DAYS), Type::FLOAT8)];
        client.query_typed(sql, &parameters).await?;
        let rows = client.query_typed(PARTITION, &[(&at, Type::TIMESTAMPTZ)]).await?;
        let found = rows.first().filter(|_| failpoint::hit("flusher.partition_vanishes").is_none());
        let Some(row) = found else { return Ok(None) };
        let defaults: Vec<String> = row.get("defaults");
        let is_changed = |name: &str, default: Option<&str>| {
            !defaults.iter().any(|found| found.split_once('=') == Some((name, default.unwrap_or("NULL"))))
        };
        let changed = Columns::ALL.iter().filter(|(_, name, default)| is_changed(name, *default));
        let partition = Partition {
            oid: row.get("oid"),
            table: row.get("name"),
            from_us: row.get("from_us"),
            until_us: row.get("until_us"),
            changed: changed.fold(Columns::NONE, |set, (column, ..)| set | *column),
            direct: row.get("direct"),
        };
        // If this side read the bounds otherwise than the server, it would ask for the partition without end.
        Ok(Some(partition).filter(|partition| (partition.from_us..partition.until_us).contains(&at_us)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the partition of an instant from the catalog. It is `direct` only if this role may insert into it and row level
/// security does not apply to the role. A statement-level trigger of the parent excludes it, too, because a direct COPY
/// would not fire the trigger. The privilege is NULL if the table is dropped meanwhile.
const PARTITION: &str = "
SELECT c.oid, c.oid::regclass::text AS name,
    CASE WHEN isfinite(p.lower_bound) THEN (extract(epoch FROM p.lower_bound) * 1000000)::int8
        ELSE -9223372036854775808 END AS from_us,
    CASE WHEN isfinite(p.upper_bound) THEN (extract(epoch FROM p.upper_bound) * 1000000)::int8
        ELSE 9223372036854775807 END AS until_us,
    ARRAY(SELECT a.attname || '=' || coalesce(pg_get_expr(d.adbin, d.adrelid), 'NULL')
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS defaults,
    coalesce(has_table_privilege(c.oid, 'INSERT') AND NOT row_security_active(c.oid), false) AND NOT EXISTS (
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

impl Partition {
    /// Its name, quoted for SQL.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The columns that rows must have if they need `columns`: those with changed defaults are always named.
    #[must_use]
    pub fn columns(&self, columns: Columns) -> Columns {
        columns | self.changed
    }

    /// Fails if the partition has been detached. Call it in the transaction that has inserted into the partition: its
    /// lock keeps the answer true until the end.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(from_us: i64, until_us: i64) -> Arc<Partition> {
        let (oid, table) = (from_us as u32, format!("p{from_us}"));
        Arc::new(Partition { oid, table, from_us, until_us, changed: Columns::NONE, direct: true })
    }

    #[test]
    fn what_is_learnt_holds_what_it_was_made_for_whatever_was_known_before() {
        // A month, then days in its place, then a month again; gaps and neighbours stay.
        let mut known = Known::default();
        for (from, until) in [(0, 30), (30, 60), (90, 120), (10, 11), (0, 30), (5, 6), (20, 21), (0, 1000)] {
            known.learn(partition(from, until));
            for at in from..until {
                assert_eq!(known.holder(at).map(|found| (found.from_us, found.until_us)), Some((from, until)));
            }
            let bounds: Vec<_> = known.0.values().map(|known| (known.from_us, known.until_us)).collect();
            assert!(bounds.is_sorted_by(|one, next| one.1 <= next.0), "{bounds:?}");
        }
        assert!(known.holder(-1).is_none() && known.holder(1000).is_none());
    }
}
