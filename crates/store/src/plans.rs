//! Compares the costs of a provider's plans for the requests of a period, from the rollups.
//!
//! Two amounts must not be mixed. A record's cost is *marginal*: each request at the overage rate. A plan's *bill* has
//! the monthly fees, and included requests are free. Months are calendar months of the reporting time zone. An invoice
//! differs if the vendor's billing month begins on another day.

use chrono::{Datelike, NaiveDate};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::whole::Whole;
use tallyd_model::pricing::{Catalog, Plan, Usd};

/// The provider that bills by plan.
pub const PLAN_PROVIDER: &str = "rentcast";

/// One month of requests.
#[derive(Debug, Clone, Serialize)]
pub struct PlanMonth {
    /// Its first day.
    pub month: NaiveDate,
    /// Requests within the period.
    pub requests: Whole,
    /// The sum of the records' costs.
    pub marginal_usd: Usd,
}

/// The bill of one plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanBill {
    /// The plan.
    pub plan: Plan,
    /// Fees and overage of all months.
    pub bill_usd: Usd,
    /// True for the configured plan.
    pub configured: bool,
    /// True for the plan with the smallest bill.
    pub cheapest: bool,
}

/// All plans, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct PlanComparison {
    /// The months of the period, including those without requests, whose fee is due all the same.
    pub months: Vec<PlanMonth>,
    /// The plans, in the order of their fees.
    pub plans: Vec<PlanBill>,
    /// True if the period begins or ends within a month.
    pub partial_months: bool,
}

/// Compares the plans of `catalogs`, one catalog a plan, over `[from, to)`.
///
/// # Errors
/// PostgreSQL's.
pub async fn compare(
    client: &Client,
    catalogs: &[Catalog],
    configured: Plan,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<PlanComparison, tokio_postgres::Error> {
    let sql = "SELECT m::date, coalesce(sum(c.requests), 0), round(coalesce(sum(c.cost_usd), 0), 18) \
         FROM generate_series(date_trunc('month', $1::date::timestamp), $2::date::timestamp - interval '1 day', \
             interval '1 month') AS m \
         LEFT JOIN public.daily_api_costs AS c ON c.provider = $3 AND c.day >= greatest(m::date, $1) \
             AND c.day < least((m + interval '1 month')::date, $2) GROUP BY 1 ORDER BY 1";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&from, Type::DATE), (&to, Type::DATE), (&PLAN_PROVIDER, Type::TEXT)];
    let rows = client.query_typed(sql, &parameters).await?;
    let months: Vec<_> = rows
        .iter()
        .map(|row| PlanMonth { month: row.get(0), requests: row.get(1), marginal_usd: row.get(2) })
        .collect();
    let partial_months = from.day() != 1 || to.day() != 1;
    Ok(PlanComparison { plans: bills(catalogs, configured, &months), months, partial_months })
}

fn bills(catalogs: &[Catalog], configured: Plan, months: &[PlanMonth]) -> Vec<PlanBill> {
    let bill = |catalog: &Catalog| {
        let bills = months.iter().map(|month| {
            let begin_us = month.month.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
            catalog.plan_terms(begin_us).bill(month.requests.to_u64())
        });
        // Above 10^20 USD the exact amount does not matter.
        let most = Usd::from_attos(i128::MAX);
        bills.fold(Usd::ZERO, |sum, bill| bill.and_then(|bill| sum.checked_add(bill)).unwrap_or(most))
    };
    let mut plans: Vec<PlanBill> = catalogs
        .iter()
        .map(|catalog| {
            let plan = catalog.plan_terms(i64::MAX).plan;
            PlanBill { plan, bill_usd: bill(catalog), configured: plan == configured, cheapest: false }
        })
        .collect();
    let smallest = plans.iter().map(|plan| plan.bill_usd).min();
    for plan in &mut plans {
        plan.cheapest = Some(plan.bill_usd) == smallest;
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_model::pricing::PricingOptions;

    #[test]
    fn bills_have_the_fee_of_every_month_and_the_overage_beyond_what_it_includes() {
        let catalogs = Plan::ALL.map(|rentcast_plan| {
            Catalog::builtin(&PricingOptions { rentcast_plan, ..PricingOptions::default() }).unwrap()
        });
        let month = |requests: i64| PlanMonth {
            month: NaiveDate::default(),
            requests: requests.into(),
            marginal_usd: Usd::ZERO,
        };
        let shown = |months: &[PlanMonth]| {
            let bills = bills(&catalogs, Plan::Growth, months);
            let cheapest = bills.iter().find(|bill| bill.cheapest).unwrap().plan;
            (bills.iter().map(|bill| bill.bill_usd.to_string()).collect::<Vec<_>>(), cheapest)
        };
        // 50 are included in the first plan, then 0.20 each.
        assert_eq!(shown(&[month(50)]), (["0", "74", "199", "449"].map(str::to_owned).to_vec(), Plan::Developer));
        assert_eq!(shown(&[month(2_000)]).0, ["390", "134", "199", "449"]);
        assert_eq!(
            shown(&[month(2_000), month(0)]),
            (["390", "208", "398", "898"].map(str::to_owned).to_vec(), Plan::Foundation)
        );
        assert_eq!(
            shown(&[month(100_000)]),
            (["19990", "6014", "3049", "1574"].map(str::to_owned).to_vec(), Plan::Scale)
        );
    }
}
