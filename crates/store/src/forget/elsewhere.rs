//! Removes a user's budgets, alert rules and alerts, the id in their audit entries and in units, and the user's name in reports and deploys.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{ForgetError, Forgotten, step};

/// Budgets of the user; their states go with them.
const BUDGETS: &str = "DELETE FROM public.api_budgets WHERE scope ->> 'user' = $1";
/// Alerts of those budgets and rules, and of the user's unusual spend.
const ALERTS: &str = "DELETE FROM public.api_alerts WHERE details #>> '{scope,user}' = $1 \
    OR details ->> 'what' = 'user' AND details ->> 'name' = $1 OR details #>> '{filter,user}' = $1";
/// Alert rules of the user's calls; their states go with them.
const RULES: &str = "DELETE FROM public.tallyd_alert_rules WHERE filter ->> 'user' = $1";
/// Reports that name the user keep their headline, so that they are not sent again.
const REPORTS: &str = "UPDATE public.api_alerts SET details = '{}' WHERE kind = 'report' AND EXISTS ( \
    SELECT FROM jsonb_array_elements(details -> 'movers') AS g, jsonb_array_elements(g -> 'movers') AS m \
    WHERE g ->> 'by' = 'user' AND m ->> 'name' = $1)";
/// Audit entries of those budgets: author, action and time stay.
const AUDIT: &str = "UPDATE public.tallyd_audit_log SET \
        object = replace(object, 'user=' || $1, 'user=(forgotten)'), \
        old_value = CASE WHEN old_value #>> '{scope,user}' = $1 \
            THEN jsonb_set(old_value, '{scope,user}', '\"(forgotten)\"') ELSE old_value END, \
        new_value = CASE WHEN new_value #>> '{scope,user}' = $1 \
            THEN jsonb_set(new_value, '{scope,user}', '\"(forgotten)\"') ELSE new_value END \
    WHERE old_value #>> '{scope,user}' = $1 OR new_value #>> '{scope,user}' = $1";
/// The same of alert rules, and of budgets from before scopes had several dimensions.
const FORMER_AUDIT: &str = "UPDATE public.tallyd_audit_log SET \
        object = CASE WHEN left(object, length($1) + 6) = 'user ' || $1 || '/' \
            THEN 'user (forgotten)' || substr(object, length($1) + 6) ELSE object END, \
        old_value = CASE WHEN old_value ->> 'scope' = 'user' AND old_value ->> 'scope_value' = $1 \
            THEN old_value || '{\"scope_value\": \"(forgotten)\"}' ELSE old_value END, \
        new_value = CASE WHEN new_value ->> 'scope' = 'user' AND new_value ->> 'scope_value' = $1 \
            THEN new_value || '{\"scope_value\": \"(forgotten)\"}' ELSE new_value END \
    WHERE left(object, length($1) + 6) = 'user ' || $1 || '/' \
        OR old_value ->> 'scope' = 'user' AND old_value ->> 'scope_value' = $1 \
        OR new_value ->> 'scope' = 'user' AND new_value ->> 'scope_value' = $1";
/// Units of a dimension whose value is the user's id: added to those without the value, as the sums are.
const UNITS: &str = "WITH gone AS (DELETE FROM public.tallyd_units WHERE value = $1 AND value <> '' \
        RETURNING dimension, day, unit, quantity, revenue_usd, actor) \
    INSERT INTO public.tallyd_units AS u (dimension, day, value, unit, quantity, revenue_usd, actor) \
    SELECT dimension, day, '', unit, quantity, revenue_usd, actor FROM gone ORDER BY 1, 2, 4 \
    ON CONFLICT (dimension, day, value, unit) DO UPDATE SET quantity = u.quantity + excluded.quantity, \
        revenue_usd = coalesce(u.revenue_usd + excluded.revenue_usd, u.revenue_usd, excluded.revenue_usd)";
/// Deploys that the user made keep their application and version.
const DEPLOYS: &str = "UPDATE public.tallyd_deploys SET deployed_by = '' WHERE deployed_by = $1 AND deployed_by <> ''";

/// Removes them, in one transaction.
pub(super) async fn remove(client: &Client, user: &str, done: &mut Forgotten) -> Result<(), ForgetError> {
    let [budgets, alerts, of_budgets, former_entries, _] = step(client, || within(client, user)).await?;
    done.budgets += budgets;
    done.alerts += alerts;
    done.audit_entries += of_budgets + former_entries;
    Ok(())
}

async fn within(client: &Client, user: &str) -> Result<[u64; 5], ForgetError> {
    let mut counts = [0; 5];
    for (count, sql) in counts.iter_mut().zip([BUDGETS, ALERTS, AUDIT, FORMER_AUDIT, UNITS]) {
        *count = client.execute_typed(sql, &[(&user, Type::TEXT)]).await?;
    }
    client.execute_typed(DEPLOYS, &[(&user, Type::TEXT)]).await?;
    // Rules count as budgets here, and reports as alerts.
    for (at, sql) in [(0, RULES), (1, REPORTS)] {
        counts[at] += client.execute_typed(sql, &[(&user, Type::TEXT)]).await?;
    }
    Ok(counts)
}
