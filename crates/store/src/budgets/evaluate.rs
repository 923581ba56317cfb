//! Computes the state of every budget from the rollups, and raises the alerts that are due.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate};
use chrono_tz::Tz;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use super::explain::{explain, unknown};
use super::inbox::{NewAlert, raise};
use super::{Board, Budget, BudgetScope, BudgetState, slack, store, unusual};
use crate::locks::Lock;
use crate::queries::history::spending_history;
use tallyd_config::Alerts;
use tallyd_model::forecast::{Estimate, History, Outlook, day_left};
use tallyd_model::pricing::Usd;
use tallyd_model::wording::usd;

/// Evaluates every budget in one transaction, and looks for unusual spend if `with_unusual` says so. Returns the number of new
/// alerts; none if another daemon is evaluating.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn evaluate(
    client: &mut Client,
    now: &DateTime<Tz>,
    options: &Alerts,
    with_unusual: bool,
) -> Result<Option<u64>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    if !Lock::Budgets.try_take(transaction.client()).await? {
        return Ok(None);
    }
    let today = now.date_naive();
    let mut alerts = Vec::new();
    for budget in store::list(transaction.client()).await? {
        let period = budget.period.around(today);
        let reached = stand(&transaction, &budget, period).await?;
        let mut new = unknown(&transaction, reached).await?;
        if !new.is_empty() {
            explain(transaction.client(), &budget, period, now, &mut new).await?;
        }
        alerts.append(&mut new);
    }
    if with_unusual {
        alerts.append(&mut unusual::find(transaction.client(), today, options).await?);
    }
    let mut raised = 0;
    for alert in alerts {
        raised += raise(transaction.client(), &alert).await?;
    }
    transaction.commit().await?;
    Ok(Some(raised))
}

/// Stores a budget's state, and returns the alerts of the thresholds that are reached.
async fn stand(
    transaction: &Transaction<'_>,
    budget: &Budget,
    (start, end): (NaiveDate, NaiveDate),
) -> Result<Vec<NewAlert>, tokio_postgres::Error> {
    let (spent, unpriced) = spent(transaction, budget, start, end).await?;
    let sql = "INSERT INTO public.api_budget_states \
             (budget_id, period_start, period_end, spent_usd, unpriced_calls, status) \
         SELECT b.id, $2, $3, $4, $5, CASE WHEN $4 > 0 AND $4 >= b.amount_usd THEN 'exceeded' \
             WHEN $4 > 0 AND $4 * 100 >= b.amount_usd * b.warning_percent THEN 'warning' ELSE 'normal' END \
         FROM public.api_budgets AS b WHERE b.id = $1 \
         ON CONFLICT (budget_id) DO UPDATE SET period_start = excluded.period_start, \
         period_end = excluded.period_end, spent_usd = excluded.spent_usd, unpriced_calls = excluded.unpriced_calls, \
         status = excluded.status, evaluated_at = excluded.evaluated_at";
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&budget.id, Type::INT4),
        (&start, Type::DATE),
        (&end, Type::DATE),
        (&spent, Type::NUMERIC),
        (&unpriced, Type::INT8),
    ];
    transaction.query_typed(sql, &parameters).await?;
    Ok(thresholds(budget, start, spent))
}

/// The rollup that has a scope's spend.
pub(super) struct Source {
    pub(super) table: &'static str,
    /// A condition on the table's rows; `$3` is the scope's value.
    pub(super) filter: &'static str,
    /// The name of a part of the spend.
    pub(super) part: &'static str,
}

impl Source {
    pub(super) fn of(scope: BudgetScope) -> Self {
        const MODEL: &str = "CASE model WHEN '' THEN provider ELSE model END";
        let by_model = |filter| Self { table: "daily_api_costs", filter, part: MODEL };
        let by_dimension = |filter| Self { table: "daily_dimension_costs", filter, part: MODEL };
        match scope {
            BudgetScope::Global => by_model("$3 = ''"),
            BudgetScope::Provider => by_model("provider = $3"),
            // The family's name, alone or with a date.
            BudgetScope::Model => by_model(
                "(model = $3 OR (left(model, length($3)) = $3 \
                 AND substr(model, length($3) + 1) ~ '^([-@]20[0-9]{6}|-20[0-9]{2}-[0-9]{2}-[0-9]{2})$'))",
            ),
            BudgetScope::User => Self { table: "tallyd_user_day_parts", filter: "user_id = $3", part: "provider" },
            BudgetScope::App => by_dimension("dimension = 'app' AND value = $3"),
            // A dimension's name has no `=`; a value may have several.
            BudgetScope::Tag => {
                by_dimension("dimension = split_part($3, '=', 1) AND value = substr($3, strpos($3, '=') + 1)")
            }
        }
    }
}

/// The costs, and the number of unpriced calls.
async fn spent(
    transaction: &Transaction<'_>,
    budget: &Budget,
    start: NaiveDate,
    end: NaiveDate,
) -> Result<(Usd, i64), tokio_postgres::Error> {
    let Source { table, filter, .. } = Source::of(budget.scope);
    let sql = format!(
        "SELECT round(coalesce(sum(cost_usd), 0), 18), coalesce(sum(unpriced_calls), 0)::int8 FROM public.{table} \
         WHERE day >= $1 AND day < $2 AND {filter}"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&start, Type::DATE), (&end, Type::DATE), (&budget.scope_value, Type::TEXT)];
    let rows = transaction.query_typed(&sql, &parameters).await?;
    Ok(rows.first().map_or((Usd::ZERO, 0), |row| (row.get(0), row.get(1))))
}

/// The budget's name and use, as in `monthly budget (all spend) 89 % used: 2,659.00 of 3,000.00 USD since 2026-11-01`.
/// Percents are rounded down, so 100 means all of it.
fn standing(budget: &Budget, start: NaiveDate, spent: Usd) -> String {
    let of = match budget.scope {
        BudgetScope::Global => "all spend".to_owned(),
        scope => format!("{} {}", scope.name(), slack::named(&budget.scope_value)),
    };
    let share = spent.attos().checked_mul(100).and_then(|spent| spent.checked_div(budget.amount_usd.attos()));
    let used = share.map_or_else(|| "used up".to_owned(), |share| format!("{share} % used"));
    let (period, spent, amount) = (budget.period.adjective(), usd(spent, false), usd(budget.amount_usd, false));
    format!("{period} budget ({of}) {used}: {spent} of {amount} USD since {start}")
}

/// The alerts of the thresholds that are reached. Only the highest is delivered, so that several thresholds reached at
/// once cause one message.
fn thresholds(budget: &Budget, start: NaiveDate, spent: Usd) -> Vec<NewAlert> {
    let reached = |percent: i32| {
        let (spent, amount) = (spent.attos().checked_mul(100), budget.amount_usd.attos().checked_mul(percent.into()));
        // An amount that overflows exceeds any budget.
        spent > Some(0) && spent >= amount
    };
    let mut percents: Vec<i32> = budget.alert_percents.iter().copied().filter(|percent| reached(*percent)).collect();
    percents.sort_unstable();
    let highest = percents.last().copied();
    let Budget { id, scope_value, amount_usd, .. } = budget;
    let (scope, period) = (budget.scope.name(), budget.period.name());
    let standing = standing(budget, start, spent);
    let alerts = percents.into_iter().map(|percent| NewAlert {
        kind: "budget",
        key: format!("{id}/{start}/{amount_usd}/{percent}"),
        message: format!("tallyd: {standing}, alert at {percent} %"),
        details: json!({
            "budget_id": id, "scope": scope, "scope_value": scope_value, "period": period, "period_start": start,
            "percent": percent, "spent_usd": spent, "amount_usd": amount_usd,
        }),
        deliver: Some(percent) == highest,
        urgent: percent >= 100,
        ..NewAlert::default()
    });
    alerts.collect()
}

/// Bound on providers whose budgets have a forecast: each takes a query and a fitted model.
const PROVIDERS_MAX: usize = 16;

/// The provider whose costs count towards a budget; empty for all costs. None for scopes without a forecast.
pub(super) fn provider(budget: &Budget) -> Option<&str> {
    matches!(budget.scope, BudgetScope::Global | BudgetScope::Provider).then_some(budget.scope_value.as_str())
}

/// Estimates by budget id, for global budgets and those of providers, if the history is long enough.
///
/// # Errors
/// PostgreSQL's.
pub async fn estimates(
    client: &Client,
    board: &Board,
    now: &DateTime<Tz>,
) -> Result<HashMap<i32, Estimate>, tokio_postgres::Error> {
    let mut histories: HashMap<&str, History> = HashMap::new();
    for provider in board.states().iter().filter_map(|state| provider(&state.budget)) {
        if histories.len() < PROVIDERS_MAX && !histories.contains_key(provider) {
            histories.insert(provider, spending_history(client, now.date_naive(), provider).await?);
        }
    }
    let outlooks: HashMap<_, _> =
        histories.iter().map(|(provider, history)| (*provider, Outlook::of(history, day_left(now)))).collect();
    let estimate = |state: &BudgetState| {
        let outlook = outlooks.get(provider(&state.budget)?)?;
        let estimate = outlook.period(state.period_start, state.period_end - Days::new(1));
        estimate.expected_usd.is_some().then_some((state.budget.id, estimate))
    };
    Ok(board.states().iter().filter_map(estimate).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Period;
    use super::*;

    #[test]
    fn each_threshold_is_a_fact_of_its_own_and_only_the_highest_is_told() {
        let budget = Budget {
            id: 3,
            scope: BudgetScope::User,
            scope_value: "u1".into(),
            period: Period::Month,
            amount_usd: Usd::parse("10").unwrap(),
            warning_percent: 80,
            alert_percents: vec![100, 50, 80],
            throttle: true,
        };
        let told = |spent: &str| {
            let alerts = thresholds(&budget, NaiveDate::default(), Usd::parse(spent).unwrap());
            alerts.into_iter().map(|alert| (alert.key, alert.deliver)).collect::<Vec<_>>()
        };
        assert_eq!(told("4.999999999999999999"), []);
        assert_eq!(told("5"), [("3/1970-01-01/10/50".to_owned(), true)]);
        assert_eq!(told("12"), [50, 80, 100].map(|percent| (format!("3/1970-01-01/10/{percent}"), percent == 100)));
        let message =
            |spent: &str| thresholds(&budget, NaiveDate::default(), Usd::parse(spent).unwrap())[0].message.clone();
        assert_eq!(
            message("12.345678901234567891"),
            "tallyd: monthly budget (user \"u1\") 123 % used: 12.35 of 10.00 USD since 1970-01-01, alert at 50 %"
        );
        let nothing = Budget { amount_usd: Usd::ZERO, ..budget.clone() };
        assert!(thresholds(&nothing, NaiveDate::default(), Usd::ZERO).is_empty());
        let over = thresholds(&nothing, NaiveDate::default(), Usd::from_attos(1));
        assert!(over.len() == 3 && over[0].message.contains(" used up: "), "{}", over[0].message);
    }
}
