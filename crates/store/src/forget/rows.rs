//! Moves the user's calls and sums to the empty user id, a transaction at a time.
//!
//! Sums are passed between statements as JSON, in which numbers keep their digits. Each move writes its tables in the
//! loader's order, the empty key (`''`) before the user's.
//!
//! ## Why sums and calls match
//! A loader writes its calls and the users' deltas in one transaction, and locks the deltas' table until its COMMIT
//! ([`crate::user_deltas`]). A step takes the calls first, then keeps loaders out, and merges the user's deltas. The
//! base then counts each call that the step has taken, and the call log has exactly the calls that base and deltas
//! count.
//!
//! New partitions need care: PostgreSQL shows a committed row a moment before other sessions learn of the partition
//! that the same transaction made. So a step first waits for transactions that make partitions
//! ([`enter_without_new_partitions`]).

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::ForgetError;
use crate::rollups::{DIMENSIONS, Rollup, TOTALS, USERS, ZONE, subtract};
use crate::{dimensions, user_deltas, user_list};

type Value<'v> = (&'v (dyn ToSql + Sync), Type);

/// The call log's columns, for inserting rows again.
pub(super) struct Columns {
    names: String,
    anonymous: String,
}

/// The tags that remain in a call: dimensions, which are sums of many users, unless they name this one.
const KEPT_TAGS: &str = "(SELECT jsonb_object_agg(k.key, k.value) \
    FROM jsonb_each_text(CASE jsonb_typeof(tags) WHEN 'object' THEN tags END) AS k WHERE k.key = ANY ($5) AND k.value <> $2)";

impl Columns {
    /// Reads them from the catalog, so that columns of a later version keep their values.
    pub(super) async fn read(client: &Client) -> Result<Self, ForgetError> {
        let sql = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), \
            string_agg(CASE attname WHEN 'user_id' THEN '''''' WHEN 'request_id' THEN '''''' WHEN 'metadata' THEN 'NULL::jsonb' \
                WHEN 'tags' THEN $1 ELSE quote_ident(attname) END, ', ' ORDER BY attnum) \
            FROM pg_attribute WHERE attrelid = 'public.api_usage_log'::regclass AND attnum > 0 AND NOT attisdropped";
        let rows = client.query_typed(sql, &[(&KEPT_TAGS, Type::TEXT)]).await?;
        let row = rows.first().ok_or(ForgetError::Setting("schema"))?;
        Ok(Self { names: row.get(0), anonymous: row.get(1) })
    }
}

/// A part of a day on which the user has calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    day: NaiveDate,
    number: u32,
    of: u32,
}

/// The slices with the user's calls, in order of time.
pub(super) async fn slices(client: &Client, user: &str, batch_calls: u32) -> Result<Vec<Slice>, ForgetError> {
    let sql =
        "SELECT day, sum(calls)::int8 FROM public.tallyd_user_day_parts WHERE user_id = $1 GROUP BY day ORDER BY day";
    let mut slices = Vec::new();
    for row in client.query_typed(sql, &[(&user, Type::TEXT)]).await? {
        let (day, calls): (_, i64) = (row.get(0), row.get(1));
        // Slices of less than a second are not needed.
        let of = calls.unsigned_abs().div_ceil(batch_calls.max(1).into()).clamp(1, 86_400) as u32;
        slices.extend((0..of).map(|number| Slice { day, number, of }));
    }
    Ok(slices)
}

/// Keeps rebuilds of the rollups out until the transaction ends, because they change the days. Called first, because
/// every writer locks the call log first.
async fn enter(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ROW EXCLUSIVE MODE").await
}

/// The same, and keeps out transactions that make partitions. Otherwise a call in a brand-new partition could be
/// visible in the sums and missing in the call log.
async fn enter_without_new_partitions(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN SHARE UPDATE EXCLUSIVE MODE").await?;
    enter(client).await
}

/// The instant of a slice's beginning.
async fn instant(client: &Client, slice: &Slice, number: u32) -> Result<DateTime<Utc>, ForgetError> {
    let sql = format!(
        "SELECT d.from_at + (d.to_at - d.from_at) * ($2::float8 / $3::float8) \
         FROM (SELECT $1::timestamp AT TIME ZONE {ZONE} AS from_at, ($1 + 1)::timestamp AT TIME ZONE {ZONE} AS to_at) AS d"
    );
    let share: [Value<'_>; 3] =
        [(&slice.day, Type::DATE), (&f64::from(number), Type::FLOAT8), (&f64::from(slice.of), Type::FLOAT8)];
    let rows = client.query_typed(&sql, &share).await?;
    let at: Option<DateTime<Utc>> = rows.first().and_then(|row| row.get(0));
    at.ok_or(ForgetError::Setting("reporting_time_zone"))
}

/// Anonymises a slice's calls. Returns their number.
pub(super) async fn move_slice(
    client: &Client,
    user: &str,
    columns: &Columns,
    slice: &Slice,
) -> Result<u64, ForgetError> {
    enter(client).await?;
    let (from, to) = (instant(client, slice, slice.number).await?, instant(client, slice, slice.number + 1).await?);
    let sql = format!(
        "WITH gone AS (DELETE FROM public.api_usage_log \
             WHERE user_id = $2 AND occurred_at >= $3 AND occurred_at < $4 RETURNING *), \
         kept AS (INSERT INTO public.api_usage_log ({names}) SELECT {anonymous} FROM gone) \
         SELECT (SELECT count(*) FROM gone), \
             (SELECT jsonb_agg(d)::text FROM ({daily}) AS d), (SELECT jsonb_agg(t)::text FROM ({totals}) AS t), \
             (SELECT jsonb_agg(s)::text FROM ({dimensions}) AS s WHERE s.dimension <> 'app' AND s.value = $2)",
        names = columns.names,
        anonymous = columns.anonymous,
        daily = USERS.select_from("gone").replace("$1", ZONE),
        totals = TOTALS.select_from("gone"),
        dimensions = DIMENSIONS.select_from("gone").replace("$1", ZONE),
    );
    // Read here, where none can be added that has counted these calls.
    let tags: Vec<String> = dimensions::list(client).await?.into_iter().map(|dimension| dimension.name).collect();
    let values: [Value<'_>; 5] = [
        (&"", Type::TEXT),
        (&user, Type::TEXT),
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
        (&tags, Type::TEXT_ARRAY),
    ];
    let rows = client.query_typed(&sql, &values).await?;
    let (Some(daily), Some(totals)) = (text(&rows, 1), text(&rows, 2)) else { return Ok(0) };
    user_deltas::absorb_user(client, user).await?;
    move_sums(client, USERS, user, &daily).await?;
    move_sums(client, TOTALS, user, &totals).await?;
    mend_times(client, user, &totals).await?;
    user_list::renew(client, user).await?;
    if let Some(named) = text(&rows, 3) {
        unname(client, &named, &[DIMENSIONS.table]).await?;
    }
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Moves sums of dimensions whose value is the user's id to the empty value, a day and a dimension at a time: in the loader's order.
async fn unname(client: &Client, sums: &str, tables: &[&str]) -> Result<(), ForgetError> {
    let parts = "SELECT jsonb_agg(s)::text FROM jsonb_array_elements($1::text::jsonb) AS s GROUP BY s ->> 'day', s ->> 'dimension' \
        ORDER BY s ->> 'day', (s ->> 'dimension') COLLATE \"C\"";
    let parts = client.query_typed(parts, &[(&sums, Type::TEXT)]).await?;
    for table in tables {
        for part in &parts {
            let part: &str = part.get(0);
            let nobodys = DIMENSIONS.column_list().replace("value", "''::text AS value");
            let source =
                format!("SELECT {nobodys} FROM jsonb_populate_recordset(NULL::public.{table}, $1::text::jsonb)");
            client.query_typed(&DIMENSIONS.add_to(table, &source), &[(&part, Type::TEXT)]).await?;
            if *table == DIMENSIONS.table {
                subtract(client, DIMENSIONS, part, None).await?;
            }
        }
    }
    Ok(())
}

/// Moves the user's sums of dropped partitions. Returns the number of their calls.
///
/// The totals are taken first. If a partition is dropped in between, its days are moved now and its totals the next
/// time, which leaves first and last calls right. In the other order the totals would include days that are counted
/// twice.
pub(super) async fn move_dropped(client: &Client, user: &str) -> Result<u64, ForgetError> {
    enter(client).await?;
    let totals = take_dropped(client, TOTALS, user).await?;
    let daily = take_dropped(client, USERS, user).await?;
    let named = take_dropped(client, DIMENSIONS, user).await?;
    if totals.is_none() && daily.is_none() && named.is_none() {
        return Ok(0);
    }
    let (totals, daily) = (totals.unwrap_or_else(|| "[]".into()), daily.unwrap_or_else(|| "[]".into()));
    user_deltas::absorb_user(client, user).await?;
    move_sums(client, USERS, user, &daily).await?;
    move_sums(client, TOTALS, user, &totals).await?;
    mend_times(client, user, &totals).await?;
    user_list::renew(client, user).await?;
    if let Some(named) = named {
        unname(client, &named, &[DIMENSIONS.table, DIMENSIONS.dropped]).await?;
    }
    add(client, USERS, USERS.dropped, &daily).await?;
    add(client, TOTALS, TOTALS.dropped, &totals).await?;
    let sql = "SELECT coalesce(sum((t ->> 'calls')::numeric), 0)::int8 FROM jsonb_array_elements($1::text::jsonb) AS t";
    let rows = client.query_typed(sql, &[(&totals, Type::TEXT)]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Moves the rest of the rollups once the call log does not have calls of the user: sums of calls that SQL deleted from
/// the call log. Returns false if the call log has calls again.
///
/// Loaders and all others who change the base are kept out before the call log is read.
pub(super) async fn move_rest(client: &Client, user: &str) -> Result<bool, ForgetError> {
    enter_without_new_partitions(client).await?;
    user_deltas::absorb_user(client, user).await?;
    let daily = lock(client, USERS, user).await?;
    let totals = lock(client, TOTALS, user).await?;
    if daily.is_none() && totals.is_none() {
        user_list::renew(client, user).await?;
        return Ok(true);
    }
    let (daily, totals) = (daily.unwrap_or_else(|| "[]".into()), totals.unwrap_or_else(|| "[]".into()));
    // Calls that came between the two locks are counted in the totals, and are in the call log.
    let between = format!(
        "SELECT 1 FROM public.{daily} AS t WHERE user_id = $1 AND NOT EXISTS (SELECT 1 FROM \
             jsonb_populate_recordset(NULL::public.{daily}, $2::text::jsonb) AS d \
             WHERE d.day = t.day AND d.provider = t.provider) \
         UNION ALL SELECT 1 FROM public.{days} WHERE user_id = $1 \
         UNION ALL SELECT 1 FROM public.{totals} WHERE user_id = $1 LIMIT 1",
        daily = USERS.table,
        days = USERS.dropped,
        totals = TOTALS.dropped,
    );
    let values: [Value<'_>; 2] = [(&user, Type::TEXT), (&daily, Type::TEXT)];
    if !client.query_typed(&between, &values).await?.is_empty() {
        return Ok(false);
    }
    let days = "SELECT DISTINCT (d ->> 'day')::date FROM jsonb_array_elements($1::text::jsonb) AS d";
    for row in client.query_typed(days, &[(&daily, Type::TEXT)]).await? {
        if extremes(client, user, None, row.get(0)).await?.0.is_some() {
            return Ok(false);
        }
    }
    move_sums(client, USERS, user, &daily).await?;
    move_sums(client, TOTALS, user, &totals).await?;
    user_list::renew(client, user).await?;
    Ok(true)
}

/// Locks the user's rows of a rollup, and returns them. None if there are no rows.
async fn lock(client: &Client, rollup: &Rollup, user: &str) -> Result<Option<String>, ForgetError> {
    let sql = format!(
        "SELECT jsonb_agg(t)::text FROM (SELECT {columns} FROM public.{table} WHERE user_id = $1 \
         ORDER BY {order} FOR UPDATE) AS t",
        columns = rollup.column_list(),
        table = rollup.table,
        order = rollup.key_order(),
    );
    let rows = client.query_typed(&sql, &[(&user, Type::TEXT)]).await?;
    Ok(text(&rows, 0))
}

/// The user's first and last call in the call log around a day, of one provider or of all.
async fn extremes(
    client: &Client,
    user: &str,
    provider: Option<&str>,
    day: NaiveDate,
) -> Result<(Option<DateTime<Utc>>, Option<DateTime<Utc>>), ForgetError> {
    // With a day more on either side, irregularities of zones do not matter.
    let whole = |day| Slice { day, number: 0, of: 1 };
    let from = instant(client, &whole(day - chrono::Days::new(1)), 0).await?;
    let to = instant(client, &whole(day + chrono::Days::new(1)), 1).await?;
    let sql = "SELECT min(occurred_at), max(occurred_at) FROM public.api_usage_log \
        WHERE user_id = $1 AND ($2::text IS NULL OR provider = $2) AND occurred_at >= $3 AND occurred_at < $4";
    let values: [Value<'_>; 4] =
        [(&user, Type::TEXT), (&provider, Type::TEXT), (&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ)];
    let rows = client.query_typed(sql, &values).await?;
    Ok(rows.first().map_or((None, None), |row| (row.get(0), row.get(1))))
}

/// Corrects the first and the last call of the user's totals after a subtraction.
pub(crate) async fn mend_times(client: &Client, user: &str, totals: &str) -> Result<(), ForgetError> {
    let left = "SELECT t ->> 'provider', min(d.day), max(d.day) FROM jsonb_array_elements($2::text::jsonb) AS t \
        LEFT JOIN public.tallyd_user_days AS d ON d.provider = t ->> 'provider' AND d.user_id = $1 GROUP BY 1";
    for row in client.query_typed(left, &[(&user, Type::TEXT), (&totals, Type::TEXT)]).await? {
        let (provider, days): (&str, (Option<NaiveDate>, Option<NaiveDate>)) = (row.get(0), (row.get(1), row.get(2)));
        let (mut first, mut last) = (None, None);
        if let (Some(first_day), Some(last_day)) = days {
            first = extremes(client, user, Some(provider), first_day).await?.0;
            last = extremes(client, user, Some(provider), last_day).await?.1;
        }
        let sql = "UPDATE public.tallyd_user_totals AS t SET \
                first_call_at = coalesce(least($3, x.first_call_at), t.first_call_at), \
                last_call_at = coalesce(greatest($4, x.last_call_at), t.last_call_at) \
            FROM (SELECT min(first_call_at) AS first_call_at, max(last_call_at) AS last_call_at \
                FROM public.tallyd_dropped_totals WHERE user_id = $1 AND provider = $2) AS x \
            WHERE t.user_id = $1 AND t.provider = $2";
        let values: [Value<'_>; 4] =
            [(&user, Type::TEXT), (&provider, Type::TEXT), (&first, Type::TIMESTAMPTZ), (&last, Type::TIMESTAMPTZ)];
        client.query_typed(sql, &values).await?;
    }
    Ok(())
}

/// Takes the user's rows out of the sums of dropped calls. None if there are no rows.
async fn take_dropped(client: &Client, rollup: &Rollup, user: &str) -> Result<Option<String>, ForgetError> {
    let sql = format!(
        "WITH gone AS (DELETE FROM public.{table} WHERE {users} RETURNING {columns}) \
         SELECT jsonb_agg(gone)::text FROM gone",
        users = if rollup.table == DIMENSIONS.table { "dimension <> 'app' AND value = $1" } else { "user_id = $1" },
        table = rollup.dropped,
        columns = rollup.column_list()
    );
    let rows = client.query_typed(&sql, &[(&user, Type::TEXT)]).await?;
    Ok(text(&rows, 0))
}

/// Adds sums to the empty user id.
async fn add(client: &Client, rollup: &Rollup, table: &str, sums: &str) -> Result<(), ForgetError> {
    let nobodys = rollup.column_list().replace("user_id", "''::text AS user_id");
    let source = format!("SELECT {nobodys} FROM jsonb_populate_recordset(NULL::public.{table}, $1::text::jsonb)");
    client.query_typed(&rollup.add_to(table, &source), &[(&sums, Type::TEXT)]).await?;
    Ok(())
}

/// Moves sums from the user to the empty user id. Emptied rows of the user are deleted.
async fn move_sums(client: &Client, rollup: &Rollup, user: &str, sums: &str) -> Result<(), ForgetError> {
    add(client, rollup, rollup.table, sums).await?;
    Ok(subtract(client, rollup, sums, Some(user)).await?)
}

fn text(rows: &[Row], column: usize) -> Option<String> {
    rows.first().and_then(|row| row.get(column))
}
