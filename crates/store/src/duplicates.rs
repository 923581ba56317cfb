//! Finds and drops calls that are in the call log more than once: from outside of the window of stated ids, from two
//! daemons, or from before there was a window.
//!
//! Two rows are one call if they have the same id ([`DuplicateKey::Id`]), or the same provider and the same vendor's id
//! of the response ([`DuplicateKey::Response`]). A generated id is generated once, so equal ids were stated twice. A
//! `request_id` may be a product's own, so only the forms of vendors count (those of
//! `crates/intake/src/vendors_id.rs`), and only on request.
//!
//! [`drop`] keeps the first row of each call, by its time, and removes the others and their sums in one transaction. It
//! takes the tables in the loader's order, with the statements of forgetting a user. So `reconcile` holds, and loading
//! goes on. Rows are found by their place (`ctid`), time and user, as in [`super::reprice`]. A row that another
//! transaction has moved stays, and the next run finds it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::forget::{ForgetError, mend_times};
use super::locks::Lock;
use super::queries::audit::{self, Actor, Change};
use super::retry::in_transaction;
use super::rollups::{ROLLUPS, Rollup, TOTALS, ZONE, subtract};
use super::user_deltas;

/// The columns that make two rows one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateKey {
    /// The id.
    Id,
    /// The provider and the vendor's id of the response.
    Response,
}

/// Forms of vendors' ids, each with its provider; an empty provider means any.
const FORMS: [(&str, &str); 4] =
    [("", "^chatcmpl-."), ("", "^resp_.{32}"), ("claude", "^msg_(bdrk|vrtx)_."), ("claude", "^(msg|req)_.*[A-Z]")];

impl DuplicateKey {
    /// The columns that are equal.
    const fn columns(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Response => "provider, request_id",
        }
    }

    /// SQL of the key as one text.
    const fn text(self) -> &'static str {
        match self {
            Self::Id => "id::text",
            Self::Response => "provider || ' ' || request_id",
        }
    }

    /// The condition for rows that have the key.
    fn condition(self) -> String {
        let form = |(provider, form): &(&str, &str)| match *provider {
            "" => format!("request_id ~ '{form}'"),
            provider => format!("provider = '{provider}' AND request_id ~ '{form}'"),
        };
        match self {
            Self::Id => "true".to_owned(),
            Self::Response => format!("({})", FORMS.iter().map(form).collect::<Vec<_>>().join(" OR ")),
        }
    }
}

/// Span of time, key and bound of a search.
#[derive(Debug, Clone, Copy)]
pub struct DuplicateSearch {
    /// Calls from here on, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Calls before this.
    pub to_us: i64,
    /// The key that equal rows share.
    pub key: DuplicateKey,
    /// Largest number of calls to return; the earliest come first.
    pub limit: i64,
}

impl DuplicateSearch {
    /// `ranked`: the rows of repeated calls, each with its place among its call's rows. `$1` to `$3`:
    /// [`DuplicateSearch::values`].
    fn ranked(&self) -> String {
        let (columns, condition) = (self.key.columns(), self.key.condition());
        let within = format!("occurred_at >= $1 AND occurred_at < $2 AND {condition}");
        format!(
            "shared AS (SELECT {columns} FROM public.api_usage_log WHERE {within} \
                 GROUP BY {columns} HAVING count(*) > 1 ORDER BY min(occurred_at), {columns} LIMIT $3), \
             ranked AS (SELECT l.ctid AS place, l.id AS row_id, {text} AS key, occurred_at, provider, model, user_id, cost_usd, \
                 row_number() OVER (PARTITION BY {columns} ORDER BY occurred_at, cost_usd IS NULL, user_id, l.ctid) AS number \
                 FROM public.api_usage_log AS l JOIN shared USING ({columns}) WHERE {within})",
            text = self.key.text(),
        )
    }

    fn times(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let time = |us| DateTime::from_timestamp_micros(us).unwrap_or(DateTime::<Utc>::MAX_UTC);
        (time(self.from_us), time(self.to_us))
    }
}

/// A call that is in the call log more than once.
#[derive(Debug, Clone, Serialize)]
pub struct Duplicate {
    /// Its id, or the provider and the response's id.
    pub key: String,
    /// The provider of its first row.
    pub provider: String,
    /// The model of its first row.
    pub model: String,
    /// The user of its first row.
    pub user_id: String,
    /// Number of rows.
    pub rows: i64,
    /// Time of the first row.
    pub first_at: DateTime<Utc>,
    /// Time of the last row.
    pub last_at: DateTime<Utc>,
    /// Cost of all rows but the first, USD as decimal text.
    pub extra_usd: String,
    /// True if the rows' costs differ.
    pub differs: bool,
}

/// Lists repeated calls.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client, search: &DuplicateSearch) -> Result<Vec<Duplicate>, tokio_postgres::Error> {
    let sql = format!(
        "WITH {ranked} SELECT key, min(provider) FILTER (WHERE number = 1), min(model) FILTER (WHERE number = 1), \
             min(user_id) FILTER (WHERE number = 1), count(*), min(occurred_at), max(occurred_at), \
             coalesce(sum(cost_usd) FILTER (WHERE number > 1), 0)::text, \
             count(DISTINCT coalesce(cost_usd::text, '')) > 1 \
         FROM ranked GROUP BY key ORDER BY min(occurred_at), key",
        ranked = search.ranked()
    );
    let (from, to) = search.times();
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&search.limit, Type::INT8)];
    let rows = client.query_typed(&sql, &values).await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> Duplicate {
    Duplicate {
        key: row.get(0),
        provider: row.get(1),
        model: row.get(2),
        user_id: row.get(3),
        rows: row.get(4),
        first_at: row.get(5),
        last_at: row.get(6),
        extra_usd: row.get(7),
        differs: row.get(8),
    }
}

/// Why duplicates were not dropped. Nothing has changed, unless the connection broke during COMMIT.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// PostgreSQL failed.
    #[error("no doubles were dropped: {}; run the same command again", super::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A setting is missing.
    #[error(transparent)]
    Setting(ForgetError),
}

impl From<ForgetError> for DuplicatesError {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Database(error) => Self::Database(error),
            other => Self::Setting(other),
        }
    }
}

/// Totals of the dropped rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedDuplicates {
    /// Number of rows.
    pub rows: u64,
    /// Their cost, USD as decimal text.
    pub cost_usd: String,
}

/// Removes all rows but the first of each call from the call log and the rollups, in one transaction with its entry in
/// the audit log.
///
/// # Errors
/// [`DuplicatesError`].
pub async fn drop(
    client: &Client,
    search: &DuplicateSearch,
    actor: &Actor<'_>,
) -> Result<DroppedDuplicates, DuplicatesError> {
    in_transaction(client, within(client, search, actor)).await
}

async fn within(
    client: &Client,
    search: &DuplicateSearch,
    actor: &Actor<'_>,
) -> Result<DroppedDuplicates, DuplicatesError> {
    // Excludes other operations that look calls up by id and act on the result.
    Lock::Replay.wait(client).await?;
    // Keeps out rebuilds of the rollups, which change the days.
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE").await?;
    let sums = |rollup: &Rollup| {
        let select = rollup.select_from("gone").replace("$1", ZONE);
        format!("(SELECT coalesce(jsonb_agg(s), '[]')::text FROM ({select}) AS s)")
    };
    let extra = Places::of_extra_rows(client, search).await?;
    let sql = format!(
        "WITH gone AS (DELETE FROM public.api_usage_log AS l \
             USING unnest($3::text[], $4::timestamptz[], $5::text[], $6::uuid[]) AS r (place, at, user_id, id) \
             WHERE l.ctid = r.place::tid AND l.occurred_at = r.at AND l.user_id = r.user_id AND l.id = r.id \
             AND l.occurred_at >= $1 AND l.occurred_at < $2 RETURNING l.*) \
         SELECT count(*), coalesce(sum(cost_usd), 0)::text, \
             (SELECT jsonb_agg(DISTINCT id) FROM (SELECT id FROM gone ORDER BY occurred_at LIMIT {NAMED}) AS n), {sums} FROM gone",
        sums = ROLLUPS.iter().map(sums).collect::<Vec<_>>().join(", "),
    );
    let (from, to) = search.times();
    let values: [(&(dyn ToSql + Sync), Type); 6] = [
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
        (&extra.places, Type::TEXT_ARRAY),
        (&extra.times, Type::TIMESTAMPTZ_ARRAY),
        (&extra.users, Type::TEXT_ARRAY),
        (&extra.ids, Type::UUID_ARRAY),
    ];
    let rows = client.query_typed(&sql, &values).await?;
    let Some(row) = rows.first().filter(|row| row.get::<_, i64>(0) > 0) else {
        return Ok(DroppedDuplicates { rows: 0, cost_usd: "0".into() });
    };
    let dropped = DroppedDuplicates { rows: row.get::<_, i64>(0).unsigned_abs(), cost_usd: row.get(1) };
    // After the calls: the base then has all their deltas.
    user_deltas::absorb_all(client).await?;
    for (rollup, column) in ROLLUPS.iter().zip(3..) {
        let sums: &str = row.get(column);
        subtract(client, rollup, sums, None).await?;
        if rollup.table == TOTALS.table {
            mend(client, sums).await?;
        }
    }
    note(client, search, &dropped, row.get(2), actor).await?;
    Ok(dropped)
}

/// Places of rows. The time gives the partition, the user the node; the id excludes another row that has come to the
/// same place.
#[derive(Default)]
struct Places {
    places: Vec<String>,
    times: Vec<DateTime<Utc>>,
    users: Vec<String>,
    ids: Vec<Uuid>,
}

impl Places {
    /// All rows but the first of each call.
    async fn of_extra_rows(client: &Client, search: &DuplicateSearch) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "WITH {ranked} SELECT place::text, occurred_at, user_id, row_id FROM ranked WHERE number > 1",
            ranked = search.ranked()
        );
        let (from, to) = search.times();
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&search.limit, Type::INT8)];
        let mut found = Self::default();
        for row in client.query_typed(&sql, &values).await? {
            found.places.push(row.get(0));
            found.times.push(row.get(1));
            found.users.push(row.get(2));
            found.ids.push(row.get(3));
        }
        Ok(found)
    }
}

/// Largest number of ids in the audit entry.
const NAMED: usize = 100;

async fn note(
    client: &Client,
    search: &DuplicateSearch,
    dropped: &DroppedDuplicates,
    ids: Option<serde_json::Value>,
    actor: &Actor<'_>,
) -> Result<(), tokio_postgres::Error> {
    let (from, to) = search.times();
    let old = json!({ "rows": dropped.rows, "cost_usd": dropped.cost_usd, "from": from, "to": to, "ids": ids });
    let object = format!("the same {}", search.key.columns());
    let change = Change { old: Some(old), ..actor.change("duplicates.drop", &object) };
    audit::write(client, &change).await
}

/// Sets the first and last call of the users whose totals changed.
async fn mend(client: &Client, totals: &str) -> Result<(), DuplicatesError> {
    let by_user = "SELECT t ->> 'user_id', jsonb_agg(t)::text FROM jsonb_array_elements($1::text::jsonb) AS t \
        GROUP BY 1 ORDER BY (t ->> 'user_id') COLLATE \"C\"";
    for row in client.query_typed(by_user, &[(&totals, Type::TEXT)]).await? {
        mend_times(client, row.get(0), row.get(1)).await?;
    }
    Ok(())
}
