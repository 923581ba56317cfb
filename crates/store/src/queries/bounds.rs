//! The lacks of a sum of costs: the bounds of its unpriced calls, and streams that ended early.
//!
//! ## Unpriced calls
//! The rollup that answers `GET /api/v1/costs` under the same filters has the unpriced calls of each model and day. Its tokens
//! are those of all calls. So the tokens of the unpriced calls are exact where all calls of the model and day are unpriced.
//! Where some are priced, the call log is read for the others. If it is not read, or does not have all of them, their tokens
//! lie between none and all of the model's. [`tallyd_model::bounds`] prices them, each day at its own prices.
//!
//! ## Incomplete streams
//! Only the call log has `incomplete` in the metadata of a call. The provider bills tokens of such a call that it did not
//! report, so its cost is too low by an unknown amount. It is told by the number of calls, and is not in the bounds.
//!
//! ## The call log
//! It is read for at most [`LOG_DAYS_MAX`] days, in one statement, within the time of a request: if that does not suffice, the
//! answer says that it was not read. A sum is called exact only if it was.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use serde::Serialize;
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::change::{ChangeError, ROWS_MAX, by_model, is_out_of_time, noon, rows, tokens};
use super::grouped::{CostQuery, GroupRow, LOG_DAYS_MAX, Source};
use super::{Parameter, QueryError};
use crate::whole::Whole;
use tallyd_model::bounds::{Bounds, bounds};
use tallyd_model::pricing::{Catalog, Usd, normalise_provider};

/// Largest number of reasons in an answer.
const REASONS_MAX: usize = 200;

/// A request for the bounds of a sum.
#[derive(Debug, Clone)]
pub struct BoundsQuery {
    /// The days and the filters.
    pub costs: CostQuery,
    /// The reporting time zone.
    pub zone: Tz,
    /// True if the call log may be read.
    pub log: bool,
}

/// A sum of costs, and the range in which it lies once all of its calls are priced.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CostBounds {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// True if the sum lacks nothing: no call is unpriced, no stream is incomplete, and both were looked for in all calls.
    pub exact: bool,
    /// The cost of the priced calls.
    #[schema(value_type = String, example = "100")]
    pub cost_usd: Usd,
    /// The same with every unpriced call at the cheapest known price.
    #[schema(value_type = String, example = "100.5")]
    pub low_usd: Usd,
    /// The same with every unpriced call at the dearest known price; null if no price is known for some. The missing tokens of
    /// incomplete streams are not in it.
    #[schema(value_type = Option<String>, example = "112")]
    pub high_usd: Option<Usd>,
    /// True if the call log was read for incomplete streams and for the tokens of unpriced calls: ranges of up to 31 days.
    pub log_is_read: bool,
    /// The first day whose sums by application and tag are complete, if the range begins before that day; null otherwise.
    pub whole_from: Option<NaiveDate>,
    /// The lacks of the sum, by model: those without an upper bound first, then by upper bound. At most 200.
    pub reasons: Vec<Lack>,
    /// Reasons that are not in the list; the sums have them.
    pub reasons_left_off: usize,
}

/// Why a sum lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LackReason {
    /// The calls are unpriced.
    Unpriced,
    /// The calls are streams that ended before the provider had reported all tokens.
    Incomplete,
}

/// Calls of a model whose cost is not known in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Lack {
    /// Why.
    pub reason: LackReason,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The calls.
    pub calls: Whole,
    /// The least that they add to the sum.
    #[schema(value_type = String, example = "0.5")]
    pub low_usd: Usd,
    /// The most that they add to the sum; null if it is not known.
    #[schema(value_type = Option<String>, example = "12")]
    pub high_usd: Option<Usd>,
    /// The model whose price the least is, on the last of the days; null without one.
    pub low_model: Option<String>,
    /// The model whose price the most is, on the last of the days; null without one.
    pub high_model: Option<String>,
    /// Why a bound is missing or wide; null otherwise.
    #[schema(value_type = Option<String>)]
    pub note: Option<&'static str>,
}

type Key = (String, String);

/// Unpriced and incomplete calls of a model and day in the call log.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    unpriced: i128,
    tokens: [i128; 5],
    requests: i128,
    /// Unpriced calls with units beside tokens and requests, or with usage that was not understood.
    others: i128,
    incomplete: i128,
}

/// By day, provider and model.
type ByDay = HashMap<(NaiveDate, String, String), Found>;

const NO_PRICE: &str = "no price of this provider is known for these units and days: the most is unknown";
const OTHER_UNITS: &str =
    "some calls have units beside tokens and requests, or usage that was not understood: the most is unknown";
const TOKENS_UNKNOWN: &str =
    "the tokens of the unpriced calls are not told apart: from none to all tokens of the model on these days";
const INCOMPLETE: &str =
    "the provider bills tokens that it did not report: the most is unknown, and not in the sum's bounds";

impl BoundsQuery {
    /// Why the call log must be read, which is bounded to a month; none if a rollup answers.
    #[must_use]
    pub fn why_of_the_log(&self) -> Option<String> {
        by_model(&self.costs, (self.costs.from, self.costs.to), &[]).why_of_the_log()
    }

    /// Runs the queries.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn ask(&self, client: &Client, catalog: &Catalog) -> Result<CostBounds, ChangeError> {
        let CostQuery { from, to, .. } = self.costs;
        let query = by_model(&self.costs, (from, to), &[]);
        let days = rows(&query, client).await?;
        let whole_from = query.whole_from(client).await?;
        // Last, because a transaction that has run out of time takes no further statement.
        let found = match self.of_log(client, query.source()).await {
            Err(ChangeError::Query(QueryError::Database(error))) if is_out_of_time(&error) => None,
            read => read?,
        };
        let cost_usd = add(days.iter().map(|row| row.sums.cost_usd));
        let mut reasons = self.unpriced(&days, found.as_ref(), catalog);
        reasons.extend(found.as_ref().map(incomplete).unwrap_or_default());
        let unpriced = || reasons.iter().filter(|lack| lack.reason == LackReason::Unpriced);
        let low_usd = add(unpriced().map(|lack| lack.low_usd).chain([cost_usd]));
        let high: Option<Vec<Usd>> = unpriced().map(|lack| lack.high_usd).collect();
        let high_usd = high.map(|all| add(all.into_iter().chain([cost_usd])));
        let log_is_read = found.is_some();
        let exact = reasons.is_empty() && log_is_read && whole_from.is_none();
        let rank = |lack: &Lack| (lack.high_usd.is_some(), lack.high_usd.map(|usd| -usd.attos()), -lack.calls.0);
        reasons
            .sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| (&a.provider, &a.model).cmp(&(&b.provider, &b.model))));
        let reasons_left_off = reasons.len().saturating_sub(REASONS_MAX);
        reasons.truncate(REASONS_MAX);
        Ok(CostBounds {
            from,
            to,
            exact,
            cost_usd,
            low_usd,
            high_usd,
            log_is_read,
            whole_from,
            reasons,
            reasons_left_off,
        })
    }

    /// The models with unpriced calls.
    fn unpriced(&self, days: &[GroupRow], found: Option<&ByDay>, catalog: &Catalog) -> Vec<Lack> {
        let mut lacks: BTreeMap<Key, Lack> = BTreeMap::new();
        for row in days.iter().filter(|row| row.sums.unpriced_calls.0 > 0) {
            // A bucket is a day of PostgreSQL's.
            let day: NaiveDate = row.bucket.as_deref().and_then(|day| day.parse().ok()).unwrap_or_default();
            let key = (row.provider.clone().unwrap_or_default(), row.model.clone().unwrap_or_default());
            let in_log = found.and_then(|found| found.get(&(day, key.0.clone(), key.1.clone())));
            let in_log = in_log.filter(|found| found.unpriced == row.sums.unpriced_calls.0);
            let is_whole = row.sums.unpriced_calls == row.sums.calls;
            let (tokens, requests) = match in_log {
                Some(found) if !is_whole => (found.tokens, found.requests),
                _ => (tokens(&row.sums), row.sums.requests.0),
            };
            let priced =
                bounds(catalog, (&normalise_provider(&key.0), &key.1), noon(day, self.zone), (&tokens, requests));
            let lack = lacks.entry(key).or_insert_with_key(|key| Lack::new(LackReason::Unpriced, key, None));
            lack.add(row.sums.unpriced_calls, priced, is_whole || in_log.is_some());
            if in_log.is_some_and(|found| found.others > 0) {
                (lack.high_usd, lack.note) = (None, Some(OTHER_UNITS));
            }
        }
        lacks.into_values().collect()
    }

    /// The calls of the call log; none if it is not read for a range of this length.
    async fn of_log(&self, client: &Client, source: Source) -> Result<Option<ByDay>, ChangeError> {
        let costs = &self.costs;
        if !self.log || (costs.to - costs.from).num_days().unsigned_abs() >= LOG_DAYS_MAX {
            return Ok(None);
        }
        let log = Source::ApiUsageLog;
        // As in the rollup, which has bounded names.
        let model =
            if source == log { "model" } else { "CASE WHEN rollup_other & 1 <> 0 THEN '(other)' ELSE model END" };
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&costs.from, Type::DATE), (&costs.to, Type::DATE), (&costs.zone, Type::TEXT)];
        let filters = costs.filters.iter().enumerate().fold(String::new(), |text, (at, (dimension, _))| {
            format!("{text} AND {} = ${}", dimension.column(log), at + 4)
        });
        parameters.extend(costs.filters.iter().map(|(_, value)| -> Parameter<'_> { (value, Type::TEXT) }));
        let sum = |column: &str| format!("coalesce(sum({column}) FILTER (WHERE cost_usd IS NULL), 0)");
        let sums: Vec<String> = [
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "requests",
        ]
        .map(sum)
        .into();
        let incomplete = "metadata @> '{\"incomplete\": true}'";
        let sql = format!(
            "SELECT (occurred_at AT TIME ZONE $3)::date, provider, {model}, count(*) FILTER (WHERE cost_usd IS NULL), {sums}, \
                 count(*) FILTER (WHERE cost_usd IS NULL AND (extra_units IS NOT NULL OR metadata ? 'tallyd.not_understood')), \
                 count(*) FILTER (WHERE {incomplete}) \
             FROM {table} WHERE {range}{filters} AND (cost_usd IS NULL OR {incomplete}) GROUP BY 1, 2, 3 LIMIT {ROWS_MAX} + 1",
            sums = sums.join(", "),
            table = log.table(),
            range = log.range(1, 2, 3),
        );
        let rows = client.query_typed(&sql, &parameters).await?;
        if rows.len() as i64 > ROWS_MAX {
            return Err(ChangeError::TooMany);
        }
        let read = |row: &tokio_postgres::Row| {
            let whole = |at: usize| row.get::<_, Whole>(at).0;
            let tokens = [whole(4), whole(5), whole(6), whole(7), whole(8)];
            let found =
                Found { unpriced: whole(3), tokens, requests: whole(9), others: whole(10), incomplete: whole(11) };
            ((row.get(0), row.get(1), row.get(2)), found)
        };
        Ok(Some(rows.iter().map(read).collect()))
    }
}

/// The models with incomplete streams.
fn incomplete(found: &ByDay) -> Vec<Lack> {
    let mut lacks: BTreeMap<Key, Lack> = BTreeMap::new();
    for ((_, provider, model), found) in found.iter().filter(|(_, found)| found.incomplete > 0) {
        let lack = lacks.entry((provider.clone(), model.clone()));
        let lack = lack.or_insert_with_key(|key| Lack::new(LackReason::Incomplete, key, Some(INCOMPLETE)));
        lack.calls += Whole(found.incomplete);
        lack.high_usd = None;
    }
    lacks.into_values().collect()
}

impl Lack {
    fn new(reason: LackReason, (provider, model): &Key, note: Option<&'static str>) -> Self {
        Self {
            reason,
            provider: provider.clone(),
            model: model.clone(),
            calls: Whole::default(),
            low_usd: Usd::ZERO,
            high_usd: Some(Usd::ZERO),
            low_model: None,
            high_model: None,
            note,
        }
    }

    /// Adds a day's unpriced calls. Days come in their order.
    fn add(&mut self, calls: Whole, priced: Option<Bounds>, tokens_are_known: bool) {
        self.calls += calls;
        let Some(Bounds { low, high }) = priced else {
            (self.high_usd, self.note) = (None, Some(NO_PRICE));
            return;
        };
        if tokens_are_known {
            self.low_usd = add([self.low_usd, low.usd].into_iter());
            self.low_model = Some(low.model);
        } else {
            self.note = self.note.or(Some(TOKENS_UNKNOWN));
        }
        self.high_usd = self.high_usd.map(|sum| add([sum, high.usd].into_iter()));
        self.high_model = Some(high.model);
    }
}

/// The sum. Amounts beyond 10^20 USD are left out of it, as in other sums of rollups.
fn add(amounts: impl Iterator<Item = Usd>) -> Usd {
    amounts.fold(Usd::ZERO, |sum, usd| sum.checked_add(usd).unwrap_or(sum))
}
