//! `tallyd_refusals`: the number of refused records, by day, sender, reason and field.
//!
//! A day's bound on kept records is checked here, in the transaction that writes the letters: the day's rows have the
//! number kept so far, and a lock serialises the transactions that change them. The number of rows is bounded, too,
//! because senders choose the names of senders and fields.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::dead_letters::quota::{Ledger, OTHER, QuotaBounds, QuotaUse};
use crate::locks::Lock;

/// Rows of a sender and day. Further fields are counted under an empty field.
const SENDER_ROWS_MAX: usize = 64;
/// Rows of a day. Further senders are counted as [`OTHER`].
const DAY_ROWS_MAX: usize = 4_096;

/// The key by which refusals are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalKey {
    /// The day of arrival, UTC.
    pub day: NaiveDate,
    /// `refused` or `poison`.
    pub kind: &'static str,
    /// The sender, or [`OTHER`].
    pub producer: String,
    /// The reason's code.
    pub code: String,
    /// The field at fault, or empty.
    pub field: String,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    refused: i64,
    kept: i64,
    kept_bytes: i64,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

/// The rows of some days, and the numbers to add to them.
pub struct RefusalCounts {
    known: BTreeSet<RefusalKey>,
    rows_of_day: HashMap<NaiveDate, usize>,
    rows_of_sender: HashMap<(NaiveDate, String), usize>,
    ledgers: BTreeMap<NaiveDate, Ledger>,
    added: BTreeMap<RefusalKey, Count>,
}

impl RefusalCounts {
    /// Takes the lock, which lasts until the transaction ends, and reads the rows of these days.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn lock(client: &Client, days: impl Iterator<Item = NaiveDate>) -> Result<Self, tokio_postgres::Error> {
        Lock::Refusals.wait(client).await?;
        let days: Vec<_> = days.collect::<BTreeSet<_>>().into_iter().collect();
        let sql = "SELECT day, kind, producer, code, field, kept, kept_bytes FROM public.tallyd_refusals \
            WHERE day = ANY($1)";
        let mut groups = Self {
            known: BTreeSet::new(),
            rows_of_day: HashMap::new(),
            rows_of_sender: HashMap::new(),
            ledgers: days.iter().map(|day| (*day, Ledger::default())).collect(),
            added: BTreeMap::new(),
        };
        for row in client.query_typed(sql, &[(&days, Type::DATE_ARRAY)]).await? {
            let kind = if row.get::<_, &str>(1) == "poison" { "poison" } else { "refused" };
            let key = RefusalKey { day: row.get(0), kind, producer: row.get(2), code: row.get(3), field: row.get(4) };
            let kept = QuotaUse { rows: unsigned(row.get(5)), bytes: unsigned(row.get(6)) };
            if kind == "refused" {
                groups.ledgers.entry(key.day).or_default().add(&key.producer, kept);
            }
            groups.know(key);
        }
        Ok(groups)
    }

    fn know(&mut self, key: RefusalKey) {
        *self.rows_of_day.entry(key.day).or_default() += 1;
        *self.rows_of_sender.entry((key.day, key.producer.clone())).or_default() += 1;
        self.known.insert(key);
    }

    /// Replaces parts of a key for which there is no room left.
    pub fn fit(&mut self, key: &mut RefusalKey) {
        if self.known.contains(key) {
            return;
        }
        let of_sender = self.rows_of_sender.get(&(key.day, key.producer.clone())).copied().unwrap_or(0);
        if of_sender >= SENDER_ROWS_MAX {
            key.field.clear();
        }
        if self.rows_of_day.get(&key.day).is_some_and(|rows| *rows >= DAY_ROWS_MAX) && !self.known.contains(key) {
            OTHER.clone_into(&mut key.producer);
            key.field.clear();
        }
        if !self.known.contains(key) {
            self.know(key.clone());
        }
    }

    /// Takes room for one more record within the bounds; false if there is none left.
    pub fn take(&mut self, bounds: &QuotaBounds, key: &RefusalKey, bytes: usize) -> bool {
        self.ledgers.entry(key.day).or_default().take(bounds, &key.producer, bytes)
    }

    /// Counts records. With `kept`, one of them is kept, with that many bytes.
    pub fn count(&mut self, key: &RefusalKey, at: DateTime<Utc>, records: u32, kept: Option<usize>) {
        let new = Count { refused: 0, kept: 0, kept_bytes: 0, first_seen: at, last_seen: at };
        let count = self.added.entry(key.clone()).or_insert(new);
        count.refused += i64::from(records);
        count.kept += i64::from(kept.is_some());
        count.kept_bytes += kept.unwrap_or(0) as i64;
        count.first_seen = count.first_seen.min(at);
        count.last_seen = count.last_seen.max(at);
    }

    /// Adds the counts to the rows. Returns the kept totals of each day.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn write(self, client: &Client) -> Result<Vec<(NaiveDate, Ledger)>, tokio_postgres::Error> {
        let sql = "INSERT INTO public.tallyd_refusals AS r \
            (day, kind, producer, code, field, refused, kept, kept_bytes, first_seen, last_seen) \
            SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], \
            $8::int8[], $9::timestamptz[], $10::timestamptz[]) \
            ON CONFLICT (day, kind, producer, code, field) DO UPDATE SET refused = r.refused + excluded.refused, \
            kept = r.kept + excluded.kept, kept_bytes = r.kept_bytes + excluded.kept_bytes, \
            first_seen = least(r.first_seen, excluded.first_seen), last_seen = greatest(r.last_seen, excluded.last_seen)";
        let keys = || self.added.keys();
        let counts = |of: fn(&Count) -> i64| self.added.values().map(of).collect::<Vec<_>>();
        let times = |of: fn(&Count) -> DateTime<Utc>| self.added.values().map(of).collect::<Vec<_>>();
        let days: Vec<_> = keys().map(|key| key.day).collect();
        let kinds: Vec<_> = keys().map(|key| key.kind).collect();
        let producers: Vec<_> = keys().map(|key| key.producer.as_str()).collect();
        let codes: Vec<_> = keys().map(|key| key.code.as_str()).collect();
        let fields: Vec<_> = keys().map(|key| key.field.as_str()).collect();
        let (refused, kept, bytes) = (counts(|c| c.refused), counts(|c| c.kept), counts(|c| c.kept_bytes));
        let (first, last) = (times(|c| c.first_seen), times(|c| c.last_seen));
        let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
            (&days, Type::DATE_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&producers, Type::TEXT_ARRAY),
            (&codes, Type::TEXT_ARRAY),
            (&fields, Type::TEXT_ARRAY),
            (&refused, Type::INT8_ARRAY),
            (&kept, Type::INT8_ARRAY),
            (&bytes, Type::INT8_ARRAY),
            (&first, Type::TIMESTAMPTZ_ARRAY),
            (&last, Type::TIMESTAMPTZ_ARRAY),
        ];
        client.execute_typed(sql, &parameters).await?;
        Ok(self.ledgers.into_iter().collect())
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_senders_make_up_do_not_make_rows_without_end() {
        let day = NaiveDate::default();
        let mut groups = RefusalCounts {
            known: BTreeSet::new(),
            rows_of_day: HashMap::new(),
            rows_of_sender: HashMap::new(),
            ledgers: BTreeMap::new(),
            added: BTreeMap::new(),
        };
        let key =
            |producer: String, field: String| RefusalKey { day, kind: "refused", producer, code: "type".into(), field };
        let mut count = |producer: String, field: String| {
            let mut key = key(producer, field);
            groups.fit(&mut key);
            groups.count(&key, DateTime::default(), 1, None);
        };
        (0..1_000).for_each(|field| count("one".into(), field.to_string()));
        (0..10_000).for_each(|name| count(name.to_string(), String::new()));
        let rows = groups.added.len();
        assert!(rows <= DAY_ROWS_MAX + 1, "{rows}");
        assert_eq!(groups.added.values().map(|count| count.refused).sum::<i64>(), 11_000);
        assert_eq!(groups.added[&key("one".into(), String::new())].refused, 1_000 - SENDER_ROWS_MAX as i64);
        assert!(groups.added[&key(OTHER.into(), String::new())].refused > 5_000);
    }
}
