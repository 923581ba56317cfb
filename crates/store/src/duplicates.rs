//! Calls that are in the call log more than once: beyond the window of stated ids, across daemons, or from before the window was there.
//!
//! Two rows are one call if they have the same id ([`DuplicateKey::Id`]), or the same provider and vendor's id of a response
//! ([`DuplicateKey::Response`]). An id
//! that is made is made once, so the same id twice was stated twice. A `request_id` may be a product's own, so only forms that
//! vendors give count (those of `crates/intake/src/vendors_id.rs`), and it is asked for apart.
//!
//! [`drop`] keeps the first row of each call, by its time, and takes the others out of the call log in one transaction with their
//! sums, tables in
//! the loader's order, by the statements that forgetting a user uses. So `reconcile` holds, and loading goes on. Rows are found
//! by their place (`ctid`), time and id, as in [`super::reprice`]: one that another transaction has moved stays, and the next run finds it.

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

/// What two rows of one call have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateKey {
    /// The id.
    Id,
    /// The provider and the vendor's id of the response.
    Response,
}

/// Forms of vendors' ids, by the provider that they are of; empty: of any.
const FORMS: [(&str, &str); 4] =
    [("", "^chatcmpl-."), ("", "^resp_.{32}"), ("claude", "^msg_(bdrk|vrtx)_."), ("claude", "^(msg|req)_.*[A-Z]")];

impl DuplicateKey {
    /// Its columns.
    const fn columns(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Response => "provider, request_id",
        }
    }

    /// As text.
    const fn text(self) -> &'static str {
        match self {
            Self::Id => "id::text",
            Self::Response => "provider || ' ' || request_id",
        }
    }

    /// Which rows have one.
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

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub struct DuplicateSearch {
    /// Calls from here on, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Calls before this.
    pub to_us: i64,
    /// What they have in common.
    pub key: DuplicateKey,
    /// Calls that are there more than once, at most; the earliest ones first.
    pub limit: i64,
}

impl DuplicateSearch {
    /// `ranked`: the rows of calls that are there more than once, each with its place among its call's. `$1` to `$3`:
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

/// A call that is there more than once.
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
    /// Rows.
    pub rows: i64,
    /// The first row's time.
    pub first_at: DateTime<Utc>,
    /// The last row's.
    pub last_at: DateTime<Utc>,
    /// What all rows but the first cost, USD as decimal text.
    pub extra_usd: String,
    /// True if the rows do not all cost the same.
    pub differs: bool,
}

/// Lists calls that are there more than once.
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

/// Why doubles were not dropped. Nothing has changed, unless the connection broke while COMMIT was under way.
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

/// What was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedDuplicates {
    /// Rows.
    pub rows: u64,
    /// What they cost, USD as decimal text.
    pub cost_usd: String,
}

/// Takes all rows but the first of each call out of the call log and of the rollups, in one transaction with its entry in the audit log.
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
    // Two runs would see each other's rows as theirs.
    Lock::Replay.wait(client).await?;
    // Keeps rebuilds of the rollups out: they change what a day is.
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE").await?;
    let sums = |rollup: &Rollup| {
        let select = rollup.select_from("gone").replace("$1", ZONE);
        format!("(SELECT coalesce(jsonb_agg(s), '[]')::text FROM ({select}) AS s)")
    };
    let extra = Places::of_extra_rows(client, search).await?;
    let sql = format!(
        "WITH gone AS (DELETE FROM public.api_usage_log AS l \
             USING unnest($3::text[], $4::timestamptz[], $5::uuid[]) AS r (place, at, id) \
             WHERE l.ctid = r.place::tid AND l.occurred_at = r.at AND l.id = r.id \
             AND l.occurred_at >= $1 AND l.occurred_at < $2 RETURNING l.*) \
         SELECT count(*), coalesce(sum(cost_usd), 0)::text, \
             (SELECT jsonb_agg(DISTINCT id) FROM (SELECT id FROM gone ORDER BY occurred_at LIMIT {NAMED}) AS n), {sums} FROM gone",
        sums = ROLLUPS.iter().map(sums).collect::<Vec<_>>().join(", "),
    );
    let (from, to) = search.times();
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
        (&extra.places, Type::TEXT_ARRAY),
        (&extra.times, Type::TIMESTAMPTZ_ARRAY),
        (&extra.ids, Type::UUID_ARRAY),
    ];
    let rows = client.query_typed(&sql, &values).await?;
    let Some(row) = rows.first().filter(|row| row.get::<_, i64>(0) > 0) else {
        return Ok(DroppedDuplicates { rows: 0, cost_usd: "0".into() });
    };
    let dropped = DroppedDuplicates { rows: row.get::<_, i64>(0).unsigned_abs(), cost_usd: row.get(1) };
    // After the calls: what they added to the deltas is in the base then.
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

/// Where rows stand. The time tells the partition, the id the shard; and it keeps another row out that has come to the same place.
#[derive(Default)]
struct Places {
    places: Vec<String>,
    times: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
}

impl Places {
    /// All rows but the first of each call.
    async fn of_extra_rows(client: &Client, search: &DuplicateSearch) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "WITH {ranked} SELECT place::text, occurred_at, row_id FROM ranked WHERE number > 1",
            ranked = search.ranked()
        );
        let (from, to) = search.times();
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&search.limit, Type::INT8)];
        let mut found = Self::default();
        for row in client.query_typed(&sql, &values).await? {
            found.places.push(row.get(0));
            found.times.push(row.get(1));
            found.ids.push(row.get(2));
        }
        Ok(found)
    }
}

/// Ids that the audit log names.
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

/// Sets the first and last call of the users whose totals were subtracted from.
async fn mend(client: &Client, totals: &str) -> Result<(), DuplicatesError> {
    let by_user = "SELECT t ->> 'user_id', jsonb_agg(t)::text FROM jsonb_array_elements($1::text::jsonb) AS t \
        GROUP BY 1 ORDER BY (t ->> 'user_id') COLLATE \"C\"";
    for row in client.query_typed(by_user, &[(&totals, Type::TEXT)]).await? {
        mend_times(client, row.get(0), row.get(1)).await?;
    }
    Ok(())
}
