//! Single calls, searched in the call log: newest first, dearest first or slowest first, a page at a time.
//!
//! A page continues after a call, not after a number of rows, so rows loaded meanwhile do not shift it.
//!
//! The call log's only index by time is BRIN, which finds a range and does not give an order. So a page searches
//! windows of time, from the newest back, each eight times as wide as the one before, and stops when it is full. The
//! first page of a range of 31 days reads a few minutes of calls. Windows without a matching call are read once.
//!
//! By cost and by latency, PostgreSQL reads the whole range and keeps the page in memory. The API bounds these ranges to a
//! day, which lies in few partitions.
//!
//! There is no index of ids, because each would cost loading more than a request saves. But an id of version 7, as the clients and the daemon make
//! it, has the time of its call ([`time_of`]), and the windows begin there.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tallyd_model::json::Text;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Parameter, QueryError};
use crate::file_cells::{Stored, column};
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, Column};

macro_rules! record_row {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// A call as it is stored.
        #[derive(Debug, Clone, Serialize, ToSchema)]
        #[expect(missing_docs, reason = "the fields are those of the record; protocol/README.md documents them")]
        pub struct RecordRow {
            $($(#[$attribute])* pub $name: $type,)*
        }

        /// The columns of a [`RecordRow`], in their order.
        pub const COLUMNS: &[&str] = &[$(stringify!($name)),*];

        /// The columns of a file of calls.
        pub const FILE_COLUMNS: &[Column] = &[$(column::<$type>(stringify!($name))),*];

        impl RecordRow {
            /// The cells of a file's row.
            #[must_use]
            pub fn cells(&self) -> [Cell<'_>; FILE_COLUMNS.len()] {
                [$(self.$name.cell()),*]
            }
        }

        pub(crate) fn read(row: &Row) -> Result<RecordRow, QueryError> {
            let mut column = 0..COLUMNS.len();
            Ok(RecordRow { $($name: row.try_get(column.next().unwrap_or_default())?),* })
        }
    };
}

record_row! {
    id: Uuid,
    occurred_at: DateTime<Utc>,
    provider: String,
    model: String,
    endpoint: String,
    user_id: String,
    app: String,
    request_id: String,
    input_tokens: i64,
    output_tokens: i64,
    cache_read_tokens: i64,
    cache_write_5m_tokens: i64,
    cache_write_1h_tokens: i64,
    requests: i64,
    #[schema(value_type = Option<Object>)]
    extra_units: Option<Text>,
    service_tier: String,
    status: i16,
    latency_ms: Option<i32>,
    #[schema(value_type = Option<String>, example = "0.004515")]
    cost_usd: Option<Usd>,
    /// `catalog`, `client` or `unpriced`; `amended` or `voided` by an admin.
    cost_source: String,
    price_id: Option<i32>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Text>,
    /// Where the model ran, if not at its vendor; or empty.
    platform: String,
    /// Tags, with a short hash in place of an `api_key`.
    #[schema(value_type = Option<Object>)]
    tags: Option<Text>,
}

/// The order of calls. Calls without the value are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordOrder {
    /// Newest first.
    #[default]
    Time,
    /// Dearest first.
    Cost,
    /// Slowest first.
    Latency,
}

impl RecordOrder {
    /// The number that calls are ordered by before their time, as an expression.
    fn value(self) -> Option<&'static str> {
        match self {
            Self::Time => None,
            Self::Cost => Some("round(cost_usd, 18)"),
            Self::Latency => Some("latency_ms::numeric"),
        }
    }

    /// The same number of a call.
    fn value_of(self, row: &RecordRow) -> Option<Usd> {
        match self {
            Self::Time => None,
            Self::Cost => row.cost_usd,
            Self::Latency => row.latency_ms.and_then(|ms| Usd::ONE.checked_mul(ms.into())),
        }
    }
}

/// The last call of a page, after which the next one continues.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The number that calls are ordered by; none by time.
    pub value: Option<Usd>,
    /// When the call was made.
    pub at: DateTime<Utc>,
    /// The call's id.
    pub id: Uuid,
}

/// A search. Text fields must be equal.
#[derive(Debug, Clone)]
pub struct RecordSearch {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant after the range.
    pub to: DateTime<Utc>,
    /// Columns and their values: `provider`, `model`, `endpoint`, `user_id`, `app`, `request_id`.
    pub equal: Vec<(&'static str, String)>,
    /// Tags and their values; an empty value finds calls without the tag. Names have no quote.
    pub tags: Vec<(String, String)>,
    /// The call's id.
    pub id: Option<Uuid>,
    /// Only calls with a status of 400 and above, or only the others.
    pub errors: Option<bool>,
    /// Only unpriced calls, or only the others.
    pub unpriced: Option<bool>,
    /// The order.
    pub order: RecordOrder,
    /// The last call of the page before.
    pub after: Option<Place>,
    /// Largest number of calls on a page.
    pub limit: i64,
}

/// All columns, with one of them replaced by an expression.
fn columns_with(name: &str, expression: &str) -> String {
    let columns = COLUMNS.iter().map(|column| if *column == name { expression } else { column });
    columns.collect::<Vec<_>>().join(", ")
}

/// Bytes of texts, units and metadata on one page; a page that would have more ends before its limit. Compression and
/// buffers need several times this memory.
const PAGE_BYTES: i64 = 4 << 20;
/// Bytes of metadata in an answer. The daemon's rows have less. In rows that other programs or old versions wrote,
/// numbers may be short in the table and megabytes as text.
const METADATA_BYTES: i64 = 64 << 10;

/// The width of the first window that is searched.
const FIRST_WINDOW: TimeDelta = TimeDelta::seconds(10);

macro_rules! names_and_kinds {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        [$((stringify!($name), stringify!($kind))),*]
    };
}

/// The texts of a call that count towards a page's bytes, as arguments of `concat`: every text of the list of fields.
fn sized() -> String {
    let text = |(name, kind): (&str, &str)| match kind {
        "required" | "text" => Some(name.to_owned()),
        "units" | "tags" => Some(format!("{name}::text")),
        "json" => Some("told".to_owned()),
        _ => None,
    };
    tallyd_protocol::for_each_field!(names_and_kinds).into_iter().filter_map(text).collect::<Vec<_>>().join(", ")
}

/// Calls may be dated a little after their id was made.
const AFTER_ID: TimeDelta = TimeDelta::seconds(2);

/// The time that an id of version 7 has.
#[must_use]
pub fn time_of(id: Uuid) -> Option<DateTime<Utc>> {
    let ms = i64::try_from(id.as_u128() >> 80).ok()?;
    DateTime::from_timestamp_millis(ms).filter(|_| id.get_version_num() == 7)
}

impl RecordSearch {
    /// Finds a page. True if another may follow.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn page(&self, client: &Client) -> Result<(Vec<RecordRow>, bool), QueryError> {
        let made_at = self.id.and_then(time_of).filter(|_| self.after.is_none());
        if let Some(to) =
            made_at.and_then(|at| at.checked_add_signed(AFTER_ID)).filter(|to| (self.from..self.to).contains(to))
        {
            let found = Self { to, ..self.clone() }.page_of(client).await?;
            if !found.0.is_empty() {
                return Ok(found);
            }
            return Self { from: to, ..self.clone() }.page_of(client).await;
        }
        self.page_of(client).await
    }

    /// Finds a page. True if another may follow.
    ///
    /// # Errors
    /// [`QueryError`].
    async fn page_of(&self, client: &Client) -> Result<(Vec<RecordRow>, bool), QueryError> {
        let Some(from) = self.first_window(client).await? else { return Ok((Vec::new(), false)) };
        let stored = columns_with("cost_usd", "round(cost_usd, 18) AS cost_usd");
        let answer = columns_with("metadata", "told::json");
        let sql = format!(
            "WITH found AS (SELECT {stored} FROM public.api_usage_log WHERE {wanted} \
             ORDER BY {order} LIMIT $8), \
             told AS (SELECT f.*, CASE WHEN octet_length(m.text) <= {METADATA_BYTES} THEN m.text WHEN m.text IS NOT NULL THEN \
             format('{{\"tallyd.left_out\": \"metadata of %s bytes\"}}', octet_length(m.text)) END AS told \
             FROM found AS f LEFT JOIN LATERAL (SELECT f.metadata::text OFFSET 0) AS m (text) ON true), \
             sized AS (SELECT t.*, row_number() OVER page AS place, count(*) OVER () AS found, sum(octet_length( \
             concat({sized}))) OVER page AS bytes \
             FROM told AS t WINDOW page AS (ORDER BY {order})) \
             SELECT {answer}, found FROM sized \
             WHERE bytes <= {PAGE_BYTES} OR place = 1 ORDER BY {order}",
            wanted = self.condition(),
            order = self.order_by(),
            sized = sized(),
        );
        let rows = self.ask(client, &sql, (&from, &self.to), self.limit).await?;
        let found = rows.first().map_or(0, |row| row.get::<_, i64>(COLUMNS.len()));
        let more = found >= self.limit || found > rows.len() as i64;
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, more))
    }

    /// The place of a call in this search's order.
    #[must_use]
    pub fn place(&self, row: &RecordRow) -> Place {
        Place { value: self.order.value_of(row), at: row.occurred_at, id: row.id }
    }

    fn order_by(&self) -> String {
        let value = self.order.value().map(|value| format!("{value} DESC, ")).unwrap_or_default();
        format!("{value}occurred_at DESC, id DESC")
    }

    /// The beginning of the range that has enough calls for a page, or all matching ones. None without a match. In another
    /// order than that of time it is the whole range.
    async fn first_window(&self, client: &Client) -> Result<Option<DateTime<Utc>>, QueryError> {
        if self.order != RecordOrder::Time {
            return Ok(Some(self.from));
        }
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM public.api_usage_log WHERE {} LIMIT $8) AS l",
            self.condition()
        );
        // More calls may have the same microsecond as the last call of the page before.
        let after = |place: Place| place.at.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(self.to);
        let mut to = self.after.map_or(self.to, |call| self.to.min(after(call)));
        // An id has one call.
        let limit = if self.id.is_some() { 1 } else { self.limit };
        let (mut width, mut missing, mut first) = (FIRST_WINDOW, limit, None);
        while missing > 0 && to > self.from {
            let from = to.checked_sub_signed(width).map_or(self.from, |from| self.from.max(from));
            let rows = self.ask(client, &sql, (&from, &to), missing).await?;
            // An aggregate returns one row.
            let found = rows.first().map_or(0, |row| row.get::<_, i64>(0));
            if found > 0 {
                first = Some(from);
            }
            missing -= found;
            to = from;
            width = width * 8;
        }
        Ok(first)
    }

    /// `$1` and `$2` are the range, `$3`, `$4` and `$9` the last call of the page before, `$8` is the limit.
    fn condition(&self) -> String {
        let after = match self.order.value() {
            // The position bounds the time as well, so that newer partitions are left out. Each parameter must be used.
            None => "occurred_at <= coalesce($3, 'infinity') AND ($3 IS NULL OR (occurred_at, id) < ($3, $4)) \
                AND $9 IS NULL"
                .to_owned(),
            Some(value) => {
                format!("{value} IS NOT NULL AND ($9 IS NULL OR ({value}, occurred_at, id) < ($9, $3, $4))")
            }
        };
        let condition = format!(
            "occurred_at >= $1 AND occurred_at < $2 AND {after} \
             AND ($5 IS NULL OR id = $5) AND ($6 IS NULL OR (status >= 400) = $6) \
             AND ($7 IS NULL OR (cost_usd IS NULL) = $7)"
        );
        let equal = self.equal.iter().map(|(column, _)| (*column).to_owned());
        let tags = self.tags.iter().map(|(tag, _)| format!("coalesce(tags ->> '{tag}', '')"));
        equal.chain(tags).zip(10..).fold(condition, |text, (field, place)| format!("{text} AND {field} = ${place}"))
    }

    async fn ask(
        &self,
        client: &Client,
        sql: &str,
        (from, to): (&DateTime<Utc>, &DateTime<Utc>),
        limit: i64,
    ) -> Result<Vec<Row>, QueryError> {
        let after_at = self.after.map(|place| place.at);
        let after_id = self.after.map(|place| place.id);
        let after_value = self.after.and_then(|place| place.value);
        let mut values: Vec<Parameter<'_>> = vec![
            (from, Type::TIMESTAMPTZ),
            (to, Type::TIMESTAMPTZ),
            (&after_at, Type::TIMESTAMPTZ),
            (&after_id, Type::UUID),
            (&self.id, Type::UUID),
            (&self.errors, Type::BOOL),
            (&self.unpriced, Type::BOOL),
            (&limit, Type::INT8),
            (&after_value, Type::NUMERIC),
        ];
        values.extend(self.equal.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        values.extend(self.tags.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        Ok(client.query_typed(sql, &values).await?)
    }
}

/// Calls `each` with every call of a range: one statement, so one snapshot, and a few rows in memory at a time. Partitions
/// come one after the other; within them the order is PostgreSQL's.
///
/// # Errors
/// PostgreSQL's, and those of `each`, which ends the stream.
pub async fn each<E: From<QueryError>>(
    client: &Client,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    mut each: impl FnMut(&RecordRow) -> Result<(), E>,
) -> Result<(), E> {
    let columns = columns_with("cost_usd", "round(cost_usd, 18)");
    let sql = format!("SELECT {columns} FROM public.api_usage_log WHERE occurred_at >= $1 AND occurred_at < $2");
    let range: [Parameter<'_>; 2] = [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ)];
    let rows = client.query_typed_raw(&sql, range).await.map_err(QueryError::from)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(QueryError::from)? {
        each(&read(&row)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_version_7_tells_its_time() {
        let id = Uuid::from_u128(0x017f_22e2_79b0_7cc3_98c4_dc0c_0c07_398f);
        assert_eq!(time_of(id).unwrap().to_rfc3339(), "2022-02-22T19:22:22+00:00");
        assert_eq!(time_of(Uuid::from_u128(0x017f_22e2_79b0_4cc3_98c4_dc0c_0c07_398f)), None);
    }

    #[test]
    fn a_page_counts_every_text_of_a_record() {
        let counted = sized();
        for column in COLUMNS.iter().filter(|column| !["metadata", "extra_units", "tags"].contains(column)) {
            let is_text = ["provider", "model", "endpoint", "user_id", "app", "request_id", "service_tier", "platform"];
            assert_eq!(counted.split(", ").any(|name| name == *column), is_text.contains(column), "{column}");
        }
        assert!(
            counted.contains("extra_units::text") && counted.contains("tags::text") && counted.contains("told"),
            "{counted}"
        );
    }
}
