//! Costs of any range, grouped and in buckets of time: the SQL behind `GET /api/v1/costs`.
//!
//! A rollup answers if it has the dimensions: `daily_api_costs` for providers, models and endpoints,
//! `daily_app_api_costs` for applications, `daily_user_api_costs` for users, `hourly_api_costs` for hours. For other
//! combinations the call log answers: users' models, applications' endpoints, hours of either.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::sums::{OF_LOG, OF_ROLLUP, Sums};
use super::{Parameter, QueryError};

/// Largest number of days that the call log answers.
pub const LOG_DAYS_MAX: u64 = 31;

/// The dimensions of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// `claude`, `rentcast` …
    Provider,
    /// As it was sent.
    Model,
    /// Without its query string.
    Endpoint,
    /// The user's id.
    User,
    /// The application.
    App,
}

/// A stretch of time that is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// An hour of the clock.
    Hour,
    /// A day of the reporting time zone.
    #[default]
    Day,
    /// Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
    /// The whole range.
    Total,
}

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SortBy {
    /// Time, then the groups' names.
    #[default]
    Bucket,
    /// Cost.
    Cost,
    /// Calls.
    Calls,
}

/// The table that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `daily_api_costs`.
    DailyApiCosts,
    /// `daily_user_api_costs`.
    DailyUserApiCosts,
    /// `daily_app_api_costs`.
    DailyAppApiCosts,
    /// `hourly_api_costs`.
    HourlyApiCosts,
    /// `api_usage_log`: exact to the call, and slower.
    ApiUsageLog,
}

/// A request for costs.
#[derive(Debug, Clone)]
pub struct CostQuery {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The reporting time zone's name.
    pub zone: String,
    /// The buckets of time.
    pub bucket: Bucket,
    /// The groups; each at most once.
    pub group_by: Vec<Dimension>,
    /// Only these: a dimension and its value.
    pub filters: Vec<(Dimension, String)>,
    /// The order.
    pub sort: SortBy,
    /// True for the reverse order.
    pub descending: bool,
    /// Largest number of rows.
    pub limit: i64,
    /// Rows to skip.
    pub offset: i64,
}

/// A group in a bucket.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupRow {
    /// The bucket's beginning: a date, or for hours an instant in UTC; absent for the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The group's provider, if it is grouped by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The group's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The group's endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The group's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group's application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub sums: Sums,
}

impl Dimension {
    const fn column(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Endpoint => "endpoint",
            Self::User => "user_id",
            Self::App => "app",
        }
    }
}

impl CostQuery {
    /// The table that answers the request.
    #[must_use]
    pub fn source(&self) -> Source {
        use Dimension::{App, Endpoint, Model, Provider, User};
        let filtered = self.filters.iter().map(|(dimension, _)| dimension);
        let asked: Vec<_> = self.group_by.iter().chain(filtered).collect();
        let tells = |dimensions: &[Dimension]| asked.iter().all(|asked| dimensions.contains(asked));
        if self.bucket == Bucket::Hour {
            return if tells(&[Provider, Model]) { Source::HourlyApiCosts } else { Source::ApiUsageLog };
        }
        if tells(&[Provider, Model, Endpoint]) {
            Source::DailyApiCosts
        } else if tells(&[App, Provider, Model]) {
            Source::DailyAppApiCosts
        } else if tells(&[User, Provider]) {
            Source::DailyUserApiCosts
        } else {
            Source::ApiUsageLog
        }
    }

    /// True if the SQL uses the zone, which is then a parameter.
    fn asks_for_zone(&self) -> bool {
        matches!(self.source(), Source::ApiUsageLog | Source::HourlyApiCosts)
    }

    /// Runs the query.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, client: &Client) -> Result<Vec<GroupRow>, QueryError> {
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.from, Type::DATE),
            (&self.to, Type::DATE),
            (&self.limit, Type::INT8),
            (&self.offset, Type::INT8),
        ];
        if self.asks_for_zone() {
            parameters.push((&self.zone, Type::TEXT));
        }
        let sql = self.sql(parameters.len());
        parameters.extend(self.filters.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        let rows = client.query_typed(&sql, &parameters).await?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// The first day of the rollup that answers, if the range begins before that day ([`Source::DailyAppApiCosts`],
    /// [`Source::HourlyApiCosts`]).
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn whole_from(&self, client: &Client) -> Result<Option<NaiveDate>, QueryError> {
        if !matches!(self.source(), Source::DailyAppApiCosts | Source::HourlyApiCosts) {
            return Ok(None);
        }
        let sql = "SELECT value::date FROM public.tallyd_settings WHERE key = 'sums_by_app_and_hour_from' AND value::date > $1";
        Ok(client.query_typed(sql, &[(&self.from, Type::DATE)]).await?.first().map(|row| row.get(0)))
    }

    /// `$1` and `$2` are the days, `$3` the limit, `$4` the offset, `$5` the zone if instants are read; filters follow.
    fn sql(&self, parameters: usize) -> String {
        let source = self.source();
        let log = source == Source::ApiUsageLog;
        let (table, sums) = match source {
            Source::DailyApiCosts => ("public.daily_api_costs", OF_ROLLUP),
            Source::DailyUserApiCosts => ("public.tallyd_user_day_parts", OF_ROLLUP),
            Source::DailyAppApiCosts => ("public.daily_app_api_costs", OF_ROLLUP),
            Source::HourlyApiCosts => ("public.hourly_api_costs", OF_ROLLUP),
            Source::ApiUsageLog => ("public.api_usage_log", OF_LOG),
        };
        let range = match source {
            Source::ApiUsageLog => {
                "occurred_at >= $1::timestamp AT TIME ZONE $5 AND occurred_at < ($2 + 1)::timestamp AT TIME ZONE $5"
            }
            Source::HourlyApiCosts => {
                "hour >= $1::timestamp AT TIME ZONE $5 AND hour < ($2 + 1)::timestamp AT TIME ZONE $5"
            }
            _ => "day BETWEEN $1 AND $2",
        };
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
        columns.extend(self.group_by.iter().map(|dimension| dimension.column().to_owned()));
        let groups: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
        let filters: String = self.filters.iter().enumerate().fold(String::new(), |text, (at, (dimension, _))| {
            format!("{text} AND {} = ${}", dimension.column(), parameters + at + 1)
        });
        let (cost, calls) = (columns.len() + 9, columns.len() + 1);
        let direction = if self.descending { "DESC" } else { "ASC" };
        let first = match self.sort {
            SortBy::Bucket => 1,
            SortBy::Cost => cost,
            SortBy::Calls => calls,
        };
        let keys: Vec<&str> = self.group_by.iter().map(|dimension| dimension.column()).collect();
        let (columns, groups) = (columns.join(", "), groups.join(", "));
        // A group has hardly two of these few rows, so sorting takes a third of the time of a hash of sums, and a page
        // ends early.
        let rows = if source == Source::DailyApiCosts && self.bucket == Bucket::Day {
            let order = [&[if self.descending { "day DESC" } else { "day" }], &keys[..]].concat().join(", ");
            format!("(SELECT * FROM {table} WHERE {range}{filters} ORDER BY {order} OFFSET 0) AS t")
        } else {
            format!("{table} WHERE {range}{filters}")
        };
        // Sorted by the groups last, so that pages neither repeat nor leave out a row. Only the page's rows are
        // converted to text.
        format!(
            "SELECT {written}, page.* FROM (SELECT {columns}, {sums} FROM {rows} GROUP BY {groups} \
             HAVING count(*) > 0 ORDER BY {first} {direction}, {groups} LIMIT $3 OFFSET $4) AS page"
        )
    }

    /// Reads the columns: the bucket as text and as a value, the groups, the sums.
    fn read(&self, row: &tokio_postgres::Row) -> Result<GroupRow, QueryError> {
        let of = |dimension| {
            let at = self.group_by.iter().position(|grouped| *grouped == dimension);
            at.map(|at| row.get::<_, String>(at + 2))
        };
        Ok(GroupRow {
            bucket: row.get(0),
            provider: of(Dimension::Provider),
            model: of(Dimension::Model),
            endpoint: of(Dimension::Endpoint),
            user: of(Dimension::User),
            app: of(Dimension::App),
            sums: Sums::read(row, 2 + self.group_by.len())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(bucket: Bucket, group_by: &[Dimension], filters: &[Dimension]) -> CostQuery {
        CostQuery {
            from: NaiveDate::default(),
            to: NaiveDate::default(),
            zone: "UTC".into(),
            bucket,
            group_by: group_by.to_vec(),
            filters: filters.iter().map(|filter| (*filter, "x".to_owned())).collect(),
            sort: SortBy::Bucket,
            descending: false,
            limit: 1,
            offset: 0,
        }
    }

    #[test]
    fn the_cheapest_table_that_can_answer_is_asked() {
        use Dimension::{App, Endpoint, Model, Provider, User};
        for (bucket, group_by, filters, source) in [
            (Bucket::Day, vec![], vec![], Source::DailyApiCosts),
            (Bucket::Month, vec![Provider, Model, Endpoint], vec![Provider], Source::DailyApiCosts),
            (Bucket::Week, vec![User], vec![Provider], Source::DailyUserApiCosts),
            (Bucket::Day, vec![Provider], vec![User], Source::DailyUserApiCosts),
            (Bucket::Day, vec![Model], vec![User], Source::ApiUsageLog),
            (Bucket::Day, vec![App], vec![Provider, Model], Source::DailyAppApiCosts),
            (Bucket::Day, vec![Endpoint], vec![App], Source::ApiUsageLog),
            (Bucket::Hour, vec![Model], vec![Provider], Source::HourlyApiCosts),
            (Bucket::Hour, vec![], vec![App], Source::ApiUsageLog),
        ] {
            assert_eq!(question(bucket, &group_by, &filters).source(), source, "{group_by:?} {filters:?}");
        }
    }
}
