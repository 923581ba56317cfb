//! Why costs changed: the sums of two periods by provider and model, for [`tallyd_model::change`].
//!
//! The rollup that answers `GET /api/v1/costs` under the same filters answers here. It has neither service tiers nor
//! platforms. If the costs of a model are not in proportion to its list price, and the call log is read for periods of
//! this length, the call log is asked for its tiers. They are used only if the call log has all calls of both periods.
//!
//! New users are counted in the users' rollup, which has days and providers: under other filters they are not told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{NaiveDate, NaiveTime};
use serde::Serialize;
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::grouped::{Bucket, CostQuery, Dimension, GroupRow, LOG_DAYS_MAX, SortBy};
use super::movers::Mover;
use super::sums::Sums;
use super::{Parameter, QueryError};
use crate::whole::Whole;
use tallyd_model::change::{Cause, Cell, Known, Part, list_cost, split};
use tallyd_model::pricing::{Catalog, STANDARD_TIER, Usd};

/// Largest number of days of a period.
pub const DAYS_MAX: u64 = 366;
/// Rows of a rollup that are read for one period: models by day.
pub(super) const ROWS_MAX: i64 = 200_000;

/// A request for the causes of a difference.
#[derive(Debug, Clone)]
pub struct ChangeQuery {
    /// The second period, the filters and the groups of the movers.
    pub costs: CostQuery,
    /// The first period: its first day and its last.
    pub before: (NaiveDate, NaiveDate),
    /// The reporting time zone.
    pub zone: Tz,
    /// True if the call log may be read for service tiers.
    pub tiers: bool,
}

/// Two periods and the causes of their difference.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Change {
    /// The first day of the second period.
    pub from: NaiveDate,
    /// Its last day, included.
    pub to: NaiveDate,
    /// The first day of the first period.
    pub before_from: NaiveDate,
    /// Its last day, included.
    pub before_to: NaiveDate,
    /// Cost of the first period.
    #[schema(value_type = String, example = "100")]
    pub before_usd: Usd,
    /// Cost of the second period.
    #[schema(value_type = String, example = "120")]
    pub after_usd: Usd,
    /// The second less the first.
    #[schema(value_type = String, example = "20")]
    pub difference_usd: Usd,
    /// Calls of the first period.
    pub before_calls: Whole,
    /// Calls of the second period.
    pub after_calls: Whole,
    /// The difference by cause: every cause once; they add up to it to the last digit.
    pub parts: Vec<Part>,
    /// The groups whose costs differ most.
    pub movers: Vec<Mover>,
    /// The first day whose sums by application and tag are complete, if a period begins before that day; null otherwise.
    pub whole_from: Option<NaiveDate>,
}

/// The reason for a missing answer.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A period has too many models.
    #[error(
        "more than {ROWS_MAX} sums of a model and day. hint: ask for shorter periods, or filter by provider or model"
    )]
    TooMany,
}

impl From<tokio_postgres::Error> for ChangeError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error.into())
    }
}

type Key = (String, String);

impl ChangeQuery {
    /// Why the call log must be read, which is bounded to a month; none if rollups answer.
    #[must_use]
    pub fn why_of_the_log(&self) -> Option<String> {
        by_model(&self.costs, self.before, &[]).why_of_the_log().or_else(|| self.costs.why_of_the_log())
    }

    fn periods(&self) -> [(NaiveDate, NaiveDate); 2] {
        [self.before, (self.costs.from, self.costs.to)]
    }

    /// Runs the queries.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn ask(&self, client: &Client, catalog: &Catalog) -> Result<Change, ChangeError> {
        let mut cells: BTreeMap<Key, Cell> = BTreeMap::new();
        let mut whole_from = None;
        for (at, period) in self.periods().into_iter().enumerate() {
            let query = by_model(&self.costs, period, &[]);
            whole_from = whole_from.max(query.whole_from(client).await?);
            for row in rows(&query, client).await? {
                self.add(&mut cells, at, &row, catalog);
            }
        }
        let mut cells: Vec<Cell> = cells.into_values().collect();
        let mut known = Known { new_user_calls: self.new_user_calls(client).await?, log_is_read: false };
        let movers = self.costs.movers(client, self.before).await?;
        let mut parts = split(&cells, &known);
        if self.tiers && parts.iter().any(|part| part.cause == Cause::Other && part.usd != Usd::ZERO) {
            // Last, because a transaction that has run out of time takes no further statement.
            known.log_is_read = match self.add_tiers(client, catalog, &mut cells).await {
                Err(ChangeError::Query(QueryError::Database(error))) if is_out_of_time(&error) => false,
                read => read?,
            };
            parts = split(&cells, &known);
        }
        let usd =
            |of: fn(&Cell) -> Usd| cells.iter().map(of).fold(Usd::ZERO, |sum, usd| sum.checked_add(usd).unwrap_or(sum));
        let (before_usd, after_usd) = (usd(|cell| cell.before.cost), usd(|cell| cell.after.cost));
        Ok(Change {
            from: self.costs.from,
            to: self.costs.to,
            before_from: self.before.0,
            before_to: self.before.1,
            before_usd,
            after_usd,
            difference_usd: Usd::from_attos(after_usd.attos().saturating_sub(before_usd.attos())),
            before_calls: Whole(cells.iter().map(|cell| cell.before.calls).sum()),
            after_calls: Whole(cells.iter().map(|cell| cell.after.calls).sum()),
            parts,
            movers,
            whole_from,
        })
    }

    /// Adds a day of a model to its side of the cell.
    fn add(&self, cells: &mut BTreeMap<Key, Cell>, at: usize, row: &GroupRow, catalog: &Catalog) {
        let (provider, model) = key(row);
        let cell = cells.entry((provider.clone(), model.clone())).or_insert_with(|| {
            let price = catalog.price_at(&provider, &model, STANDARD_TIER, noon(self.before.1, self.zone));
            Cell { rates: price.map(|price| price.rates.clone()), provider, model, ..Cell::default() }
        });
        let listed = self.listed(row, (&cell.provider, STANDARD_TIER), catalog);
        let side = if at == 0 { &mut cell.before } else { &mut cell.after };
        let is_first = side.calls == 0 && side.listed.is_none();
        side.listed = if is_first { listed } else { plus(side.listed, listed) };
        let sums = &row.sums;
        side.calls += sums.calls.0;
        side.errors += sums.errors.0;
        side.unpriced += sums.unpriced_calls.0;
        side.requests += sums.requests.0;
        side.tokens.iter_mut().zip(tokens(sums)).for_each(|(sum, count)| *sum += count);
        side.cost = side.cost.checked_add(sums.cost_usd).unwrap_or(side.cost);
    }

    /// The cost of a row at the list prices of its day.
    fn listed(&self, row: &GroupRow, (scope, tier): (&str, &str), catalog: &Catalog) -> Option<Usd> {
        let day = row.bucket.as_deref().and_then(|day| day.parse().ok())?;
        let price = catalog.price_at(scope, row.model.as_deref().unwrap_or_default(), tier, noon(day, self.zone))?;
        list_cost(&price.rates, &tokens(&row.sums), row.sums.requests.0)
    }

    /// Reads the service tiers of the cells from the call log. False if it is not read for periods of this length, or lacks
    /// calls of a cell.
    async fn add_tiers(&self, client: &Client, catalog: &Catalog, cells: &mut [Cell]) -> Result<bool, ChangeError> {
        let is_long = |(from, to): (NaiveDate, NaiveDate)| (to - from).num_days().unsigned_abs() >= LOG_DAYS_MAX;
        if self.periods().into_iter().any(is_long) {
            return Ok(false);
        }
        let mut is_whole = true;
        for (at, period) in self.periods().into_iter().enumerate() {
            let query = by_model(&self.costs, period, &[Dimension::Platform, Dimension::ServiceTier]);
            let mut sums: HashMap<Key, (i128, Option<Usd>)> = HashMap::new();
            for row in rows(&query, client).await? {
                let name =
                    |dimension: Dimension| row.tags.get(&dimension.name()).map(String::as_str).unwrap_or_default();
                let (platform, tier) = (name(Dimension::Platform), name(Dimension::ServiceTier));
                let provider = row.provider.as_deref().unwrap_or_default();
                let listed = self.listed(&row, (if platform.is_empty() { provider } else { platform }, tier), catalog);
                let sum = sums.entry(key(&row)).or_insert((0, Some(Usd::ZERO)));
                *sum = (sum.0 + row.sums.calls.0, plus(sum.1, listed));
            }
            for cell in &mut *cells {
                let key = (cell.provider.clone(), cell.model.clone());
                let side = if at == 0 { &mut cell.before } else { &mut cell.after };
                let (calls, listed) = sums.remove(&key).unwrap_or_default();
                is_whole &= calls == side.calls;
                side.tiered = listed.filter(|_| calls == side.calls);
            }
        }
        Ok(is_whole)
    }

    /// Calls of the second period by users without an earlier call; none if the users' rollup cannot tell.
    async fn new_user_calls(&self, client: &Client) -> Result<Option<i128>, QueryError> {
        let filters = &self.costs.filters;
        let tells: BTreeSet<_> = [Dimension::User, Dimension::Provider].into();
        if !filters.iter().all(|(dimension, _)| tells.contains(dimension)) {
            return Ok(None);
        }
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&self.costs.from, Type::DATE), (&self.costs.to, Type::DATE), (&self.costs.zone, Type::TEXT)];
        // Table by table, because Citus does not take the view of the three beside the view of the days.
        let earlier = ["tallyd_user_totals", "tallyd_user_deltas_0", "tallyd_user_deltas_1"].map(|table| {
            format!(
                " AND NOT EXISTS (SELECT 1 FROM public.{table} AS e WHERE e.user_id = t.user_id \
                 AND e.first_call_at < $1::timestamp AT TIME ZONE $3)"
            )
        });
        let mut sql = format!(
            "SELECT coalesce(sum(t.calls), 0) FROM public.tallyd_user_day_parts AS t \
             WHERE t.day BETWEEN $1 AND $2 AND t.user_id <> ''{}",
            earlier.concat()
        );
        for (dimension, value) in filters {
            parameters.push((value, Type::TEXT));
            let column = if *dimension == Dimension::User { "user_id" } else { "provider" };
            sql.push_str(&format!(" AND t.{column} = ${}", parameters.len()));
        }
        let rows = client.query_typed(&sql, &parameters).await?;
        Ok(rows.first().map(|row| row.get::<_, Whole>(0).0))
    }
}

/// The sums of the models by day, in the rollup of the filters.
pub(super) fn by_model(costs: &CostQuery, (from, to): (NaiveDate, NaiveDate), more: &[Dimension]) -> CostQuery {
    let group_by = [Dimension::Provider, Dimension::Model].iter().chain(more).cloned().collect();
    let (sort, limit) = (SortBy::Bucket, ROWS_MAX + 1);
    CostQuery { from, to, bucket: Bucket::Day, group_by, sort, descending: false, limit, offset: 0, ..costs.clone() }
}

/// The rows of a query of [`by_model`].
pub(super) async fn rows(query: &CostQuery, client: &Client) -> Result<Vec<GroupRow>, ChangeError> {
    let rows = query.add_up(client, None).await?;
    if rows.len() as i64 > ROWS_MAX { Err(ChangeError::TooMany) } else { Ok(rows) }
}

/// Noon of a day, which decides its prices. A price that begins within a day leaves a rest in `other`.
pub(super) fn noon(day: NaiveDate, zone: Tz) -> i64 {
    let noon = day.and_time(NaiveTime::MIN) + chrono::TimeDelta::hours(12);
    noon.and_local_timezone(zone)
        .earliest()
        .map_or_else(|| noon.and_utc().timestamp_micros(), |at| at.timestamp_micros())
}

pub(super) fn is_out_of_time(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED)
}

fn key(row: &GroupRow) -> Key {
    (row.provider.clone().unwrap_or_default(), row.model.clone().unwrap_or_default())
}

fn plus(sum: Option<Usd>, more: Option<Usd>) -> Option<Usd> {
    sum?.checked_add(more?)
}

pub(super) fn tokens(sums: &Sums) -> [i128; 5] {
    // The order of `Rates::token_rates`.
    let Sums { input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, .. } =
        sums;
    [input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens].map(|count| count.0)
}
