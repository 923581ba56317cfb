//! `tallyd explain`: why spend changed between two periods.

use std::process::ExitCode;

use chrono::{Days, NaiveDate};
use clap::Args;

use super::filters::Filters;
use super::output::{self, Table, count, noun, usd};
use super::prices::catalog;
use super::{point_out, reporting_zone, today_in, with_database};
use tallyd_config::Config;
use tallyd_model::change::{Cause, Part};
use tallyd_model::pricing::Usd;
use tallyd_store::queries::change::{Change, ChangeQuery, DAYS_MAX};
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, LOG_DAYS_MAX, SortBy};

/// Explain why spend changed: the difference of two periods, split exactly by cause.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd explain                                # the seven days before today, and the seven before them
  tallyd explain --days 30 --by user
  tallyd explain --from 2026-11-01 --to 2026-11-30 --before 2026-10-01 2026-10-31
  tallyd explain --tag team=search --exact --json
The parts add up to the difference. docs/concepts/why-spend-changed.md says how it is split.")]
pub(super) struct ExplainArgs {
    /// Length of both periods, whole days up to yesterday
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX), conflicts_with = "from")]
    days: u64,
    /// The first day of the second period
    #[arg(long, value_name = "DAY", requires = "to")]
    from: Option<NaiveDate>,
    /// Its last day, included
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<NaiveDate>,
    /// The first and the last day of the first period; otherwise the days before the second, as many
    #[arg(long, value_names = ["DAY", "DAY"], num_args = 2)]
    before: Option<Vec<NaiveDate>>,
    /// The groups of the top movers: model, provider, endpoint, user, app or tag:NAME
    #[arg(long, value_name = "GROUP", default_value = "model", value_parser = Dimension::parse)]
    by: Dimension,
    #[command(flatten)]
    filters: Filters,
    /// Most movers to show
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=100))]
    limit: i64,
    /// Print every digit instead of cents
    #[arg(long)]
    exact: bool,
    /// Print JSON, with every digit
    #[arg(long)]
    json: bool,
}

async fn question(
    args: &ExplainArgs,
    db: &tallyd_store::Connection,
    zone: tallyd_model::zone::Tz,
) -> anyhow::Result<ChangeQuery> {
    let today = today_in(zone);
    let (from, to) = match (args.from, args.to) {
        (Some(from), Some(to)) => (from, to),
        _ => (today - Days::new(args.days), today - Days::new(1)),
    };
    let days = |(from, to): (NaiveDate, NaiveDate)| (to - from).num_days() + 1;
    if from > to {
        anyhow::bail!("--from is after --to");
    }
    let before = match args.before.as_deref() {
        Some(&[first, last]) => (first, last),
        _ => (from - Days::new(days((from, to)).unsigned_abs()), from - Days::new(1)),
    };
    if before.0 > before.1 || before.1 >= from {
        anyhow::bail!("--before {} {} is not a period that ends before {from}", before.0, before.1);
    }
    let longest = days((from, to)).max(days(before)).unsigned_abs();
    if longest > DAYS_MAX {
        anyhow::bail!("a period of {}: at most {DAYS_MAX} are compared", noun(longest, "day", "days"));
    }
    let group_by = match &args.by {
        Dimension::Model => vec![Dimension::Provider, Dimension::Model],
        by => vec![by.clone()],
    };
    let mut costs = CostQuery {
        from,
        to,
        zone: zone.name().to_owned(),
        bucket: Bucket::Total,
        group_by,
        filters: args.filters.chosen(),
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: args.limit,
        offset: 0,
    };
    costs.learn(db).await?;
    let question = ChangeQuery { costs, before, zone, tiers: true };
    if let Some(why) = question.why_of_the_log().filter(|_| longest > LOG_DAYS_MAX) {
        anyhow::bail!("{}: {why}", noun(longest, "day", "days"));
    }
    Ok(question)
}

pub(super) fn run(args: &ExplainArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let change = with_database(config, "tallyd explain", async |db| {
        let zone = reporting_zone(db, config).await?;
        let question = question(args, db, zone).await?;
        let (catalog, _) = catalog(db, config).await?;
        let change = question.ask(db, &catalog).await?;
        if change.before_calls.0 == 0 && change.after_calls.0 == 0 {
            let days = (change.before_from, change.to);
            if !point_out(db, &question.costs.filters, days, zone).await? {
                output::hint("there are no calls in these days");
            }
        }
        Ok(change)
    })?;
    if args.json {
        output::json(&change)?;
    } else {
        print(&change, args.exact);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(change: &Change, exact: bool) {
    let period = |from: NaiveDate, to: NaiveDate, calls: u64, cost: Usd| {
        println!("{from} to {to}: {} USD, {}", usd(cost, exact), noun(calls, "call", "calls"));
    };
    period(change.before_from, change.before_to, change.before_calls.to_u64(), change.before_usd);
    period(change.from, change.to, change.after_calls.to_u64(), change.after_usd);
    println!("{}", difference(change, exact));
    let mut parts: Vec<&Part> = change.parts.iter().filter(|part| part.usd != Usd::ZERO).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.usd.attos().unsigned_abs()));
    let mut table = Table::new(&["cause"], &["USD"]).with_text("");
    for part in parts {
        table.push(vec![word(part.cause).to_owned(), usd(part.usd, exact), sentence(part).to_owned()]);
    }
    table.print();
    for part in &change.parts {
        if let Some(note) = &part.note {
            eprintln!("{}: {note}", word(part.cause));
        }
    }
    if let Some(day) = change.whole_from {
        output::hint(&format!("sums under these filters are complete from {day} on"));
    }
    if change.movers.is_empty() {
        return;
    }
    println!("");
    let names: Vec<&str> =
        change.movers.first().map(|mover| mover.group.keys().map(String::as_str).collect()).unwrap_or_default();
    let mut table = Table::new(&names, &["calls before", "calls", "USD before", "USD", "difference"]);
    for mover in &change.movers {
        let mut cells: Vec<String> =
            mover.group.values().map(|name| if name.is_empty() { "-" } else { name }.to_owned()).collect();
        cells.extend([count(mover.before_calls.to_u64()), count(mover.after_calls.to_u64())]);
        cells.extend([mover.before_usd, mover.after_usd, mover.difference_usd].map(|amount| usd(amount, exact)));
        table.push(cells);
    }
    table.print();
}

/// `20.00 USD more (+20 %)`, rounded to a whole percent.
fn difference(change: &Change, exact: bool) -> String {
    let attos = change.difference_usd.attos();
    let amount = usd(Usd::from_attos(attos.saturating_abs()), exact);
    let before = change.before_usd.attos();
    let hundredfold = attos.checked_mul(100).and_then(|attos| attos.checked_add(attos.signum() * (before / 2)));
    let percent = hundredfold.filter(|_| before > 0).map(|attos| format!(" ({:+} %)", attos / before));
    match attos {
        0 => "no difference".to_owned(),
        1.. => format!("{amount} USD more{}", percent.unwrap_or_default()),
        _ => format!("{amount} USD less{}", percent.unwrap_or_default()),
    }
}

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Volume => "volume",
        Cause::NewUsers => "new users",
        Cause::ModelMix => "mix of models",
        Cause::Errors => "errors",
        Cause::TokensPerCall => "tokens per call",
        Cause::CacheShare => "cache share",
        Cause::Price => "price",
        Cause::Tier => "tier",
        Cause::Other => "other",
    }
}

/// How spend rose or fell by the cause.
fn sentence(part: &Part) -> &'static str {
    let pick = |more, less| if part.usd > Usd::ZERO { more } else { less };
    match part.cause {
        Cause::Volume => pick("more calls", "fewer calls"),
        Cause::NewUsers => "calls of users who had not called before",
        Cause::ModelMix => pick("a larger share of dearer models", "a larger share of cheaper models"),
        Cause::Errors => pick("a smaller share of calls failed", "a larger share of calls failed"),
        Cause::TokensPerCall => pick("more tokens per call", "fewer tokens per call"),
        Cause::CacheShare => pick("the cache saved less", "the cache saved more"),
        Cause::Price => pick("higher list prices", "lower list prices"),
        Cause::Tier => pick("dearer service tiers", "cheaper service tiers"),
        Cause::Other => "not told apart",
    }
}
