//! Single calls, searched in the call log: newest first, a page at a time.
//!
//! A page continues after a call, not after a number of rows: rows that are loaded meanwhile shift nothing.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tallyd_model::json::Text;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Parameter, QueryError, Reading};
use tallyd_model::pricing::Usd;

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

        fn read(row: &Row) -> Result<RecordRow, QueryError> {
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
    /// `catalog`, `client` or `unpriced`.
    cost_source: String,
    price_id: Option<i32>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Text>,
    /// Where the model ran, if not at its vendor; or empty.
    platform: String,
}

/// The search. Text fields match whole.
#[derive(Debug, Clone)]
pub struct RecordSearch {
    /// Not before.
    pub from: DateTime<Utc>,
    /// Before.
    pub to: DateTime<Utc>,
    /// The column and its value: `provider`, `model`, `endpoint`, `user_id`, `app`, `request_id`.
    pub equal: Vec<(&'static str, String)>,
    /// The call's id.
    pub id: Option<Uuid>,
    /// Only calls with a status of 400 and above, or only others.
    pub errors: Option<bool>,
    /// Only unpriced calls, or only others.
    pub unpriced: Option<bool>,
    /// The call that the page comes after.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// Calls of a page.
    pub limit: i64,
}

/// All columns, with an expression in place of one.
fn columns_with(name: &str, expression: &str) -> String {
    let columns = COLUMNS.iter().map(|column| if *column == name { expression } else { column });
    columns.collect::<Vec<_>>().join(", ")
}

/// Bytes of the texts, units and metadata of one page; a page that would have more ends before its limit. Compression and buffers
/// hold it several times.
const PAGE_BYTES: i64 = 4 << 20;
/// Bytes of metadata that are told. Rows of the daemon are below; a row that was written by others, or by an old version,
/// may have numbers that are short in the table and megabytes as text.
const METADATA_BYTES: i64 = 64 << 10;

impl RecordSearch {
    /// Finds a page, and whether another may follow.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn page(&self, reading: &Reading) -> Result<(Vec<RecordRow>, bool), QueryError> {
        let (after_at, after_id) = self.after.unzip();
        let mut values: Vec<Parameter<'_>> = vec![
            (&self.from, Type::TIMESTAMPTZ),
            (&self.to, Type::TIMESTAMPTZ),
            (&after_at, Type::TIMESTAMPTZ),
            (&after_id, Type::UUID),
            (&self.id, Type::UUID),
            (&self.errors, Type::BOOL),
            (&self.unpriced, Type::BOOL),
            (&self.limit, Type::INT8),
        ];
        let mut filters = String::new();
        for (column, value) in &self.equal {
            values.push((value, Type::TEXT));
            filters.push_str(&format!(" AND {column} = ${}", values.len()));
        }
        // The page's beginning bounds the time as well, so that partitions before it are left out.
        let stored = columns_with("cost_usd", "round(cost_usd, 18) AS cost_usd");
        let answer = columns_with("metadata", "told::json");
        let sql = format!(
            "WITH found AS (SELECT {stored} FROM public.api_usage_log WHERE occurred_at >= $1 AND occurred_at < $2 \
             AND occurred_at <= coalesce($3, 'infinity') AND ($3 IS NULL OR (occurred_at, id) < ($3, $4)) \
             AND ($5 IS NULL OR id = $5) AND ($6 IS NULL OR (status >= 400) = $6) \
             AND ($7 IS NULL OR (cost_usd IS NULL) = $7){filters} ORDER BY occurred_at DESC, id DESC LIMIT $8), \
             told AS (SELECT f.*, CASE WHEN octet_length(m.text) <= {METADATA_BYTES} THEN m.text WHEN m.text IS NOT NULL THEN \
             format('{{\"tallyd.left_out\": \"metadata of %s bytes\"}}', octet_length(m.text)) END AS told \
             FROM found AS f LEFT JOIN LATERAL (SELECT f.metadata::text OFFSET 0) AS m (text) ON true), \
             sized AS (SELECT t.*, row_number() OVER page AS place, count(*) OVER () AS found, sum(octet_length( \
             concat(model, endpoint, user_id, app, request_id, extra_units::text, told))) OVER page AS bytes \
             FROM told AS t WINDOW page AS (ORDER BY occurred_at DESC, id DESC)) \
             SELECT {answer}, found FROM sized \
             WHERE bytes <= {PAGE_BYTES} OR place = 1 ORDER BY occurred_at DESC, id DESC"
        );
        let rows = reading.query_typed(&sql, &values).await?;
        let found = rows.first().map_or(0, |row| row.get::<_, i64>(COLUMNS.len()));
        let more = found >= self.limit || found > rows.len() as i64;
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, more))
    }
}
