//! The statement of a question of grouped costs, and the rows of its answer.

use super::{Bucket, CostQuery, Dimension, GroupRow, SortBy, Source};
use crate::queries::QueryError;
use crate::queries::sums::{OF_LOG, OF_ROLLUP, Sums};

impl CostQuery {
    /// `$1` and `$2` are the days, `$3` the limit, `$4` the offset, `$5` the zone if instants are read; filters follow, then users.
    pub(super) fn sql(&self, parameters: usize, of_users: Option<bool>) -> String {
        let source = self.source();
        let log = source == Source::ApiUsageLog;
        // Without their deltas, users' days are the base alone.
        let table = if of_users == Some(false) { "public.tallyd_user_days" } else { source.table() };
        let sums = if log { OF_LOG } else { OF_ROLLUP };
        let range = format!("{}{}", source.range(1, 2, 5), self.one_dimension());
        let day = if log { "(occurred_at AT TIME ZONE $5)::date" } else { "day" };
        let (bucket, written) = match self.bucket {
            Bucket::Hour => (
                if log { "date_trunc('hour', occurred_at, $5)".to_owned() } else { "hour".to_owned() },
                "to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
            ),
            Bucket::Day => (day.to_owned(), "to_char(bucket, 'YYYY-MM-DD')"),
            Bucket::Week => (format!("date_trunc('week', {day})"), "to_char(bucket, 'YYYY-MM-DD')"),
            Bucket::Month => (format!("date_trunc('month', {day})"), "to_char(bucket, 'YYYY-MM-DD')"),
            Bucket::Total => ("NULL::date".to_owned(), "NULL::text"),
        };
        let mut columns = vec![format!("{bucket} AS bucket")];
        columns.extend(self.group_by.iter().map(|dimension| dimension.column(source)));
        let groups: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
        // By the bytes of ids, as in the list of users.
        let order = |(at, place): (usize, &String)| match at.checked_sub(1).map(|at| &self.group_by[at]) {
            Some(Dimension::User) => "user_id COLLATE \"C\"".to_owned(),
            _ => place.clone(),
        };
        let last = groups.iter().enumerate().map(order).collect::<Vec<_>>().join(", ");
        let filters = self.conditions(parameters);
        let users = parameters + self.filters.len() + 1;
        let filters = of_users.map_or(filters.clone(), |_| format!("{filters} AND user_id = ANY (${users})"));
        let (cost, calls) = (columns.len() + 9, columns.len() + 1);
        let direction = if self.descending { "DESC" } else { "ASC" };
        let first = match self.sort {
            SortBy::Bucket => 1,
            SortBy::Cost => cost,
            SortBy::Calls => calls,
        };
        let keys: Vec<String> = self.group_by.iter().map(|dimension| dimension.column(source)).collect();
        let (columns, groups) = (columns.join(", "), groups.join(", "));
        // A group has hardly two of these few rows, so sorting takes a third of the time of a hash of sums, and a page
        // ends early.
        let rows = if source == Source::DailyApiCosts && self.bucket == Bucket::Day {
            let day = if self.descending { "day DESC" } else { "day" };
            let order = [&[day.to_owned()], &keys[..]].concat().join(", ");
            format!("(SELECT * FROM {table} WHERE {range}{filters} ORDER BY {order} OFFSET 0) AS t")
        } else {
            format!("{table} WHERE {range}{filters}")
        };
        // Sorted by the groups last, so that pages neither repeat nor leave out a row. Only the page's rows are
        // converted to text.
        format!(
            "SELECT {written}, page.* FROM (SELECT {columns}, {sums} FROM {rows} GROUP BY {groups} \
             HAVING count(*) > 0 ORDER BY {first} {direction}, {last} LIMIT $3 OFFSET $4) AS page"
        )
    }

    /// ` AND dimension = …`, where a table has several.
    pub(in crate::queries) fn one_dimension(&self) -> String {
        // A dimension's name has no quote.
        match self.dimension().filter(|_| self.source() == Source::DailyDimensionCosts) {
            Some(name) => format!(" AND dimension = '{name}'"),
            None => String::new(),
        }
    }

    /// The filters as conditions, each behind an `AND`. Their values follow the first `parameters` ones.
    pub(in crate::queries) fn conditions(&self, parameters: usize) -> String {
        let source = self.source();
        self.filters.iter().enumerate().fold(String::new(), |text, (at, (dimension, _))| {
            format!("{text} AND {} = ${}", dimension.column(source), parameters + at + 1)
        })
    }

    /// Reads the columns: the bucket as text and as a value, the groups, the sums.
    pub(super) fn read(&self, row: &tokio_postgres::Row) -> Result<GroupRow, QueryError> {
        let of = |dimension| {
            let at = self.group_by.iter().position(|grouped| *grouped == dimension);
            at.map(|at| row.get::<_, String>(at + 2))
        };
        let tags = self.group_by.iter().enumerate().filter(|(_, grouped)| grouped.is_in_tags());
        Ok(GroupRow {
            bucket: row.get(0),
            provider: of(Dimension::Provider),
            model: of(Dimension::Model),
            endpoint: of(Dimension::Endpoint),
            user: of(Dimension::User),
            app: of(Dimension::App),
            tags: tags.map(|(at, grouped)| (grouped.name(), row.get(at + 2))).collect(),
            sums: Sums::read(row, 2 + self.group_by.len())?,
        })
    }
}
