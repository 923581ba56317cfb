//! The rows of `api_budgets`, and their states.

use chrono::NaiveDate;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::board::untouched;
use super::{Board, Budget, BudgetScope, BudgetStanding, BudgetState, Period};
use crate::dimensions;
use crate::queries::audit::{self, Actor, Change};
use tallyd_model::pricing::{Usd, normalise_provider};
use tallyd_model::tags::name_fault;

/// A budget to set. [`set`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBudget {
    /// The scope of the budget.
    pub scope: BudgetScope,
    /// The name in the scope; empty for [`BudgetScope::Global`].
    pub scope_value: String,
    /// The period of the amount.
    pub period: Period,
    /// The amount; not negative.
    pub amount_usd: Usd,
    /// The percentage at which the status becomes a warning.
    pub warning_percent: i32,
    /// The percentages at which an alert is due.
    pub alert_percents: Vec<i32>,
    /// True if applications are asked to hold back once it is used up.
    pub throttle: bool,
}

const COLUMNS: &str = "b.id, b.scope, b.scope_value, b.period, round(b.amount_usd, 18), round(b.warning_percent)::int4, \
     b.alert_percents, b.throttle";

fn budget(row: &tokio_postgres::Row) -> Option<Budget> {
    // The table's constraints bound the names; a newer version may have more of them.
    Some(Budget {
        id: row.get(0),
        scope: BudgetScope::by_name(row.get(1))?,
        scope_value: row.get(2),
        period: Period::by_name(row.get(3))?,
        amount_usd: row.get(4),
        warning_percent: row.get(5),
        alert_percents: row.get(6),
        throttle: row.get(7),
    })
}

/// All budgets.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client) -> Result<Vec<Budget>, tokio_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM public.api_budgets AS b ORDER BY b.id");
    Ok(client.query_typed(&sql, &[]).await?.iter().filter_map(budget).collect())
}

/// Default of [`NewBudget::warning_percent`].
pub const WARNING_PERCENT: i32 = 80;
/// Default of [`NewBudget::alert_percents`].
pub const ALERT_PERCENTS: [i32; 3] = [50, 80, 100];
const ALERTS_MAX: usize = 16;
const ALERT_PERCENT_MAX: i32 = 100_000;
/// Bytes of a name; the names in calls are not longer.
const SCOPE_VALUE_BYTES_MAX: usize = 512;

/// Why a budget was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetBudgetError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A part of it is invalid.
    #[error("{message}")]
    Invalid {
        /// The part, and the reason.
        message: String,
        /// The remedy.
        hint: &'static str,
    },
}

impl NewBudget {
    /// Checks and normalises a budget before it is stored. The error names the invalid field.
    pub(crate) fn checked(mut self) -> Result<Self, SetBudgetError> {
        let invalid = |message: String, hint| Err(SetBudgetError::Invalid { message, hint });
        let value = &self.scope_value;
        if (self.scope == BudgetScope::Global) != value.is_empty() {
            let hint = "scope_value names the provider, model, user, app or tag; for scope global leave it out";
            return invalid("scope_value does not go with scope".into(), hint);
        }
        if value.len() > SCOPE_VALUE_BYTES_MAX || value.contains('\0') {
            let message = format!("scope_value: at most {SCOPE_VALUE_BYTES_MAX} bytes, and no NUL character");
            return invalid(message, "write it as calls have it");
        }
        if self.amount_usd < Usd::ZERO || !self.amount_usd.fits_a_record() {
            let message = format!("amount_usd: a budget is not negative, and at most 1000000000: {}", self.amount_usd);
            return invalid(message, "give an amount in USD");
        }
        if !(0..=100).contains(&self.warning_percent) {
            return invalid("warning_percent is not within 0 and 100".into(), "give a whole number");
        }
        let percents = &self.alert_percents;
        if percents.len() > ALERTS_MAX || !percents.iter().all(|percent| (1..=ALERT_PERCENT_MAX).contains(percent)) {
            let message = format!("alert_percents: at most {ALERTS_MAX}, each within 1 and {ALERT_PERCENT_MAX}");
            return invalid(message, "give whole numbers, for example 50, 80 and 100");
        }
        if self.scope == BudgetScope::Tag {
            let is_tag =
                value.split_once('=').is_some_and(|(name, value)| name_fault(name).is_none() && !value.is_empty());
            if !is_tag {
                return invalid("scope_value: expected NAME=VALUE of a tag".into(), "for example team=search");
            }
            // Clients are told of no tags.
            self.throttle = false;
        }
        if self.scope == BudgetScope::Provider {
            self.scope_value = normalise_provider(&self.scope_value).into_owned();
        }
        Ok(self)
    }
}

/// Result of setting a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOutcome {
    /// Its number.
    pub id: i32,
    /// The earlier budget of the same scope and period.
    pub old: Option<Budget>,
    /// The budget as stored.
    pub new: NewBudget,
}

/// Creates or changes the budget of a scope and period, with an audit entry.
///
/// # Errors
/// [`SetBudgetError`]; nothing has changed then.
pub async fn set(client: &mut Client, new: NewBudget, by: &Actor<'_>) -> Result<SetOutcome, SetBudgetError> {
    let new = new.checked()?;
    let transaction = client.transaction().await?;
    check_dimension(transaction.client(), &new).await?;
    let old = of_scope(transaction.client(), new.scope, &new.scope_value, new.period).await?;
    let done = replace(transaction.client(), new, old, by).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Costs by a tag are only summed if it is a dimension.
async fn check_dimension(client: &Client, new: &NewBudget) -> Result<(), SetBudgetError> {
    let Some((name, _)) = new.scope_value.split_once('=').filter(|_| new.scope == BudgetScope::Tag) else {
        return Ok(());
    };
    if dimensions::list(client).await?.iter().any(|dimension| dimension.name == name) {
        return Ok(());
    }
    let hint = "`tallyd dimensions add` makes a tag a dimension, `tallyd dimensions list` shows them";
    Err(SetBudgetError::Invalid { message: format!("scope_value: the tag {name} is not a dimension"), hint })
}

/// The budget of a scope and period, locked until the transaction ends. A missing budget cannot be locked: of two
/// transactions that create it at once, each audit entry says that there was none before.
///
/// # Errors
/// PostgreSQL's.
pub async fn of_scope(
    transaction: &Client,
    scope: BudgetScope,
    value: &str,
    period: Period,
) -> Result<Option<Budget>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM public.api_budgets AS b WHERE scope = $1 AND scope_value = $2 AND period = $3 FOR UPDATE"
    );
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&scope.name(), Type::TEXT), (&value, Type::TEXT), (&period.name(), Type::TEXT)];
    Ok(transaction.query_typed(&sql, &values).await?.first().and_then(budget))
}

/// Replaces `old` by a checked budget in the caller's transaction, with an audit entry.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn replace(
    transaction: &Client,
    new: NewBudget,
    old: Option<Budget>,
    by: &Actor<'_>,
) -> Result<SetOutcome, tokio_postgres::Error> {
    let id = upsert(transaction, &new).await?;
    let (scope, period) = (new.scope.name(), new.period.name());
    let object = format!("{}/{period}", format!("{scope} {}", new.scope_value).trim_end());
    let now = json!({ "amount_usd": new.amount_usd, "warning_percent": new.warning_percent,
        "alert_percents": new.alert_percents, "throttle": new.throttle });
    let change = Change { old: old.as_ref().map(|old| json!(old)), new: Some(now), ..by.change("budget.set", &object) };
    audit::write(transaction, &change).await?;
    Ok(SetOutcome { id, old, new })
}

async fn upsert(client: &Client, new: &NewBudget) -> Result<i32, tokio_postgres::Error> {
    let sql = "INSERT INTO public.api_budgets \
         (scope, scope_value, period, amount_usd, warning_percent, alert_percents, throttle) \
         VALUES ($1, $2, $3, $4, $5::int4, $6, $7) ON CONFLICT (scope, scope_value, period) DO UPDATE SET \
         amount_usd = excluded.amount_usd, warning_percent = excluded.warning_percent, \
         alert_percents = excluded.alert_percents, throttle = excluded.throttle, updated_at = clock_timestamp() \
         RETURNING id";
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&new.scope.name(), Type::TEXT),
        (&new.scope_value, Type::TEXT),
        (&new.period.name(), Type::TEXT),
        (&new.amount_usd, Type::NUMERIC),
        (&new.warning_percent, Type::INT4),
        (&new.alert_percents, Type::INT4_ARRAY),
        (&new.throttle, Type::BOOL),
    ];
    let rows = client.query_typed(sql, &parameters).await?;
    // RETURNING has the row that was inserted or updated.
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Removes a budget, with an audit entry. Returns false if the id does not exist.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn remove(client: &mut Client, id: i32, by: &Actor<'_>) -> Result<bool, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let sql = format!("DELETE FROM public.api_budgets AS b WHERE b.id = $1 RETURNING {COLUMNS}");
    let rows = transaction.query_typed(&sql, &[(&id, Type::INT4)]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let object = id.to_string();
    let old = budget(row).map(|old| json!(old));
    audit::write(transaction.client(), &Change { old, ..by.change("budget.remove", &object) }).await?;
    transaction.commit().await?;
    Ok(true)
}

/// The state of every budget on `today`, from the last evaluation. A period that was not evaluated yet has no costs.
///
/// # Errors
/// PostgreSQL's.
pub async fn board(client: &Client, today: NaiveDate) -> Result<Board, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS}, s.period_start, round(s.spent_usd, 18), s.unpriced_calls, s.status \
         FROM public.api_budgets AS b LEFT JOIN public.api_budget_states AS s ON s.budget_id = b.id ORDER BY b.id"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let state = |row: &tokio_postgres::Row| {
        let budget = budget(row)?;
        let period = budget.period;
        let mut state = untouched(budget, today, period);
        if row.get::<_, Option<NaiveDate>>(8) == Some(state.period_start) {
            state.spent_usd = row.get(9);
            state.unpriced_calls = row.get(10);
            state.status = BudgetStanding::by_name(row.get(11));
            state.remaining_usd = state.remaining_usd.checked_sub(state.spent_usd).unwrap_or(Usd::ZERO);
        }
        Some(state)
    };
    Ok(Board::new(rows.iter().filter_map(state).collect::<Vec<BudgetState>>()))
}
