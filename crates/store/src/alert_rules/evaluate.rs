//! Evaluates all rules in one transaction: measures, compares, changes the states, raises alerts.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tallyd_model::zone::Tz;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::explain::{Explanation, explain};
use super::measure::{Calls, measure};
use super::rule::{AlertRule, Metric, Window, dimension_of};
use super::value::{self, Measured};
use super::{Level, store};
use crate::budgets::board::{basis_points, percent};
use crate::budgets::inbox::{NewAlert, raise};
use crate::budgets::outbox::Event;
use crate::budgets::{self, Budget, Period};
use crate::locks::Lock;
use tallyd_model::forecast::Estimate;
use tallyd_model::pricing::Usd;
use tallyd_model::wording::{named, usd};

/// By how much the forecast has to fall below a threshold before the level falls, in percent of the budget.
const FORECAST_MARGIN: Usd = Usd::from_attos(5 * Usd::ONE.attos());

/// A rule with the values that it is compared by.
struct Found<'a> {
    rule: &'a AlertRule,
    /// The calls of its window; none for a forecast.
    calls: Option<Calls>,
    value: Option<Usd>,
    wider: Option<Usd>,
    /// True if the wider window has no calls.
    is_silent: bool,
}

/// Evaluates every rule. Returns the number of new alerts; none if another daemon evaluates, or did within `fresh`.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn evaluate(client: &mut Client, now: &DateTime<Tz>, fresh: Duration) -> Result<Option<u64>, Error> {
    let rules = active(client).await?;
    if rules.is_empty() || is_fresh(client, fresh).await? {
        return Ok(None);
    }
    let transaction = client.transaction().await?;
    if !Lock::Rules.try_take(transaction.client()).await? {
        return Ok(None);
    }
    // As they are now, behind the lock.
    let rules = active(transaction.client()).await?;
    let found = values(transaction.client(), &rules, now).await?;
    let (mut raised, mut states) = (0, States::default());
    for found in &found {
        let AlertRule { rule, level: before, episode, .. } = found.rule;
        let level = value::level(rule, *before, found.value, found.wider, found.is_silent);
        let episode = episode + i64::from(*before == Level::Normal && level != Level::Normal);
        states.push(found.rule.id, level, episode, found.value);
        if level != *before {
            raised += tell(transaction.client(), found, level, episode, now).await?;
        }
    }
    states.write(transaction.client()).await?;
    transaction.commit().await?;
    Ok(Some(raised))
}

/// The rules that are not paused.
async fn active(client: &Client) -> Result<Vec<AlertRule>, Error> {
    let mut rules = store::list(client).await?;
    rules.retain(|found| !found.rule.paused);
    Ok(rules)
}

async fn is_fresh(client: &Client, fresh: Duration) -> Result<bool, Error> {
    let sql = "SELECT coalesce(max(evaluated_at) > clock_timestamp() - $1 * interval '1 millisecond', false) \
        FROM public.tallyd_alert_rule_states";
    let milliseconds = i64::try_from(fresh.as_millis()).unwrap_or(i64::MAX);
    let rows = client.query_typed(sql, &[(&milliseconds, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// The values of all rules.
async fn values<'a>(client: &Client, rules: &'a [AlertRule], now: &DateTime<Tz>) -> Result<Vec<Found<'a>>, Error> {
    let budgets = budgets_of(client, rules, now).await?;
    let mut asked: Vec<Calls> = Vec::new();
    // The places in `asked` of a rule's window, and of its short window.
    let mut places: Vec<(Option<usize>, Option<usize>)> = Vec::new();
    for found in rules {
        let mut place = |window: Option<Window>| {
            let window = window?;
            let calls = match budget(&budgets, found) {
                Some((budget, _)) => Calls::of_budget(budget, window)?,
                None => Calls::of_rule(&found.rule, window),
            };
            asked.push(calls);
            Some(asked.len() - 1)
        };
        places.push((place(found.rule.window), place(found.rule.short_window)));
    }
    let sums = measure(client, &asked, now).await?;
    let of = |(found, (long, short)): (&'a AlertRule, (Option<usize>, Option<usize>))| {
        let at = |place: Option<usize>| place.and_then(|place| sums.get(place)).copied();
        let (value, wider) = match (found.rule.metric, budget(&budgets, found)) {
            (Metric::ForecastPercent, Some((budget, estimate))) => forecast(budget, estimate.as_ref()),
            (Metric::BurnRate, Some((budget, _))) => burn(found, budget, now, at(long), at(short)),
            (metric, _) => {
                let of = |wide: bool| at(long).and_then(|m| value::of(metric, if wide { &m.wider } else { &m.now }));
                (of(false), of(true))
            }
        };
        let is_silent = at(long).is_some_and(|measured| measured.wider.calls.0 == 0);
        Found { rule: found, calls: long.and_then(|long| asked.get(long)).cloned(), value, wider, is_silent }
    };
    Ok(rules.iter().zip(places).map(of).collect())
}

type Budgets = HashMap<i32, (Budget, Option<Estimate>)>;

fn budget<'b>(budgets: &'b Budgets, found: &AlertRule) -> Option<&'b (Budget, Option<Estimate>)> {
    budgets.get(&found.rule.budget_id?)
}

/// The budgets that rules name, with their forecasts if a rule needs one.
async fn budgets_of(client: &Client, rules: &[AlertRule], now: &DateTime<Tz>) -> Result<Budgets, Error> {
    if rules.iter().all(|found| found.rule.budget_id.is_none()) {
        return Ok(Budgets::new());
    }
    let board = budgets::store::board(client, now.date_naive()).await?;
    let mut estimates = HashMap::new();
    if rules.iter().any(|found| found.rule.metric == Metric::ForecastPercent) {
        estimates = budgets::estimates::estimates(client, &board, now).await?;
    }
    let named = |id: i32| rules.iter().any(|found| found.rule.budget_id == Some(id));
    let states = board.states().iter().filter(|state| named(state.budget.id));
    Ok(states.map(|state| (state.budget.id, (state.budget.clone(), estimates.remove(&state.budget.id)))).collect())
}

fn forecast(budget: &Budget, estimate: Option<&Estimate>) -> (Option<Usd>, Option<Usd>) {
    let expected = estimate.and_then(|estimate| estimate.expected_usd);
    let value = expected.map(|expected| percent(basis_points(expected, budget.amount_usd)));
    (value, value.and_then(|value| value.checked_add(FORECAST_MARGIN)))
}

/// The burn rate: the smaller one of both windows.
fn burn(
    found: &AlertRule,
    budget: &Budget,
    now: &DateTime<Tz>,
    long: Option<Measured>,
    short: Option<Measured>,
) -> (Option<Usd>, Option<Usd>) {
    let (Some(window), Some(short_window)) = (found.rule.window, found.rule.short_window) else { return (None, None) };
    let days = match budget.period {
        Period::Day => 1,
        Period::Week => 7,
        Period::Month => {
            let (first, end) = budget.period.around(now.date_naive());
            i32::try_from((end - first).num_days()).unwrap_or(31)
        }
    };
    let period = if window.in_hours { days * 24 } else { days };
    let smaller = |wide: bool| {
        let rate = |measured: Option<Measured>, window: Window| {
            let measured = measured?;
            let spent = if wide { measured.wider.cost } else { measured.now.cost };
            value::burn_rate(spent, window, budget.amount_usd, period)
        };
        Some(rate(long, window)?.min(rate(short, short_window)?))
    };
    (smaller(false), smaller(true))
}

/// Raises the alert of a level that has changed.
async fn tell(
    client: &Client,
    found: &Found<'_>,
    level: Level,
    episode: i64,
    now: &DateTime<Tz>,
) -> Result<u64, Error> {
    let explanation = match &found.calls {
        Some(calls) if matches!(level, Level::Warning | Level::Alert) => explain(client, calls, now).await?,
        _ => Explanation::default(),
    };
    let not_before = found.rule.rule.quiet.and_then(|quiet| quiet.end_after(now));
    let mut alert = alert(found.rule, level, episode, found.value, not_before);
    alert.message.push_str(&explanation.text);
    alert.details["top"] = explanation.top;
    alert.details["calls"] = explanation.calls;
    raise(client, &[alert]).await
}

fn alert(
    found: &AlertRule,
    level: Level,
    episode: i64,
    value: Option<Usd>,
    not_before: Option<DateTime<Utc>>,
) -> NewAlert {
    let rule = &found.rule;
    let threshold = match level {
        Level::Alert => rule.alert,
        Level::Warning => rule.warning,
        Level::Normal | Level::NoData => None,
    };
    let is_over = level == Level::Normal;
    NewAlert {
        kind: "rule",
        key: format!("{}/{episode}/{}", found.id, level.name()),
        message: sentence(found, level, value, threshold),
        details: json!({
            "rule_id": found.id, "rule": rule.name, "episode": episode, "level": level.name(), "metric": rule.metric,
            "value": value, "threshold": threshold, "window": rule.window, "filter": rule.filter,
            "budget_id": rule.budget_id, "owner": rule.owner,
        }),
        urgent: matches!(level, Level::Alert | Level::NoData),
        route: rule.route.clone(),
        event: if is_over { Event::Resolve } else { Event::Trigger },
        subject: format!("rule/{}/{episode}", found.id),
        not_before,
        // The end of an alert asks nobody to look.
        seen_by: is_over.then_some("tallyd"),
        ..NewAlert::default()
    }
}

/// `tallyd: rule "spend", alert: cost 120.00 USD in 24 hours, team "search", from 100.00 USD on; owner "platform"`.
fn sentence(found: &AlertRule, level: Level, value: Option<Usd>, threshold: Option<Usd>) -> String {
    let rule = &found.rule;
    let state = match level {
        Level::Normal => "back to normal",
        Level::Warning => "warning",
        Level::Alert => "alert",
        Level::NoData => "no data",
    };
    let measured = match (level, value) {
        (Level::NoData, _) => "no calls".to_owned(),
        (_, Some(value)) => shown(rule.metric, value),
        (_, None) => format!("no {}", words(rule.metric)),
    };
    let mut text = format!("tallyd: rule {}, {state}: {measured}", named(&rule.name));
    if let Some(window) = rule.window {
        text.push_str(&format!(" in {}", window.words()));
    }
    for (key, value) in &rule.filter {
        text.push_str(&format!(", {} {}", dimension_of(key), named(value)));
    }
    if let Some(budget) = rule.budget_id {
        text.push_str(&format!(", budget {budget}"));
    }
    if let Some(threshold) = threshold {
        text.push_str(&format!(", from {} on", amount(rule.metric, threshold)));
    }
    if !rule.owner.is_empty() {
        text.push_str(&format!("; owner {}", named(&rule.owner)));
    }
    text
}

const fn words(metric: Metric) -> &'static str {
    match metric {
        Metric::Cost => "cost",
        Metric::Calls => "calls",
        Metric::Tokens => "tokens",
        Metric::ErrorPercent => "errors",
        Metric::UnpricedCalls => "unpriced calls",
        Metric::CostPerCall => "cost per call",
        Metric::BurnRate => "burn rate",
        Metric::ForecastPercent => "forecast",
    }
}

fn shown(metric: Metric, value: Usd) -> String {
    match metric {
        Metric::Calls | Metric::Tokens | Metric::UnpricedCalls => {
            format!("{} {}", amount(metric, value), words(metric))
        }
        _ => format!("{} {}", words(metric), amount(metric, value)),
    }
}

fn amount(metric: Metric, value: Usd) -> String {
    match metric {
        Metric::Cost => format!("{} USD", usd(value, false)),
        // A call often costs less than a cent.
        Metric::CostPerCall => format!("{} USD", rounded(value, 6)),
        Metric::Calls | Metric::Tokens | Metric::UnpricedCalls => {
            tallyd_model::wording::count(u64::try_from(value.attos().max(0) / Usd::ONE.attos()).unwrap_or(u64::MAX))
        }
        Metric::ErrorPercent => format!("{} %", rounded(value, 2)),
        Metric::BurnRate => format!("{} times even", rounded(value, 2)),
        Metric::ForecastPercent => format!("{} % of the budget", rounded(value, 2)),
    }
}

/// Rounded down to this number of decimals.
fn rounded(value: Usd, decimals: u32) -> Usd {
    let unit = Usd::ONE.attos() / 10_i128.pow(decimals);
    Usd::from_attos(value.attos().div_euclid(unit) * unit)
}

/// Ends an alert whose rule is removed or paused, as `why` says.
pub(super) async fn resolve(client: &Client, found: &AlertRule, why: &str) -> Result<(), Error> {
    if found.level == Level::Normal {
        return Ok(());
    }
    let mut end = alert(found, Level::Normal, found.episode, found.value, None);
    end.message = format!("tallyd: rule {} {why}", named(&found.rule.name));
    raise(client, &[end]).await.map(drop)
}

/// New states of rules, written together.
#[derive(Default)]
struct States {
    ids: Vec<i32>,
    levels: Vec<&'static str>,
    episodes: Vec<i64>,
    values: Vec<Option<Usd>>,
}

impl States {
    fn push(&mut self, id: i32, level: Level, episode: i64, value: Option<Usd>) {
        self.ids.push(id);
        self.levels.push(level.name());
        self.episodes.push(episode);
        self.values.push(value);
    }

    async fn write(&self, client: &Client) -> Result<(), Error> {
        // A rule that was removed or paused since keeps its end.
        let sql = "INSERT INTO public.tallyd_alert_rule_states AS s (rule_id, level, episode, value) \
            SELECT n.id, n.level, n.episode, n.value FROM unnest($1::int4[], $2::text[], $3::int8[], $4::numeric[]) \
                AS n (id, level, episode, value) \
            WHERE EXISTS (SELECT FROM public.tallyd_alert_rules AS r WHERE r.id = n.id AND NOT r.paused) \
            ON CONFLICT (rule_id) DO UPDATE SET level = excluded.level, episode = excluded.episode, value = excluded.value, \
            evaluated_at = excluded.evaluated_at, since = CASE s.level WHEN excluded.level THEN s.since ELSE excluded.since END";
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.ids, Type::INT4_ARRAY),
            (&self.levels, Type::TEXT_ARRAY),
            (&self.episodes, Type::INT8_ARRAY),
            (&self.values, Type::NUMERIC_ARRAY),
        ];
        client.query_typed(sql, &parameters).await.map(drop)
    }
}
