//! The spend of budgets in their current periods: one statement a rollup, however many budgets there are.
//!
//! A statement sums the rollup's rows of the longest period by the names that a scope can have, and tells of each sum which
//! periods it is in. A sum counts towards the budgets that name its provider or none, and its model, the model's family or
//! none. Models and providers are read whole, because a day has a bounded number of them; of dimensions and users only the
//! names that budgets have.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::Period;
use super::scope::{Key, Rollup};
use super::{Budget, BudgetScope};
use crate::queries::Parameter;
use tallyd_model::pricing::Usd;
use tallyd_protocol::budgets::family;

/// The users' sums that wait to be merged into the base, of the users in `$9`.
const DELTAS: [&str; 2] = [
    "public.tallyd_user_deltas_0 JOIN unnest($9::text[]) AS u (name) ON user_id = name",
    "public.tallyd_user_deltas_1 JOIN unnest($9::text[]) AS u (name) ON user_id = name",
];
const PERIODS: [Period; 3] = [Period::Day, Period::Week, Period::Month];

/// Costs, and calls without a price.
pub(super) type Spent = (Usd, i64);

/// The spend of each of the budgets, in their order.
///
/// # Errors
/// PostgreSQL's.
pub(super) async fn spent(
    client: &Client,
    budgets: &[&Budget],
    today: NaiveDate,
) -> Result<Vec<Spent>, tokio_postgres::Error> {
    let mut spent = vec![(Usd::ZERO, 0); budgets.len()];
    for rollup in [Rollup::Models, Rollup::Dimensions, Rollup::Users] {
        let mut wanted = Wanted::default();
        for (place, budget) in budgets.iter().enumerate().filter(|(_, budget)| budget.scope.rollup() == Some(rollup)) {
            wanted.add(&budget.scope, budget.period, place);
        }
        if !wanted.places.is_empty() {
            wanted.sum(client, rollup, today, &mut spent).await?;
        }
    }
    Ok(spent)
}

/// Those of the users that have sums which wait to be merged.
///
/// # Errors
/// PostgreSQL's.
pub(super) async fn with_deltas(client: &Client, users: &[&str]) -> Result<HashSet<String>, tokio_postgres::Error> {
    let select = |table: &str| format!("SELECT DISTINCT user_id FROM {}", table.replace("$9", "$1"));
    let sql = DELTAS.map(select).join(" UNION ALL ");
    let rows = client.query_typed(&sql, &[(&users, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Budgets of one rollup.
#[derive(Default)]
struct Wanted<'a> {
    /// Budgets by their scope's names: period and place.
    places: HashMap<Key<'a>, Vec<(Period, usize)>>,
    periods: Vec<Period>,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, scope: &'a BudgetScope, period: Period, place: usize) {
        self.places.entry(scope.key()).or_default().push((period, place));
        if !self.periods.contains(&period) {
            self.periods.push(period);
        }
    }

    async fn sum(
        &self,
        client: &Client,
        rollup: Rollup,
        today: NaiveDate,
        spent: &mut [Spent],
    ) -> Result<(), tokio_postgres::Error> {
        let column = |is_named: bool, name: &str| if is_named { name.to_owned() } else { "''::text".to_owned() };
        let provider = column(self.places.keys().any(|key| !key.provider.is_empty()), "provider");
        let model = column(self.places.keys().any(|key| !key.model.is_empty()), "model");
        let (columns, tables) = match rollup {
            Rollup::Models => {
                (format!("''::text, ''::text, {provider}, {model}"), vec![("public.daily_api_costs", "")])
            }
            Rollup::Dimensions => {
                let names = "AND (dimension, value) IN (SELECT * FROM unnest($9::text[], $10::text[]))";
                (format!("dimension, value, {provider}, {model}"), vec![("public.daily_dimension_costs", names)])
            }
            // The index of the base finds the users. That of the deltas would be searched for each of them.
            Rollup::Users => {
                let base = ("public.tallyd_user_days", "AND user_id = ANY ($9)");
                let deltas = DELTAS.map(|table| (table, ""));
                (format!("''::text, user_id, {provider}, ''::text"), vec![base, deltas[0], deltas[1]])
            }
        };
        let select = |(table, names): &(&str, &str)| {
            format!(
                "SELECT {columns}, day >= $3 AND day < $4, day >= $5 AND day < $6, day >= $7 AND day < $8, \
                     round(sum(cost_usd), 18), sum(unpriced_calls)::int8 \
                 FROM {table} WHERE day >= $1 AND day < $2 {names} GROUP BY 1, 2, 3, 4, 5, 6, 7"
            )
        };
        let sql = tables.iter().map(select).collect::<Vec<_>>().join(" UNION ALL ");
        let days = PERIODS.map(|period| period.around(today));
        let around = self.periods.iter().map(|period| period.around(today));
        let first = around.clone().map(|(first, _)| first).min().unwrap_or(today);
        let end = around.map(|(_, end)| end).max().unwrap_or(today);
        let mut parameters: Vec<Parameter<'_>> = vec![(&first, Type::DATE), (&end, Type::DATE)];
        for (first, end) in &days {
            parameters.push((first, Type::DATE));
            parameters.push((end, Type::DATE));
        }
        let mut pairs: Vec<(&str, &str)> = self.places.keys().map(|key| (key.dimension, key.value)).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let (dimensions, values): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
        if rollup == Rollup::Dimensions {
            parameters.push((&dimensions, Type::TEXT_ARRAY));
        }
        if rollup != Rollup::Models {
            parameters.push((&values, Type::TEXT_ARRAY));
        }
        for row in client.query_typed(&sql, &parameters).await? {
            self.book(&row, spent);
        }
        Ok(())
    }

    /// Adds a sum to each budget that it counts towards.
    fn book(&self, row: &Row, spent: &mut [Spent]) {
        let (dimension, value, provider, model): (&str, &str, &str, &str) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let (usd, unpriced): (Usd, i64) = (row.get(7), row.get(8));
        let is_in = |period: Period| row.get::<_, bool>(4 + PERIODS.iter().position(|one| *one == period).unwrap_or(0));
        let mut models = vec![model, family(model), ""];
        models.dedup();
        let mut providers = vec![provider, ""];
        providers.dedup();
        for provider in providers {
            for model in models.iter().copied() {
                let key = Key { dimension, value, provider, model };
                for (_, place) in self.places.get(&key).into_iter().flatten().filter(|(period, _)| is_in(*period)) {
                    let (sum, calls) = spent[*place];
                    spent[*place] = (sum.checked_add(usd).unwrap_or(sum), calls.saturating_add(unpriced));
                }
            }
        }
    }
}
