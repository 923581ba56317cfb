//! `tallyd plans`: the cost of recorded calls under each plan of a provider that bills by plan.

use std::process::ExitCode;

use chrono::NaiveDate;
use clap::Args;

use super::output::{self, Table, usd};
use super::with_database;
use tallyd_config::Config;
use tallyd_model::pricing::{Catalog, Plan};
use tallyd_store::plans::{PLAN_PROVIDER, compare};

/// The cost of each RentCast plan for the recorded requests, month by month, fee included.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd plans --from 2026-09-01 --to 2026-12-01
  tallyd plans --from 2026-11-01 --to 2026-12-01 --json
The bill is the vendor's: the month's fee, and the overage beyond the requests that it includes. The marginal cost is what
the records carry: each request at the overage rate of the plan that was configured.")]
pub(super) struct PlansArgs {
    /// From this day on, in the reporting time zone
    #[arg(long, value_name = "DATE")]
    from: NaiveDate,
    /// Up to this day, without it
    #[arg(long, value_name = "DATE")]
    to: NaiveDate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &PlansArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.from >= args.to {
        anyhow::bail!("--from must be before --to. hint: --to is the first instant that is left out");
    }
    let comparison = with_database(config, "tallyd plans", async |db| {
        let catalogs = Plan::ALL.map(|rentcast_plan| {
            let options = tallyd_model::pricing::PricingOptions { rentcast_plan, ..config.pricing.clone() };
            Catalog::builtin(&options)
        });
        let mut terms = Vec::new();
        for catalog in catalogs {
            terms.push(catalog?);
        }
        Ok(compare(db, &terms, config.pricing.rentcast_plan, args.from, args.to).await?)
    })?;
    if args.json {
        output::json(&comparison)?;
        return Ok(ExitCode::SUCCESS);
    }
    for month in &comparison.months {
        println!(
            "{} {PLAN_PROVIDER}: {}, marginal cost {} USD",
            month.month,
            output::noun(month.requests.to_u64(), "request", "requests"),
            usd(month.marginal_usd, false)
        );
    }
    let mut table = Table::new(&["plan"], &["USD"]).with_text("");
    for plan in &comparison.plans {
        let marks: Vec<_> = [(plan.configured, "configured"), (plan.cheapest, "cheapest")]
            .into_iter()
            .filter_map(|(holds, mark)| holds.then_some(mark))
            .collect();
        table.push(vec![plan.plan.name().to_owned(), usd(plan.bill_usd, false), marks.join(", ")]);
    }
    table.print();
    if comparison.partial_months {
        output::hint(
            "the period begins or ends within a month: its bill is computed as if the month had no other requests",
        );
    }
    Ok(ExitCode::SUCCESS)
}
