//! Computes the state of budgets from the rollups, stores the states that have changed, and raises the alerts that are due.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::board::reaches;
use super::explain::explain;
use super::inbox::raise;
use super::spent::{Spent, spent, with_deltas};
use super::thresholds::{thresholds, unknown};
use super::{Board, Budget, BudgetState, Limit, store, unusual};
use crate::locks::Lock;
use crate::queries::grouped::Dimension;
use tallyd_config::Alerts;

/// The extent of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Every budget, and alerts.
    Full {
        /// Also looks for unusual spend.
        with_unusual: bool,
    },
    /// Hard budgets that are not used up. Raises no alerts.
    Hard,
}

/// The result of an evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// The state of every budget.
    pub board: Board,
    /// The number of changes that the board has ([`store::Freshness`]).
    pub changes: i64,
    /// New alerts.
    pub raised: u64,
}

/// Between two evaluations, by any daemons, passes this many times the duration of the first.
const REST: u32 = 4;
/// The shortest time between two evaluations, unless `alerts.interval_ms` is shorter.
pub const REST_MIN: Duration = Duration::from_millis(250);
/// Budgets of a round whose new alerts are explained: each takes some queries.
const EXPLAINED_MAX: usize = 20;

/// Evaluates budgets in one transaction. None if another daemon is evaluating, or if the last evaluation ended just now.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn evaluate(
    client: &mut Client,
    now: &DateTime<Tz>,
    options: &Alerts,
    round: Round,
) -> Result<Option<Evaluated>, tokio_postgres::Error> {
    let begun = Instant::now();
    let transaction = client.transaction().await?;
    let db = transaction.client();
    if !Lock::Budgets.try_take(db).await? {
        return Ok(None);
    }
    let Some(last) = last_evaluation(db).await? else { return Ok(None) };
    let today = now.date_naive();
    let mut states = store::states(db, today).await?;
    let wanted: Vec<usize> = (0..states.len()).filter(|place| is_wanted(round, &states[*place].0)).collect();
    let sums = match round {
        Round::Hard if last.is_of_this_merge => recent_spent(db, &states, &wanted, today).await?,
        _ => spent(db, &wanted.iter().map(|place| &states[*place].0.budget).collect::<Vec<_>>(), today).await?,
    };
    let changed = wanted.into_iter().zip(sums).filter(|(place, sum)| book(&mut states[*place], *sum));
    let changed: Vec<usize> = changed.map(|(place, _)| place).collect();
    store_states(db, changed.iter().map(|place| &states[*place].0)).await?;
    let mut alerts = Vec::new();
    if let Round::Full { with_unusual } = round {
        let reached =
            states.iter().flat_map(|(state, _)| thresholds(&state.budget, state.period_start, state.spent_usd));
        alerts = unknown(db, reached.collect()).await?;
        explain_new(db, &states, now, &mut alerts).await?;
        if with_unusual {
            alerts.append(&mut unusual::find(db, today, options).await?);
        }
    }
    let raised = raise(db, &alerts).await?;
    let board = Board::new(states.into_iter().map(|(state, _)| state).collect());
    // Last, because changes of budgets wait for this row.
    let rest = (begun.elapsed() * REST).max(REST_MIN.min(options.interval));
    let changes = note_evaluation(db, !changed.is_empty(), rest, last.merged_at).await?;
    transaction.commit().await?;
    Ok(Some(Evaluated { board, changes, raised }))
}

/// Books a spend. Returns whether the stored state is another one.
fn book((state, is_stored): &mut (BudgetState, bool), (spent, unpriced): Spent) -> bool {
    let before = (state.spent_usd, state.unpriced_calls, state.status);
    state.book(spent, unpriced);
    !*is_stored || before != (state.spent_usd, state.unpriced_calls, state.status)
}

/// Adds the explanation to the alerts of the first budgets.
async fn explain_new(
    client: &Client,
    states: &[(BudgetState, bool)],
    now: &DateTime<Tz>,
    alerts: &mut [super::inbox::NewAlert],
) -> Result<(), tokio_postgres::Error> {
    let id = |alert: &super::inbox::NewAlert| alert.details["budget_id"].as_i64();
    for of_budget in alerts.chunk_by_mut(|a, b| id(a) == id(b)).take(EXPLAINED_MAX) {
        let budget_id = of_budget.first().and_then(id);
        if let Some((state, _)) = states.iter().find(|(state, _)| Some(state.budget.id.into()) == budget_id) {
            let period = (state.period_start, state.period_end);
            explain(client, &state.budget, period, now, of_budget).await?;
        }
    }
    Ok(())
}

/// The state before the evaluation.
struct Last {
    /// The last merge of users' deltas.
    merged_at: DateTime<Utc>,
    /// Whether no merge has been committed since the last evaluation.
    is_of_this_merge: bool,
}

/// None if the last evaluation ended so short a time ago that the next one has to wait.
async fn last_evaluation(client: &Client) -> Result<Option<Last>, tokio_postgres::Error> {
    let sql = "SELECT r.merged_at, r.merged_at = e.merged_at \
        FROM public.tallyd_budget_evaluation AS e, public.tallyd_delta_ring AS r WHERE e.rests_until <= clock_timestamp()";
    let rows = client.query_typed(sql, &[]).await?;
    Ok(rows.first().map(|row| Last { merged_at: row.get(0), is_of_this_merge: row.get(1) }))
}

/// Returns the number of changes.
async fn note_evaluation(
    client: &Client,
    is_changed: bool,
    rest: Duration,
    merged_at: DateTime<Utc>,
) -> Result<i64, tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_budget_evaluation SET changes = changes + $1, evaluated_at = clock_timestamp(), \
        rests_until = clock_timestamp() + $2 * interval '1 second', merged_at = $3 RETURNING changes";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&i64::from(is_changed), Type::INT8), (&rest.as_secs_f64(), Type::FLOAT8), (&merged_at, Type::TIMESTAMPTZ)];
    Ok(client.query_typed(sql, &parameters).await?.first().map_or(0, |row| row.get(0)))
}

fn is_wanted(round: Round, state: &BudgetState) -> bool {
    match round {
        Round::Full { .. } => true,
        // The amount of a budget may have been raised since its state was stored.
        Round::Hard => {
            let Budget { limit, amount_usd, .. } = state.budget;
            limit == Limit::Hard && !(state.should_throttle() && reaches(state.spent_usd, amount_usd, 100))
        }
    }
}

/// The spend of budgets, if no users' deltas were merged since the last evaluation: a user without deltas has spent nothing
/// more than the stored sum. Reading the other users' days takes most of the time.
async fn recent_spent(
    client: &Client,
    states: &[(BudgetState, bool)],
    wanted: &[usize],
    today: NaiveDate,
) -> Result<Vec<Spent>, tokio_postgres::Error> {
    let user = |place: usize| states[place].0.budget.scope.of(&Dimension::User);
    let users: Vec<&str> = wanted.iter().map(|place| user(*place)).filter(|user| !user.is_empty()).collect();
    let active = if users.is_empty() { HashSet::new() } else { with_deltas(client, &users).await? };
    let is_asked = |place: &usize| user(*place).is_empty() || !states[*place].1 || active.contains(user(*place));
    let asked: Vec<&Budget> =
        wanted.iter().filter(|place| is_asked(place)).map(|place| &states[*place].0.budget).collect();
    let mut sums = spent(client, &asked, today).await?.into_iter();
    let stored = |place: usize| (states[place].0.spent_usd, states[place].0.unpriced_calls);
    let sum = |place: &usize| if is_asked(place) { sums.next().unwrap_or_default() } else { stored(*place) };
    Ok(wanted.iter().map(sum).collect())
}

/// Stores states. A budget that was removed meanwhile has none.
async fn store_states<'s>(
    client: &Client,
    states: impl Iterator<Item = &'s BudgetState>,
) -> Result<(), tokio_postgres::Error> {
    let states: Vec<&BudgetState> = states.collect();
    if states.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO public.api_budget_states \
             (budget_id, period_start, period_end, spent_usd, unpriced_calls, status, changed_at) \
         SELECT b.id, n.period_start, n.period_end, n.spent_usd, n.unpriced_calls, n.status, clock_timestamp() \
         FROM unnest($1::int4[], $2::date[], $3::date[], $4::numeric[], $5::int8[], $6::text[]) \
             AS n (id, period_start, period_end, spent_usd, unpriced_calls, status) \
         JOIN public.api_budgets AS b ON b.id = n.id ORDER BY b.id \
         ON CONFLICT (budget_id) DO UPDATE SET period_start = excluded.period_start, \
         period_end = excluded.period_end, spent_usd = excluded.spent_usd, unpriced_calls = excluded.unpriced_calls, \
         status = excluded.status, changed_at = excluded.changed_at";
    let ids: Vec<i32> = states.iter().map(|state| state.budget.id).collect();
    let starts: Vec<NaiveDate> = states.iter().map(|state| state.period_start).collect();
    let ends: Vec<NaiveDate> = states.iter().map(|state| state.period_end).collect();
    let spends: Vec<_> = states.iter().map(|state| state.spent_usd).collect();
    let unpriced: Vec<i64> = states.iter().map(|state| state.unpriced_calls).collect();
    let statuses: Vec<&str> = states.iter().map(|state| state.status.name()).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&ids, Type::INT4_ARRAY),
        (&starts, Type::DATE_ARRAY),
        (&ends, Type::DATE_ARRAY),
        (&spends, Type::NUMERIC_ARRAY),
        (&unpriced, Type::INT8_ARRAY),
        (&statuses, Type::TEXT_ARRAY),
    ];
    client.execute_typed(sql, &parameters).await.map(drop)
}
