//! Rules as rows: listed, set, removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::evaluate::resolve;
use super::rule::{AlertRule, Metric, NewRule, RuleError, Window, invalid};
use super::{Level, measure};
use crate::budgets::{self, estimates};
use crate::dimensions;
use crate::locks::Lock;
use crate::queries::audit::{self, Actor, Change};
use tallyd_model::quiet::QuietHours;

/// Most rules: they are evaluated together every minute.
pub const RULES_MAX: i64 = 500;

const COLUMNS: &str = "r.id, r.name, r.metric, r.filter, r.in_hours, r.window_size, r.short_window, round(r.warning, 18), \
    round(r.alert, 18), r.no_data, r.budget_id, r.owner, r.route, r.quiet, \
    r.paused";

fn rule(row: &Row) -> Option<NewRule> {
    let filter: Value = row.get(3);
    let texts = filter.as_object()?.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    let in_hours: bool = row.get(4);
    let window = |size: i32| (size > 0).then_some(Window { size, in_hours });
    Some(NewRule {
        name: row.get(1),
        // A newer version may have more metrics.
        metric: Metric::by_name(row.get(2))?,
        filter: texts.collect::<BTreeMap<String, String>>(),
        window: window(row.get(5)),
        short_window: window(row.get(6)),
        warning: row.get(7),
        alert: row.get(8),
        no_data: row.get(9),
        budget_id: row.get(10),
        owner: row.get(11),
        route: row.get(12),
        quiet: QuietHours::parse(row.get(13)),
        paused: row.get(14),
    })
}

/// All rules, by name, and where they stand.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client) -> Result<Vec<AlertRule>, Error> {
    let sql = format!(
        "SELECT {COLUMNS}, s.level, s.since, round(s.value, 18), s.episode FROM public.tallyd_alert_rules AS r \
         LEFT JOIN public.tallyd_alert_rule_states AS s ON s.rule_id = r.id ORDER BY r.name COLLATE \"C\" LIMIT {RULES_MAX}"
    );
    let read = |row: &Row| {
        Some(AlertRule {
            id: row.get(0),
            rule: rule(row)?,
            level: Level::by_name(row.get::<_, Option<&str>>(15).unwrap_or_default()),
            since: row.get(16),
            value: row.get(17),
            episode: row.get::<_, Option<i64>>(18).unwrap_or_default(),
        })
    };
    Ok(client.query_typed(&sql, &[]).await?.iter().filter_map(read).collect())
}

/// Makes a rule, or replaces the one of its name, with an audit entry. Returns its number, and the rule before.
///
/// # Errors
/// [`RuleError`]; nothing has changed then.
pub async fn set(client: &mut Client, new: NewRule, by: &Actor<'_>) -> Result<(i32, Option<NewRule>), RuleError> {
    let new = new.checked()?;
    let transaction = client.transaction().await?;
    if new.paused {
        // An evaluation that has begun without knowing of the pause would note its level afterwards.
        Lock::Rules.wait(transaction.client()).await?;
    }
    check_names(transaction.client(), &new).await?;
    let sql = format!("SELECT {COLUMNS} FROM public.tallyd_alert_rules AS r WHERE r.name = $1 FOR UPDATE");
    let old = transaction.query_typed(&sql, &[(&new.name, Type::TEXT)]).await?.first().and_then(rule);
    if old.is_none() {
        let rows = transaction.query_typed("SELECT count(*) FROM public.tallyd_alert_rules", &[]).await?;
        if rows.first().is_some_and(|row| row.get::<_, i64>(0) >= RULES_MAX) {
            return invalid(format!("there are {RULES_MAX} rules, and no more are possible"), "remove one");
        }
    }
    let id = upsert(transaction.client(), &new).await?;
    if new.paused {
        silence(transaction.client(), id).await?;
    }
    let change =
        Change { old: old.as_ref().map(audited), new: Some(audited(&new)), ..by.change("alert_rule.set", &new.name) };
    audit::write(transaction.client(), &change).await?;
    transaction.commit().await?;
    Ok((id, old))
}

/// A rule in the audit log. A user is where a budget's is, so that forgetting the user finds and replaces it.
fn audited(rule: &NewRule) -> Value {
    let mut value = json!(rule);
    let user = value["filter"].as_object_mut().and_then(|filter| filter.remove("user"));
    if let Some(user) = user {
        value["scope"] = json!("user");
        value["scope_value"] = user;
    }
    value
}

/// Checks that the rule's dimension and budget exist, and that a rollup has the budget's calls.
async fn check_names(client: &Client, new: &NewRule) -> Result<(), RuleError> {
    if let Some((name, _)) = new.dimension()
        && !dimensions::list(client).await?.iter().any(|dimension| dimension.name == name)
    {
        let hint = "`tallyd dimensions add` makes a tag a dimension, `tallyd dimensions list` shows them";
        return invalid(format!("filter: the tag {name:?} is not a dimension"), hint);
    }
    let Some(id) = new.budget_id else { return Ok(()) };
    let Some(budget) = budgets::store::list(client).await?.into_iter().find(|budget| budget.id == id) else {
        return invalid(format!("budget_id: there is no budget {id}"), "`tallyd budgets list` shows the ids");
    };
    if new.metric == Metric::ForecastPercent && estimates::provider(&budget).is_none() {
        return invalid("budget_id: only budgets of all spend and of a provider have a forecast", "use burn_rate");
    }
    if new.window.is_some_and(|window| measure::Calls::of_budget(&budget, window).is_none()) {
        return invalid("window: the budget's spend is summed by day alone", "give both windows in days");
    }
    Ok(())
}

async fn upsert(client: &Client, new: &NewRule) -> Result<i32, Error> {
    let sql = "INSERT INTO public.tallyd_alert_rules AS r (name, metric, filter, in_hours, window_size, short_window, warning, alert, \
            no_data, budget_id, owner, route, quiet, paused) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
        ON CONFLICT (name) DO UPDATE SET metric = excluded.metric, filter = excluded.filter, in_hours = excluded.in_hours, \
            window_size = excluded.window_size, short_window = excluded.short_window, warning = excluded.warning, \
            alert = excluded.alert, no_data = excluded.no_data, budget_id = excluded.budget_id, owner = excluded.owner, \
            route = excluded.route, quiet = excluded.quiet, paused = excluded.paused, updated_at = clock_timestamp() \
        RETURNING r.id";
    let size = |window: Option<Window>| window.map_or(0, |window| window.size);
    let (window, short) = (size(new.window), size(new.short_window));
    let in_hours = new.window.is_some_and(|window| window.in_hours);
    let quiet = new.quiet.map_or_else(String::new, |quiet| quiet.to_string());
    let filter = json!(new.filter);
    let parameters: [(&(dyn ToSql + Sync), Type); 14] = [
        (&new.name, Type::TEXT),
        (&new.metric.name(), Type::TEXT),
        (&filter, Type::JSONB),
        (&in_hours, Type::BOOL),
        (&window, Type::INT4),
        (&short, Type::INT4),
        (&new.warning, Type::NUMERIC),
        (&new.alert, Type::NUMERIC),
        (&new.no_data, Type::BOOL),
        (&new.budget_id, Type::INT4),
        (&new.owner, Type::TEXT),
        (&new.route, Type::TEXT),
        (&quiet, Type::TEXT),
        (&new.paused, Type::BOOL),
    ];
    // RETURNING has the row that was inserted or updated.
    Ok(client.query_typed(sql, &parameters).await?.first().map_or(0, |row| row.get(0)))
}

/// Ends the alert of a rule that was paused, so that nobody waits for its end. The rule keeps the count of its episodes.
async fn silence(client: &Client, id: i32) -> Result<(), Error> {
    let Some(found) = list(client).await?.into_iter().find(|rule| rule.id == id) else { return Ok(()) };
    resolve(client, &found, "was paused").await?;
    let sql =
        "UPDATE public.tallyd_alert_rule_states SET level = 'normal', value = NULL, since = now() WHERE rule_id = $1";
    client.query_typed(sql, &[(&id, Type::INT4)]).await.map(drop)
}

/// Removes a rule, with an audit entry. An alert of it that has not ended gets its end. Returns false if there is none of
/// this number.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn remove(client: &mut Client, id: i32, by: &Actor<'_>) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let Some(found) = list(transaction.client()).await?.into_iter().find(|rule| rule.id == id) else {
        return Ok(false);
    };
    end(transaction.client(), &found, by).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Removes a budget and the rules about it, each with an audit entry and the end of its alert. Returns false if there is no
/// budget of this number.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn remove_budget(client: &mut Client, id: i32, by: &Actor<'_>) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    for found in list(transaction.client()).await?.iter().filter(|found| found.rule.budget_id == Some(id)) {
        end(transaction.client(), found, by).await?;
    }
    let is_there = budgets::store::remove(transaction.client(), id, by).await?;
    transaction.commit().await?;
    Ok(is_there)
}

async fn end(client: &Client, found: &AlertRule, by: &Actor<'_>) -> Result<(), Error> {
    resolve(client, found, "was removed").await?;
    client.query_typed("DELETE FROM public.tallyd_alert_rules WHERE id = $1", &[(&found.id, Type::INT4)]).await?;
    let change = Change { old: Some(audited(&found.rule)), ..by.change("alert_rule.remove", &found.rule.name) };
    audit::write(client, &change).await.map(drop)
}
