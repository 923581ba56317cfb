//! Removes a user's budgets, alert rules, alerts and their audit entries, and the user's name in reports.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{ForgetError, Forgotten, step};

/// Budgets of the user; their states go with them.
const BUDGETS: &str = "DELETE FROM public.api_budgets WHERE scope = 'user' AND scope_value = $1";
/// Alert rules of the user's calls; their states go with them.
const RULES: &str = "DELETE FROM public.tallyd_alert_rules WHERE filter ->> 'user' = $1";
/// Reports that name the user keep their headline, so that they are not sent again.
const REPORTS: &str = "UPDATE public.api_alerts SET details = '{}' WHERE kind = 'report' AND EXISTS ( \
    SELECT FROM jsonb_array_elements(details -> 'movers') AS g, jsonb_array_elements(g -> 'movers') AS m \
    WHERE g ->> 'by' = 'user' AND m ->> 'name' = $1)";
/// Alerts of those budgets and rules, and of the user's unusual spend.
const ALERTS: &str = "DELETE FROM public.api_alerts WHERE details ->> 'scope' = 'user' AND details ->> 'scope_value' = $1 \
    OR details ->> 'what' = 'user' AND details ->> 'name' = $1 OR details #>> '{filter,user}' = $1";
/// Audit entries of those budgets and rules: author, action and time stay.
const AUDIT: &str = "UPDATE public.tallyd_audit_log SET \
        object = CASE WHEN left(object, length($1) + 6) = 'user ' || $1 || '/' \
            THEN 'user (forgotten)' || substr(object, length($1) + 6) ELSE object END, \
        old_value = CASE WHEN old_value ->> 'scope' = 'user' AND old_value ->> 'scope_value' = $1 \
            THEN old_value || '{\"scope_value\": \"(forgotten)\"}' ELSE old_value END, \
        new_value = CASE WHEN new_value ->> 'scope' = 'user' AND new_value ->> 'scope_value' = $1 \
            THEN new_value || '{\"scope_value\": \"(forgotten)\"}' ELSE new_value END \
    WHERE left(object, length($1) + 6) = 'user ' || $1 || '/' \
        OR old_value ->> 'scope' = 'user' AND old_value ->> 'scope_value' = $1 \
        OR new_value ->> 'scope' = 'user' AND new_value ->> 'scope_value' = $1";

/// Removes them, in one transaction.
pub(super) async fn remove(client: &Client, user: &str, done: &mut Forgotten) -> Result<(), ForgetError> {
    let [budgets, alerts, audit_entries] = step(client, || within(client, user)).await?;
    done.budgets += budgets;
    done.alerts += alerts;
    done.audit_entries += audit_entries;
    Ok(())
}

async fn within(client: &Client, user: &str) -> Result<[u64; 3], ForgetError> {
    let mut counts = [0; 3];
    for (count, sql) in counts.iter_mut().zip([BUDGETS, ALERTS, AUDIT]) {
        *count = client.execute_typed(sql, &[(&user, Type::TEXT)]).await?;
    }
    // Rules count as budgets here, and reports as alerts.
    for (at, sql) in [(0, RULES), (1, REPORTS)] {
        counts[at] += client.execute_typed(sql, &[(&user, Type::TEXT)]).await?;
    }
    Ok(counts)
}
