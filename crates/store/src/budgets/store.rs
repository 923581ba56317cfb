//! The rows of `api_budgets`, and their states.

use chrono::NaiveDate;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::board::untouched;
use super::{Board, Budget, BudgetScope, BudgetStanding, BudgetState, Limit, Period};
use crate::dimensions;
use crate::queries::audit::{self, Actor, Change};
use crate::queries::grouped::Dimension;
use tallyd_model::pricing::Usd;

/// A budget to set. [`set`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBudget {
    /// The scope of the budget.
    pub scope: BudgetScope,
    /// The period of the amount.
    pub period: Period,
    /// The amount; not negative.
    pub amount_usd: Usd,
    /// The percentage at which the status becomes a warning.
    pub warning_percent: i32,
    /// The percentages at which an alert is due.
    pub alert_percents: Vec<i32>,
    /// The effect of the used up budget.
    pub limit: Limit,
}

const COLUMNS: &str = "b.id, b.scope, b.period, round(b.amount_usd, 18), round(b.warning_percent)::int4, b.alert_percents, \
     b.limit_kind";

fn budget(row: &tokio_postgres::Row) -> Option<Budget> {
    // The table's constraints bound the names; a newer version may have more of them, and SQL can write any scope.
    Some(Budget {
        id: row.get(0),
        scope: BudgetScope::read(&row.get(1))?,
        period: Period::by_name(row.get(2))?,
        amount_usd: row.get(3),
        warning_percent: row.get(4),
        alert_percents: row.get(5),
        limit: Limit::by_name(row.get(6))?,
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
    /// Checks a budget before it is stored. The error names the invalid field.
    pub(crate) fn checked(self) -> Result<Self, SetBudgetError> {
        let invalid = |message: String, hint| Err(SetBudgetError::Invalid { message, hint });
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
    let old = of_scope(transaction.client(), &new.scope, new.period).await?;
    let done = replace(transaction.client(), new, old, by).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Costs by a tag are only summed if it is a dimension.
async fn check_dimension(client: &Client, new: &NewBudget) -> Result<(), SetBudgetError> {
    let tag = new.scope.parts().iter().find_map(|(dimension, _)| match dimension {
        Dimension::Tag(tag) => Some(tag),
        _ => None,
    });
    let Some(tag) = tag else { return Ok(()) };
    if dimensions::list(client).await?.iter().any(|dimension| dimension.name == *tag) {
        return Ok(());
    }
    let hint = "`tallyd dimensions add` makes a tag a dimension, `tallyd dimensions list` shows them";
    Err(SetBudgetError::Invalid { message: format!("scope: the tag {tag} is not a dimension"), hint })
}

/// The budget of a scope and period, locked until the transaction ends. A missing budget cannot be locked: of two
/// transactions that create it at once, each audit entry says that there was none before.
///
/// # Errors
/// PostgreSQL's.
pub async fn of_scope(
    transaction: &Client,
    scope: &BudgetScope,
    period: Period,
) -> Result<Option<Budget>, tokio_postgres::Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM public.api_budgets AS b WHERE scope = $1::jsonb AND period = $2 FOR UPDATE");
    let scope = json!(scope);
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&scope, Type::JSONB), (&period.name(), Type::TEXT)];
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
    note_change(transaction).await?;
    let object = format!("{}/{}", new.scope, new.period.name());
    let now = json!({ "scope": new.scope, "period": new.period, "amount_usd": new.amount_usd,
        "warning_percent": new.warning_percent, "alert_percents": new.alert_percents, "limit": new.limit });
    let change = Change { old: old.as_ref().map(|old| json!(old)), new: Some(now), ..by.change("budget.set", &object) };
    audit::write(transaction, &change).await?;
    Ok(SetOutcome { id, old, new })
}

async fn upsert(client: &Client, new: &NewBudget) -> Result<i32, tokio_postgres::Error> {
    let sql = "INSERT INTO public.api_budgets (scope, period, amount_usd, warning_percent, alert_percents, limit_kind) \
         VALUES ($1, $2, $3, $4::int4, $5, $6) ON CONFLICT (scope, period) DO UPDATE SET \
         amount_usd = excluded.amount_usd, warning_percent = excluded.warning_percent, \
         alert_percents = excluded.alert_percents, limit_kind = excluded.limit_kind, updated_at = clock_timestamp() \
         RETURNING id";
    let scope = json!(new.scope);
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&scope, Type::JSONB),
        (&new.period.name(), Type::TEXT),
        (&new.amount_usd, Type::NUMERIC),
        (&new.warning_percent, Type::INT4),
        (&new.alert_percents, Type::INT4_ARRAY),
        (&new.limit.name(), Type::TEXT),
    ];
    let rows = client.query_typed(sql, &parameters).await?;
    // RETURNING has the row that was inserted or updated.
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Makes each daemon read the budgets again, soon after the transaction. The evaluation takes this row last, so its
/// lock is short.
async fn note_change(transaction: &Client) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_budget_evaluation SET changes = changes + 1, rests_until = to_timestamp(0)";
    transaction.execute_typed(sql, &[]).await.map(drop)
}

/// Removes a budget, with an audit entry, in the caller's transaction. Returns false if the id does not exist.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn remove(client: &Client, id: i32, by: &Actor<'_>) -> Result<bool, tokio_postgres::Error> {
    let sql = format!("DELETE FROM public.api_budgets AS b WHERE b.id = $1 RETURNING {COLUMNS}");
    let rows = client.query_typed(&sql, &[(&id, Type::INT4)]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    note_change(client).await?;
    let object = id.to_string();
    let old = budget(row).map(|old| json!(old));
    audit::write(client, &Change { old, ..by.change("budget.remove", &object) }).await?;
    Ok(true)
}

/// The state of every budget on `today`, from the last evaluation. A period that was not evaluated yet has no costs.
///
/// # Errors
/// PostgreSQL's.
pub async fn board(client: &Client, today: NaiveDate) -> Result<Board, tokio_postgres::Error> {
    Ok(Board::new(states(client, today).await?.into_iter().map(|(state, _)| state).collect()))
}

/// The state of every budget on `today`, and whether it is stored.
pub(super) async fn states(
    client: &Client,
    today: NaiveDate,
) -> Result<Vec<(BudgetState, bool)>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS}, s.period_start, round(s.spent_usd, 18), s.unpriced_calls, s.status \
         FROM public.api_budgets AS b LEFT JOIN public.api_budget_states AS s ON s.budget_id = b.id ORDER BY b.id"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let state = |row: &tokio_postgres::Row| {
        let budget = budget(row)?;
        let period = budget.period;
        let mut state = untouched(budget, today, period);
        let is_stored = row.get::<_, Option<NaiveDate>>(7) == Some(state.period_start);
        if is_stored {
            state.book(row.get(8), row.get(9));
            state.status = BudgetStanding::by_name(row.get(10));
        }
        Some((state, is_stored))
    };
    Ok(rows.iter().filter_map(state).collect())
}

/// How new the stored states are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Freshness {
    /// Rises with each change of a budget or a state.
    pub changes: i64,
    /// Seconds since the last evaluation, by PostgreSQL's clock.
    pub age_seconds: f64,
}

/// How new the stored states are. Cheap: daemons ask several times a second.
///
/// # Errors
/// PostgreSQL's.
pub async fn freshness(client: &Client) -> Result<Freshness, tokio_postgres::Error> {
    let sql = "SELECT changes, greatest(extract(epoch FROM clock_timestamp() - evaluated_at), 0)::float8 \
        FROM public.tallyd_budget_evaluation";
    let rows = client.query_typed(sql, &[]).await?;
    let freshness = rows.first().map(|row| Freshness { changes: row.get(0), age_seconds: row.get(1) });
    Ok(freshness.unwrap_or(Freshness { changes: 0, age_seconds: 0.0 }))
}
