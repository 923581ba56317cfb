//! The daily budget over all calls: the row of `api_budgets` with the scope `{}` and the period `day`.

use tokio_postgres::{Client, GenericClient};

use super::audit::Actor;
use super::{QueryError, Reading};
use crate::budgets::store::{self, ALERT_PERCENTS, SetBudgetError, WARNING_PERCENT};
use crate::budgets::{BudgetScope, Limit, NewBudget, Period};
use tallyd_model::pricing::Usd;

/// The daily budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The limit in USD.
    pub amount: Usd,
    /// The share at which a warning is due, in hundredths of a percent.
    pub warning_basis_points: i64,
    /// The effect of the used up budget.
    pub limit: Limit,
}

const SELECT: &str = "SELECT round(amount_usd, 18), (warning_percent * 100)::int8, limit_kind = 'hard' \
    FROM public.api_budgets WHERE scope = '{}' AND period = 'day'";

/// The budget, if one is set.
///
/// # Errors
/// [`QueryError`].
pub async fn daily(reading: &Reading) -> Result<Option<Budget>, QueryError> {
    Ok(read(&**reading, SELECT).await?)
}

/// A new daily budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyBudget {
    /// The limit in USD.
    pub amount: Usd,
    /// The share at which a warning is due, in percent. None keeps the present value.
    pub warning_percent: Option<i64>,
    /// True to leave an existing budget unchanged.
    pub only_if_none: bool,
}

/// Sets the budget with an audit entry. Returns the earlier amount.
///
/// # Errors
/// [`SetBudgetError`]; nothing has changed then.
pub async fn set_daily(client: &mut Client, new: &DailyBudget, by: &Actor<'_>) -> Result<Option<Usd>, SetBudgetError> {
    let transaction = client.transaction().await?;
    let old = store::of_scope(transaction.client(), &BudgetScope::default(), Period::Day).await?;
    let amount = old.as_ref().map(|old| old.amount_usd);
    if old.is_some() && new.only_if_none {
        return Ok(amount);
    }
    let warning_percent = new.warning_percent.and_then(|percent| i32::try_from(percent).ok());
    let wanted = NewBudget {
        scope: BudgetScope::default(),
        period: Period::Day,
        amount_usd: new.amount,
        warning_percent: warning_percent.or(old.as_ref().map(|old| old.warning_percent)).unwrap_or(WARNING_PERCENT),
        alert_percents: old.as_ref().map_or_else(|| ALERT_PERCENTS.to_vec(), |old| old.alert_percents.clone()),
        limit: old.as_ref().map(|old| old.limit).unwrap_or_default(),
    };
    store::replace(transaction.client(), wanted.checked()?, old, by).await?;
    transaction.commit().await?;
    Ok(amount)
}

async fn read(client: &impl GenericClient, sql: &str) -> Result<Option<Budget>, tokio_postgres::Error> {
    let rows = client.query_typed(sql, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let limit = if row.try_get(2)? { Limit::Hard } else { Limit::Soft };
        Ok(Budget { amount: row.try_get(0)?, warning_basis_points: row.try_get(1)?, limit })
    };
    rows.first().map(read).transpose()
}
