//! The daily budget of everything together: the row of `api_budgets` with scope `global` and period `day`.

use serde_json::json;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

use super::audit::{self, Change};
use super::{QueryError, Reading};
use crate::pricing::Usd;

/// A budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How much.
    pub amount: Usd,
    /// From this share of it on a warning is due, in hundredths of a percent.
    pub warning_basis_points: i64,
    /// Whether applications are asked to hold back once it is used up.
    pub throttle: bool,
}

const SELECT: &str = "SELECT round(amount_usd, 18), (warning_percent * 100)::int8, throttle FROM public.api_budgets \
    WHERE scope = 'global' AND scope_value = '' AND period = 'day'";

/// The budget, if one is set.
///
/// # Errors
/// [`QueryError`].
pub async fn daily(reading: &Reading) -> Result<Option<Budget>, QueryError> {
    Ok(read(&**reading, SELECT).await?)
}

/// A daily budget that is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyBudget {
    /// How much.
    pub amount: Usd,
    /// From this share of it on a warning is due, in percent; what holds stays if nothing is said.
    pub warning_percent: Option<i64>,
    /// Nothing is changed where there is a budget already.
    pub only_if_none: bool,
}

/// Sets the budget and notes who did. Returns the earlier amount.
///
/// # Errors
/// PostgreSQL's; nothing was changed then.
pub async fn set_daily(
    client: &mut Client,
    new: &DailyBudget,
    actor: &str,
    address: &str,
) -> Result<Option<Usd>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // Without a row there is nothing to lock; two first ones at once both note that there was none before.
    let old = read(&transaction, &format!("{SELECT} FOR UPDATE")).await?.map(|budget| budget.amount);
    if old.is_some() && new.only_if_none {
        return Ok(old);
    }
    let sql = "INSERT INTO public.api_budgets AS b (scope, scope_value, period, amount_usd, warning_percent) \
        VALUES ('global', '', 'day', $1, coalesce($2::int8, 80)) \
        ON CONFLICT (scope, scope_value, period) DO UPDATE SET amount_usd = excluded.amount_usd, \
        warning_percent = coalesce($2, b.warning_percent), updated_at = excluded.updated_at";
    let amount = new.amount;
    transaction.query_typed(sql, &[(&amount, Type::NUMERIC), (&new.warning_percent, Type::INT8)]).await?;
    let change = Change {
        actor,
        address,
        action: "budget.set",
        object: "global/day",
        old: old.map(|old| json!({ "amount_usd": old })),
        new: Some(json!({ "amount_usd": amount })),
    };
    audit::write(transaction.client(), &change).await?;
    transaction.commit().await?;
    Ok(old)
}

async fn read(client: &impl GenericClient, sql: &str) -> Result<Option<Budget>, tokio_postgres::Error> {
    let rows = client.query_typed(sql, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Budget { amount: row.try_get(0)?, warning_basis_points: row.try_get(1)?, throttle: row.try_get(2)? })
    };
    rows.first().map(read).transpose()
}
