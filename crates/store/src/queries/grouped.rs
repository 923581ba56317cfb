//! Costs of any range, grouped and in buckets of time: the SQL behind `GET /api/v1/costs`.
//!
//! A rollup answers if it has the dimensions: `daily_api_costs` for providers, models and endpoints,
//! `daily_dimension_costs` for applications or a tag that is a dimension, `daily_user_api_costs` for users,
//! `hourly_api_costs` for hours. For other combinations the call log answers: users' models, applications' endpoints, two
//! tags, tags that are not dimensions, hours of any of them.

mod sql;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::sums::Sums;
use super::{Parameter, QueryError, dearest};
use crate::dimensions::{self, DimensionState};
use tallyd_model::tags::{APP, name_fault};

/// Largest number of days that the call log answers.
pub const LOG_DAYS_MAX: u64 = 31;

/// The dimensions of calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Where the model ran, if not at its vendor.
    Platform,
    /// `standard`, `batch` …
    ServiceTier,
    /// A tag.
    Tag(String),
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
    /// `daily_dimension_costs`.
    DailyDimensionCosts,
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
    /// Tags that are dimensions, and whose rollup counts calls.
    pub dimensions: Vec<String>,
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
    /// The group's tags, platform and service tier, each under the name that it was grouped by: `tag:team`.
    #[serde(flatten)]
    pub tags: BTreeMap<String, String>,
    /// The sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// The groups of a page.
#[derive(Debug, Clone)]
pub struct Groups {
    /// In the order that was asked for.
    pub rows: Vec<GroupRow>,
    /// None if the sums have every call that is loaded. Otherwise calls that were loaded after this may be missing in them.
    pub as_of: Option<DateTime<Utc>>,
}

/// The prefix of tags' names in requests.
const TAG: &str = "tag:";

impl Dimension {
    /// The dimension of a name: `provider` …, or `tag:team`.
    ///
    /// # Errors
    /// A sentence with the reason.
    pub fn parse(name: &str) -> Result<Self, String> {
        match (name, name.strip_prefix(TAG)) {
            ("provider", _) => Ok(Self::Provider),
            ("model", _) => Ok(Self::Model),
            ("endpoint", _) => Ok(Self::Endpoint),
            ("user", _) => Ok(Self::User),
            ("app" | "tag:app", _) => Ok(Self::App),
            ("platform", _) => Ok(Self::Platform),
            ("service_tier", _) => Ok(Self::ServiceTier),
            (_, Some(tag)) => name_fault(tag).map_or_else(|| Ok(Self::Tag(tag.to_owned())), Err),
            _ => Err("no such dimension".to_owned()),
        }
    }

    /// The name that [`Dimension::parse`] reads.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Provider => "provider".to_owned(),
            Self::Model => "model".to_owned(),
            Self::Endpoint => "endpoint".to_owned(),
            Self::User => "user".to_owned(),
            Self::App => APP.to_owned(),
            Self::Platform => "platform".to_owned(),
            Self::ServiceTier => "service_tier".to_owned(),
            Self::Tag(tag) => format!("{TAG}{tag}"),
        }
    }

    /// True if [`GroupRow`] does not have a field of its own for it.
    #[must_use]
    pub fn is_in_tags(&self) -> bool {
        matches!(self, Self::Platform | Self::ServiceTier | Self::Tag(_))
    }

    /// Its column in a table.
    pub(super) fn column(&self, source: Source) -> String {
        match (self, source) {
            (Self::App | Self::Tag(_), Source::DailyDimensionCosts) => "value".to_owned(),
            (Self::User, _) => "user_id".to_owned(),
            // A tag's name has no quote.
            (Self::Tag(tag), _) => format!("coalesce(tags ->> '{tag}', '')"),
            _ => self.name(),
        }
    }

    /// Its name in `tallyd_dimensions`; none for those of other rollups.
    pub(crate) fn rollup(&self) -> Option<&str> {
        match self {
            Self::App => Some(APP),
            Self::Tag(tag) => Some(tag),
            _ => None,
        }
    }
}

impl Source {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::DailyApiCosts => "public.daily_api_costs",
            Self::DailyUserApiCosts => "public.tallyd_user_day_parts",
            Self::DailyDimensionCosts => "public.daily_dimension_costs",
            Self::HourlyApiCosts => "public.hourly_api_costs",
            Self::ApiUsageLog => "public.api_usage_log",
        }
    }

    /// The condition for the days from parameter `from` to parameter `to`, in the zone of parameter `zone`.
    pub(super) fn range(self, from: usize, to: usize, zone: usize) -> String {
        let instant = match self {
            Self::ApiUsageLog => "occurred_at",
            Self::HourlyApiCosts => "hour",
            _ => return format!("day BETWEEN ${from} AND ${to}"),
        };
        format!(
            "{instant} >= ${from}::timestamp AT TIME ZONE ${zone} AND {instant} < (${to} + 1)::timestamp AT TIME ZONE ${zone}"
        )
    }
}

impl CostQuery {
    /// The dimensions of the groups and of the filters.
    fn asked(&self) -> impl Iterator<Item = &Dimension> {
        self.group_by.iter().chain(self.filters.iter().map(|(dimension, _)| dimension))
    }

    /// The requested dimension of `daily_dimension_costs`, if that rollup has all the others, too.
    fn dimension(&self) -> Option<&str> {
        let mut one = None;
        for asked in self.asked() {
            match asked.rollup() {
                Some(name) if one.is_none_or(|one| one == name) => one = Some(name),
                None if matches!(asked, Dimension::Provider | Dimension::Model) => {}
                _ => return None,
            }
        }
        one.filter(|name| *name == APP || self.dimensions.iter().any(|known| known == name))
    }

    /// True if a tag is asked for.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.asked().any(|asked| matches!(asked, Dimension::Tag(_)))
    }

    /// Reads from the database which tags are dimensions, if the request has a tag.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn learn(&mut self, client: &Client) -> Result<(), QueryError> {
        if self.has_tags() {
            let counted = |dimension: &DimensionState| dimension.is_whole || dimension.counted_from.is_some();
            let known = dimensions::list(client).await?.into_iter().filter(counted);
            self.dimensions = known.map(|dimension| dimension.name).collect();
        }
        Ok(())
    }

    /// The reason why the call log answers, which is bounded to a month, and a remedy. None if a rollup answers.
    #[must_use]
    pub fn why_of_the_log(&self) -> Option<String> {
        if self.source() != Source::ApiUsageLog {
            return None;
        }
        let stranger = self.asked().find_map(|asked| match asked {
            Dimension::Tag(tag) if !self.dimensions.contains(tag) => Some(tag),
            _ => None,
        });
        Some(match stranger {
            Some(tag) => format!(
                "the tag {tag} has no rollup, so single calls are read: at most {LOG_DAYS_MAX} days; `tallyd dimensions add {tag}` makes one"
            ),
            None => format!(
                "no rollup tells these apart together, so single calls are read: at most {LOG_DAYS_MAX} days; a rollup has one of app and \
                 tags by day, with provider and model"
            ),
        })
    }

    /// The table that answers the request.
    #[must_use]
    pub fn source(&self) -> Source {
        use Dimension::{Endpoint, Model, Provider, User};
        let asked: Vec<_> = self.asked().collect();
        let tells = |dimensions: &[Dimension]| asked.iter().all(|asked| dimensions.contains(asked));
        if self.bucket == Bucket::Hour {
            return if tells(&[Provider, Model]) { Source::HourlyApiCosts } else { Source::ApiUsageLog };
        }
        if tells(&[Provider, Model, Endpoint]) {
            Source::DailyApiCosts
        } else if self.dimension().is_some() {
            Source::DailyDimensionCosts
        } else if tells(&[User, Provider]) {
            Source::DailyUserApiCosts
        } else {
            Source::ApiUsageLog
        }
    }

    /// True if the SQL uses the zone, which is then a parameter.
    pub(super) fn asks_for_zone(&self) -> bool {
        matches!(self.source(), Source::ApiUsageLog | Source::HourlyApiCosts)
    }

    /// Runs the query.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, client: &Client) -> Result<Groups, QueryError> {
        if let Some((rows, standing)) = dearest::search(self, client).await? {
            return Ok(Groups { rows, as_of: standing.as_of });
        }
        Ok(Groups { rows: self.add_up(client, None).await?, as_of: None })
    }

    /// Adds up the rows of the range: of all users, or of these. If the latter are not to be exact, users' deltas are left out.
    pub(super) async fn add_up(
        &self,
        client: &Client,
        users: Option<(&Vec<String>, bool)>,
    ) -> Result<Vec<GroupRow>, QueryError> {
        let mut rows = Vec::new();
        self.stream(client, users, |row| {
            rows.push(row);
            Ok::<(), QueryError>(())
        })
        .await?;
        Ok(rows)
    }

    /// Adds up the rows of the range, and calls `each` with every group as it arrives.
    ///
    /// # Errors
    /// [`QueryError`], and those of `each`, which ends the stream.
    pub async fn each<E: From<QueryError>>(
        &self,
        client: &Client,
        each: impl FnMut(GroupRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stream(client, None, each).await
    }

    async fn stream<E: From<QueryError>>(
        &self,
        client: &Client,
        users: Option<(&Vec<String>, bool)>,
        mut each: impl FnMut(GroupRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.from, Type::DATE),
            (&self.to, Type::DATE),
            (&self.limit, Type::INT8),
            (&self.offset, Type::INT8),
        ];
        if self.asks_for_zone() {
            parameters.push((&self.zone, Type::TEXT));
        }
        let sql = self.sql(parameters.len(), users.map(|(_, is_exact)| is_exact));
        parameters.extend(self.filters.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        parameters.extend(users.map(|(users, _)| -> Parameter<'_> { (users, Type::TEXT_ARRAY) }));
        let rows = client.query_typed_raw(&sql, parameters).await.map_err(QueryError::from)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(QueryError::from)? {
            each(self.read(&row)?)?;
        }
        Ok(())
    }

    /// The first day of the rollup that answers, if the range begins before that day ([`Source::DailyDimensionCosts`],
    /// [`Source::HourlyApiCosts`]).
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn whole_from(&self, client: &Client) -> Result<Option<NaiveDate>, QueryError> {
        let name = match self.source() {
            Source::DailyDimensionCosts => self.dimension(),
            Source::HourlyApiCosts => None,
            _ => return Ok(None),
        };
        let first = match name {
            Some(name) => {
                let all = dimensions::list(client).await?;
                all.into_iter().find(|dimension| dimension.name == name).and_then(|dimension| dimension.told_from())
            }
            None => {
                let sql = "SELECT value::date FROM public.tallyd_settings WHERE key = 'sums_by_app_and_hour_from'";
                client.query_typed(sql, &[]).await?.first().map(|row| row.get(0))
            }
        };
        Ok(first.filter(|first| *first > self.from))
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
            filters: filters.iter().map(|filter| (filter.clone(), "x".to_owned())).collect(),
            dimensions: vec!["team".into(), "customer".into()],
            sort: SortBy::Bucket,
            descending: false,
            limit: 1,
            offset: 0,
        }
    }

    #[test]
    fn the_cheapest_table_that_can_answer_is_asked() {
        use Dimension::{App, Endpoint, Model, Provider, User};
        let [team, customer, other] = ["team", "customer", "other"].map(|tag| Dimension::Tag(tag.into()));
        for (bucket, group_by, filters, source) in [
            (Bucket::Day, vec![], vec![], Source::DailyApiCosts),
            (Bucket::Month, vec![Provider, Model, Endpoint], vec![Provider], Source::DailyApiCosts),
            (Bucket::Week, vec![User], vec![Provider], Source::DailyUserApiCosts),
            (Bucket::Day, vec![Provider], vec![User], Source::DailyUserApiCosts),
            (Bucket::Day, vec![Model], vec![User], Source::ApiUsageLog),
            (Bucket::Day, vec![App], vec![Provider, Model], Source::DailyDimensionCosts),
            (Bucket::Month, vec![team.clone(), Model], vec![team.clone(), Provider], Source::DailyDimensionCosts),
            (Bucket::Day, vec![Provider], vec![team.clone()], Source::DailyDimensionCosts),
            (Bucket::Day, vec![team.clone(), customer.clone()], vec![], Source::ApiUsageLog),
            (Bucket::Day, vec![team.clone()], vec![App], Source::ApiUsageLog),
            (Bucket::Day, vec![team.clone()], vec![User], Source::ApiUsageLog),
            (Bucket::Day, vec![team.clone(), Endpoint], vec![], Source::ApiUsageLog),
            (Bucket::Day, vec![other.clone()], vec![], Source::ApiUsageLog),
            (Bucket::Hour, vec![team.clone()], vec![], Source::ApiUsageLog),
            (Bucket::Day, vec![Endpoint], vec![App], Source::ApiUsageLog),
            (Bucket::Hour, vec![Model], vec![Provider], Source::HourlyApiCosts),
            (Bucket::Hour, vec![], vec![App], Source::ApiUsageLog),
            (Bucket::Day, vec![Dimension::ServiceTier], vec![], Source::ApiUsageLog),
        ] {
            let question = question(bucket, &group_by, &filters);
            assert_eq!(question.source(), source, "{group_by:?} {filters:?}");
            assert_eq!(question.why_of_the_log().is_some(), source == Source::ApiUsageLog);
        }
        let why = question(Bucket::Day, &[team.clone(), other], &[]).why_of_the_log().unwrap();
        assert!(why.contains("the tag other has no rollup") && why.contains("dimensions add other"), "{why}");
        let why = question(Bucket::Day, &[team, customer], &[]).why_of_the_log().unwrap();
        assert!(why.contains("no rollup tells these apart together"), "{why}");
    }

    #[test]
    fn a_dimension_is_what_its_name_says() {
        for name in
            ["provider", "model", "endpoint", "user", "app", "platform", "service_tier", "tag:team", "tag:a.b-c_D"]
        {
            assert_eq!(Dimension::parse(name).map(|dimension| dimension.name()).as_deref(), Ok(name));
        }
        assert_eq!(Dimension::parse("tag:app"), Ok(Dimension::App));
        for wrong in ["", "tag:", "tag", "team", "tag:a'b", "tag:a,b", "tag:ü"] {
            assert!(Dimension::parse(wrong).is_err(), "{wrong}");
        }
    }
}
