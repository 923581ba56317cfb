//! The alerts of the thresholds that a budget's spend has reached.

use chrono::NaiveDate;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::board::reaches;
use super::inbox::NewAlert;
use super::{Budget, Limit};
use tallyd_model::pricing::Usd;
use tallyd_model::wording::usd;

/// The budget's name and use, as in `monthly budget (all spend) 89 % used: 2,659.00 of 3,000.00 USD since 2026-11-01`.
/// Percents are rounded down, so 100 means all of it.
fn standing(budget: &Budget, start: NaiveDate, spent: Usd) -> String {
    let of = budget.scope.words();
    let share = spent.attos().checked_mul(100).and_then(|spent| spent.checked_div(budget.amount_usd.attos()));
    let used = share.map_or_else(|| "used up".to_owned(), |share| format!("{share} % used"));
    let (period, spent, amount) = (budget.period.adjective(), usd(spent, false), usd(budget.amount_usd, false));
    format!("{period} budget ({of}) {used}: {spent} of {amount} USD since {start}")
}

/// The alerts of the thresholds that are reached. Only the highest is delivered, so that several thresholds reached at
/// once cause one message.
pub(super) fn thresholds(budget: &Budget, start: NaiveDate, spent: Usd) -> Vec<NewAlert> {
    let reached = |percent: &i32| reaches(spent, budget.amount_usd, *percent);
    let mut percents: Vec<i32> = budget.alert_percents.iter().copied().filter(reached).collect();
    if percents.is_empty() {
        return Vec::new();
    }
    percents.sort_unstable();
    let highest = percents.last().copied();
    let Budget { id, scope, amount_usd, .. } = budget;
    let period = budget.period.name();
    let standing = standing(budget, start, spent);
    let refusing = match budget.limit {
        Limit::Soft => "",
        Limit::Hard if reaches(spent, budget.amount_usd, 100) => "; hard budget: clients refuse its calls",
        Limit::Hard => "; hard budget: clients refuse its calls from 100 % on",
    };
    let alerts = percents.into_iter().map(|percent| NewAlert {
        kind: "budget",
        key: format!("{id}/{start}/{amount_usd}/{percent}"),
        message: format!("tallyd: {standing}, alert at {percent} %{refusing}"),
        details: json!({
            "budget_id": id, "scope": scope, "period": period, "period_start": start,
            "percent": percent, "spent_usd": spent, "amount_usd": amount_usd,
        }),
        deliver: Some(percent) == highest,
        urgent: percent >= 100,
        ..NewAlert::default()
    });
    alerts.collect()
}

/// The alerts that were not raised before.
pub(super) async fn unknown(client: &Client, alerts: Vec<NewAlert>) -> Result<Vec<NewAlert>, tokio_postgres::Error> {
    if alerts.is_empty() {
        return Ok(alerts);
    }
    let keys: Vec<&str> = alerts.iter().map(|alert| alert.key.as_str()).collect();
    let sql = "SELECT key FROM public.api_alerts WHERE kind = 'budget' AND key = ANY($1)";
    let rows = client.query_typed(sql, &[(&keys, Type::TEXT_ARRAY)]).await?;
    let known: std::collections::HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(alerts.into_iter().filter(|alert| !known.contains(&alert.key)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Period;
    use super::super::scope::scope;
    use super::*;

    #[test]
    fn each_threshold_is_a_fact_of_its_own_and_only_the_highest_is_told() {
        let budget = Budget {
            id: 3,
            scope: scope(&[("user", "u1")]),
            period: Period::Month,
            amount_usd: Usd::parse("10").unwrap(),
            warning_percent: 80,
            alert_percents: vec![100, 50, 80],
            limit: Limit::Hard,
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
        let text =
            "tallyd: monthly budget (user \"u1\") 123 % used: 12.35 of 10.00 USD since 1970-01-01, alert at 50 %";
        let refusing = "; hard budget: clients refuse its calls";
        assert_eq!(message("12.345678901234567891"), format!("{text}{refusing}"));
        assert!(message("9.99").ends_with(&format!(", alert at 50 %{refusing} from 100 % on")), "{}", message("9.99"));
        let soft = Budget { limit: Limit::Soft, ..budget.clone() };
        assert_eq!(thresholds(&soft, NaiveDate::default(), Usd::parse("12.345").unwrap())[0].message, text);
        let nothing = Budget { amount_usd: Usd::ZERO, ..budget.clone() };
        assert!(thresholds(&nothing, NaiveDate::default(), Usd::ZERO).is_empty());
        let over = thresholds(&nothing, NaiveDate::default(), Usd::from_attos(1));
        assert!(over.len() == 3 && over[0].message.contains(" used up: "), "{}", over[0].message);
    }
}
