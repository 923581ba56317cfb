//! The rollups as sums in SQL, for reconciling, for a rebuild, and for the calls that are dropped from the call log.
//!
//! There is one list of measures and one of tables, so that these uses cannot differ. Each expression is over the call
//! log (or one of its partitions) `AS l`; `$1` is the reporting time zone. A rollup is the sum over the call log and
//! its table of dropped sums together ([`Rollup::select_accounted`]). The two by user are base and deltas
//! ([`crate::user_deltas`]).

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::citus::is_spread;

/// Measures, each with its sum.
pub(super) const MEASURES: [(&str, &str); 10] = [
    ("calls", "count(*)"),
    ("errors", "count(*) FILTER (WHERE l.status >= 400)"),
    ("input_tokens", "sum(l.input_tokens)"),
    ("output_tokens", "sum(l.output_tokens)"),
    ("cache_read_tokens", "sum(l.cache_read_tokens)"),
    ("cache_write_5m_tokens", "sum(l.cache_write_5m_tokens)"),
    ("cache_write_1h_tokens", "sum(l.cache_write_1h_tokens)"),
    ("requests", "sum(l.requests)"),
    ("cost_usd", "coalesce(sum(l.cost_usd), 0)"),
    ("unpriced_calls", "count(*) FILTER (WHERE l.cost_usd IS NULL)"),
];

const FIRST_CALL: &str = "first_call_at";
const LAST_CALL: &str = "last_call_at";

/// The zone of the rollups' days, as SQL.
pub(super) const ZONE: &str = "(SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone')";

/// Measures of the lifetime totals alone.
const CALL_TIMES: [(&str, &str); 2] = [(FIRST_CALL, "min(l.occurred_at)"), (LAST_CALL, "max(l.occurred_at)")];

const DAY: (&str, &str) = ("day", "(l.occurred_at AT TIME ZONE $1)::date");
const HOUR: (&str, &str) = ("hour", "date_trunc('hour', l.occurred_at, $1)");
const PROVIDER: (&str, &str) = ("provider", "l.provider");
const USER: (&str, &str) = ("user_id", "l.user_id");
const MODEL: (&str, &str) = ("model", "CASE WHEN l.rollup_other & 1 <> 0 THEN '(other)' ELSE l.model END");
const ENDPOINT: (&str, &str) = ("endpoint", "CASE WHEN l.rollup_other & 2 <> 0 THEN '(other)' ELSE l.endpoint END");
const DIMENSION: (&str, &str) = ("dimension", "d.name");
const VALUE: (&str, &str) = (
    "value",
    "CASE WHEN l.rollup_other >> d.place & 1 = 1 THEN '(other)' WHEN d.name = 'app' THEN l.app \
     ELSE coalesce(l.tags ->> d.name, '') END",
);
/// A row for each dimension that counts the call.
const EACH_DIMENSION: &str =
    " JOIN public.tallyd_dimensions AS d ON (l.occurred_at AT TIME ZONE $1)::date >= d.counted_from";

/// One rollup: its tables, key and sums.
#[derive(Debug)]
pub(super) struct Rollup {
    /// The view or table that people read, in the schema `public`: one row a key.
    pub(super) name: &'static str,
    /// The table that is written, in the schema `public`; for users' rollups the base of the deltas.
    pub(super) table: &'static str,
    /// The table of sums of dropped calls: the same columns, the same key.
    pub(super) dropped: &'static str,
    /// The join of a row of the call log `AS l`, if a call counts in several rows.
    pub(super) join: &'static str,
    /// The columns of its key, each with its expression over a row of the call log.
    pub(super) keys: &'static [(&'static str, &'static str)],
    /// Its other columns, each with its aggregate.
    pub(super) sums: &'static [&'static [(&'static str, &'static str)]],
}

/// The length of time of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// A day of the reporting time zone.
    Day,
    /// An hour of that zone's clocks.
    Hour,
}

impl Period {
    /// The column with the period's beginning.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => DAY.0,
            Self::Hour => HOUR.0,
        }
    }

    /// The condition that the period begins at the time of a text parameter or later.
    pub(super) fn since(self, parameter: &str) -> String {
        let kind = match self {
            Self::Day => "date",
            Self::Hour => "timestamptz",
        };
        format!("{} >= {parameter}::text::{kind}", self.name())
    }
}

/// The rollups in the order in which every writer takes them: rows that all writers share come last. The tables of
/// dropped sums come after all of them.
pub(super) const ROLLUPS: [Rollup; 5] = [
    Rollup {
        name: "daily_user_api_costs",
        table: "tallyd_user_days",
        dropped: "tallyd_dropped_user_costs",
        join: "",
        keys: &[DAY, USER, PROVIDER],
        sums: &[&MEASURES],
    },
    Rollup {
        name: "user_api_totals",
        table: "tallyd_user_totals",
        dropped: "tallyd_dropped_totals",
        join: "",
        keys: &[USER, PROVIDER],
        sums: &[&MEASURES, &CALL_TIMES],
    },
    Rollup {
        name: "daily_dimension_costs",
        table: "daily_dimension_costs",
        dropped: "tallyd_dropped_dimension_costs",
        join: EACH_DIMENSION,
        keys: &[DAY, DIMENSION, VALUE, PROVIDER, MODEL],
        sums: &[&MEASURES],
    },
    Rollup {
        name: "hourly_api_costs",
        table: "hourly_api_costs",
        dropped: "tallyd_dropped_hour_costs",
        join: "",
        keys: &[HOUR, PROVIDER, MODEL],
        sums: &[&MEASURES],
    },
    Rollup {
        name: "daily_api_costs",
        table: "daily_api_costs",
        dropped: "tallyd_dropped_costs",
        join: "",
        keys: &[DAY, PROVIDER, MODEL, ENDPOINT],
        sums: &[&MEASURES],
    },
];

/// The users' days.
pub(super) const USERS: &Rollup = &ROLLUPS[0];
/// The users' lifetimes.
pub(super) const TOTALS: &Rollup = &ROLLUPS[1];
/// Sums by dimension.
pub(super) const DIMENSIONS: &Rollup = &ROLLUPS[2];

impl Rollup {
    /// All columns but the key's.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.sums.iter().flat_map(|sums| sums.iter().copied())
    }

    /// The period of a row; none for lifetimes.
    pub(super) fn period(&self) -> Option<Period> {
        let has = |period: &Period| self.keys.iter().any(|(name, _)| *name == period.name());
        [Period::Day, Period::Hour].into_iter().find(has)
    }

    /// The names of the key's columns.
    pub(super) fn key_list(&self) -> String {
        self.keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// `SELECT` of the sums over a table like the call log, in the order key, columns.
    pub(super) fn select_from(&self, source: &str) -> String {
        let named = |(name, sum): (&str, &str)| format!("{sum} AS {name}");
        let selected: Vec<String> = self.keys.iter().copied().chain(self.columns()).map(named).collect();
        let positions: Vec<String> = (1..=self.keys.len()).map(|position| position.to_string()).collect();
        format!("SELECT {} FROM {source} AS l{} GROUP BY {}", selected.join(", "), self.join, positions.join(", "))
    }

    /// `SELECT` of the sums that the table should have: those of the call log and the dropped ones, in the order key,
    /// columns.
    pub(super) fn select_accounted(&self) -> String {
        self.select_accounted_of("public.api_usage_log", &format!("public.{}", self.dropped))
    }

    /// The same of a part of both: queries in parentheses, or tables.
    pub(super) fn select_accounted_of(&self, log: &str, dropped: &str) -> String {
        let keys = self.key_list();
        let merged: Vec<String> =
            self.columns().map(|(name, _)| format!("{}(a.{name}) AS {name}", aggregate(name))).collect();
        format!(
            "SELECT {keys}, {merged} FROM ({log} UNION ALL SELECT {columns} FROM {dropped} AS d) AS a GROUP BY {keys}",
            merged = merged.join(", "),
            log = self.select_from(log),
            columns = self.column_list(),
        )
    }

    /// `INSERT` that adds rows of `source` (a query in the order key, columns) to `table`, which is like the rollup.
    pub(super) fn add_to(&self, table: &str, source: &str) -> String {
        let (columns, keys) = (self.column_list(), self.key_list());
        let updates: Vec<String> = self.columns().map(|(name, _)| format!("{name} = {}", sum_of_both(name))).collect();
        // Sorted by key: two sessions with different orders would deadlock.
        format!(
            "INSERT INTO public.{table} AS t ({columns}, updated_at) \
             SELECT {columns}, clock_timestamp() FROM ({source}) AS s ORDER BY {order} \
             ON CONFLICT ({keys}) DO UPDATE SET {updates}, updated_at = excluded.updated_at",
            order = self.key_order(),
            updates = updates.join(", "),
        )
    }

    /// `INSERT` that adds the rows of a table of deltas to the base. `condition` may choose some of them.
    ///
    /// The rows need no order, because the base has one writer at a time. The statement must not call a volatile
    /// function, so that each node of a distributed table runs it alone.
    pub(super) fn absorb(&self, deltas: &str, condition: &str) -> String {
        let keys = self.key_list();
        let sums: Vec<String> = self.columns().map(|(name, _)| format!("{}(d.{name})", aggregate(name))).collect();
        let updates: Vec<String> = self.columns().map(|(name, _)| format!("{name} = {}", sum_of_both(name))).collect();
        format!(
            "INSERT INTO public.{table} AS t ({columns}, updated_at) \
             SELECT {keys}, {sums}, max(d.updated_at) FROM public.{deltas} AS d{condition} GROUP BY {keys} \
             ON CONFLICT ({keys}) DO UPDATE SET {updates}, updated_at = excluded.updated_at",
            table = self.table,
            columns = self.column_list(),
            sums = sums.join(", "),
            updates = updates.join(", "),
        )
    }

    /// `SELECT` of the users and providers whose row in the base would exceed `int8` with the deltas added.
    pub(super) fn overfull(&self, deltas: &str) -> String {
        let keys = self.key_list();
        let counts = || MEASURES.iter().map(|(name, _)| *name).filter(|name| *name != "cost_usd");
        let sums: Vec<String> = counts().map(|name| format!("sum(d.{name}) AS {name}")).collect();
        let beyond: Vec<String> =
            counts().map(|name| format!("abs(coalesce(t.{name}, 0) + s.{name} + 0.5) > 9223372036854775808")).collect();
        format!(
            "SELECT s.user_id, s.provider FROM (SELECT {keys}, {sums} FROM public.{deltas} AS d GROUP BY {keys}) AS s \
             LEFT JOIN public.{table} AS t USING ({keys}) WHERE {beyond}",
            table = self.table,
            sums = sums.join(", "),
            beyond = beyond.join(" OR "),
        )
    }

    /// The key's columns in the loader's order: text by its bytes.
    pub(super) fn key_order(&self) -> String {
        self.keys.iter().map(|(name, _)| bytewise(name)).collect::<Vec<_>>().join(", ")
    }

    /// The names of all columns that [`Rollup::select_from`] selects.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<&str> = self.keys.iter().copied().chain(self.columns()).map(|(name, _)| name).collect();
        names.join(", ")
    }
}

/// Subtracts the sums of calls that leave the call log, rows of `sums` (a JSON array), and deletes emptied rows. `user`
/// is their user, if they have only one: where tables are distributed by user, it names the node. First and last calls
/// stay as they were.
///
/// # Errors
/// PostgreSQL's; the caller's transaction is then lost.
pub(super) async fn subtract(
    client: &Client,
    rollup: &Rollup,
    sums: &str,
    user: Option<&str>,
) -> Result<(), tokio_postgres::Error> {
    let table = rollup.table;
    let source = format!("jsonb_populate_recordset(NULL::public.{table}, $1::text::jsonb)");
    let same: Vec<String> = rollup.keys.iter().map(|(name, _)| format!("t.{name} = d.{name}")).collect();
    let one = if user.is_some() { " AND t.user_id = $2" } else { "" };
    let same = same.join(" AND ") + one;
    let all: [(&(dyn ToSql + Sync), Type); 2] = [(&sums, Type::TEXT), (&user, Type::TEXT)];
    let values = if user.is_some() { &all[..] } else { &all[..1] };
    // In the loader's order.
    let order: Vec<String> = rollup.keys.iter().map(|(name, _)| bytewise(&format!("t.{name}"))).collect();
    // Rows of many users on many nodes are locked in no order; a deadlock that results ends one of the two.
    if user.is_some() || !is_spread(client).await? {
        let lock = format!(
            "SELECT FROM public.{table} AS t JOIN {source} AS d ON {same} ORDER BY {} FOR UPDATE OF t",
            order.join(", ")
        );
        client.query_typed(&lock, values).await?;
    }
    let less: Vec<String> = MEASURES.iter().map(|(name, _)| format!("{name} = t.{name} - d.{name}")).collect();
    let update = format!(
        "UPDATE public.{table} AS t SET {}, updated_at = now() FROM {source} AS d WHERE {same}",
        less.join(", ")
    );
    client.query_typed(&update, values).await?;
    let zero: Vec<String> = MEASURES.iter().map(|(name, _)| format!("t.{name} = 0")).collect();
    let delete = format!("DELETE FROM public.{table} AS t USING {source} AS d WHERE {same} AND {}", zero.join(" AND "));
    client.query_typed(&delete, values).await.map(drop)
}

/// True if a column of a key is the beginning of a period.
fn is_time(name: &str) -> bool {
    [DAY.0, HOUR.0].contains(&name)
}

/// A key's column in the loader's order.
fn bytewise(column: &str) -> String {
    let name = column.trim_start_matches("t.");
    if is_time(name) { column.to_owned() } else { format!("{column} COLLATE \"C\"") }
}

/// The aggregate over a column of sums.
fn aggregate(column: &str) -> &'static str {
    match column {
        FIRST_CALL => "min",
        LAST_CALL => "max",
        _ => "sum",
    }
}

/// A column's value in an existing row (`t`) and an added one (`excluded`), together.
fn sum_of_both(column: &str) -> String {
    match column {
        FIRST_CALL => format!("least(t.{column}, excluded.{column})"),
        LAST_CALL => format!("greatest(t.{column}, excluded.{column})"),
        _ => format!("t.{column} + excluded.{column}"),
    }
}
