//! `tallyd costs`: costs of a range of days, grouped.

use std::process::ExitCode;

use chrono::{Days, NaiveDate};
use clap::Args;

use super::filters::Filters;
use super::output::{self, Table, cost, count, noun};
use super::point_out;
use super::{reporting_zone, today_in, with_database};
use tallyd_config::Config;
use tallyd_model::pricing::Usd;
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, GroupRow, Groups, LOG_DAYS_MAX, SortBy};

/// Show costs by model, provider, user, application, tag or day.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd costs                                  # the last 30 days by model
  tallyd costs --by user --days 7 --limit 10
  tallyd costs --by day --provider claude
  tallyd costs --by tag:team --days 90
  tallyd costs --by model --tag team=search
  tallyd costs --by model --user u-42 --days 31
  tallyd costs --from 2026-11-01 --to 2026-11-30 --exact --json")]
pub(super) struct CostsArgs {
    /// The grouping: model, provider, endpoint, user, app, day or tag:NAME
    #[arg(long, value_name = "GROUP", default_value = "model", value_parser = By::parse)]
    by: By,
    /// Number of days up to today
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3660), conflicts_with = "from")]
    days: u64,
    /// From this day on
    #[arg(long, value_name = "DAY", requires = "to")]
    from: Option<NaiveDate>,
    /// Up to this day, included
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<NaiveDate>,
    #[command(flatten)]
    filters: Filters,
    /// Most lines to show, the largest costs first; days in their order
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Print every digit instead of cents
    #[arg(long)]
    exact: bool,
    /// Print JSON, with every digit
    #[arg(long)]
    json: bool,
}

/// The column that the costs are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// A dimension of calls.
    Dimension(Dimension),
    /// Days
    Day,
}

impl By {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "day" => Ok(Self::Day),
            text => Dimension::parse(text)
                .map(Self::Dimension)
                .map_err(|fault| format!("{fault}; there are model, provider, endpoint, user, app, day and tag:NAME")),
        }
    }

    fn dimensions(&self) -> Vec<Dimension> {
        match self {
            Self::Dimension(Dimension::Model) => vec![Dimension::Provider, Dimension::Model],
            Self::Dimension(dimension) => vec![dimension.clone()],
            Self::Day => Vec::new(),
        }
    }

    fn headings(&self) -> Vec<String> {
        match self {
            Self::Dimension(_) => self.dimensions().iter().map(Dimension::name).collect(),
            Self::Day => vec!["day".to_owned()],
        }
    }

    /// The line's first cells. An empty name stands for calls without that name.
    fn cells(&self, row: &GroupRow) -> Vec<String> {
        let name = |name: Option<&String>| match name.map(String::as_str) {
            None | Some("") => "-".to_owned(),
            Some(name) => name.to_owned(),
        };
        let cell = |dimension: &Dimension| match dimension {
            Dimension::Provider => name(row.provider.as_ref()),
            Dimension::Model => name(row.model.as_ref()),
            Dimension::Endpoint => name(row.endpoint.as_ref()),
            Dimension::User => name(row.user.as_ref()),
            Dimension::App => name(row.app.as_ref()),
            Dimension::Platform | Dimension::ServiceTier | Dimension::Tag(_) => name(row.tags.get(&dimension.name())),
        };
        match self {
            Self::Dimension(_) => self.dimensions().iter().map(cell).collect(),
            Self::Day => vec![name(row.bucket.as_ref())],
        }
    }
}

async fn question(
    args: &CostsArgs,
    db: &tallyd_store::Connection,
    zone: tallyd_model::zone::Tz,
) -> anyhow::Result<CostQuery> {
    let today = today_in(zone);
    let (from, to) = match (args.from, args.to) {
        (Some(from), Some(to)) => (from, to),
        _ => (today - Days::new(args.days - 1), today),
    };
    if from > to {
        anyhow::bail!("--from is after --to");
    }
    let days = (to - from).num_days().unsigned_abs() + 1;
    let by_day = args.by == By::Day;
    let mut question = CostQuery {
        from,
        to,
        zone: zone.name().to_owned(),
        bucket: if by_day { Bucket::Day } else { Bucket::Total },
        group_by: args.by.dimensions(),
        filters: args.filters.chosen(),
        dimensions: Vec::new(),
        sort: if by_day { SortBy::Bucket } else { SortBy::Cost },
        descending: !by_day,
        // One row more than asked for shows whether there are more.
        limit: args.limit + 1,
        offset: 0,
    };
    question.learn(db).await?;
    if let Some(why) = question.why_of_the_log().filter(|_| days > LOG_DAYS_MAX) {
        anyhow::bail!("{}: {why}", noun(days, "day", "days"));
    }
    Ok(question)
}

pub(super) fn run(args: &CostsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (question, groups) = with_database(config, "tallyd costs", async |db| {
        let zone = reporting_zone(db, config).await?;
        let question = question(args, db, zone).await?;
        let groups = question.ask(db).await?;
        if groups.rows.is_empty() && !point_out(db, &question.filters, (question.from, question.to), zone).await? {
            output::hint(match question.filters.len() {
                0 => "there are no calls in these days",
                _ => "these names have calls in these days, but no call has all of them",
            });
        }
        Ok((question, groups))
    })?;
    let Groups { mut rows, as_of } = groups;
    if let Some(at) = as_of {
        output::loading(at);
    }
    let more = rows.len() as i64 > args.limit;
    rows.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    if args.json {
        output::json(&rows)?;
    } else {
        print(args, &rows);
        eprintln!("{} to {}, days of {}", question.from, question.to, question.zone);
    }
    if more {
        output::hint(&format!("there are more than {}: give --limit", args.limit));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(args: &CostsArgs, rows: &[GroupRow]) {
    let names = args.by.headings();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = Table::new(&names, &["calls", "unpriced", "USD"]);
    let (mut sum, mut calls, mut unpriced) = (Usd::ZERO, 0_u64, 0_u64);
    for row in rows {
        let (of_calls, of_unpriced) = (row.sums.calls.to_u64(), row.sums.unpriced_calls.to_u64());
        let mut cells = args.by.cells(row);
        cells.extend([count(of_calls), count(of_unpriced), cost(row.sums.cost_usd, of_calls, of_unpriced, args.exact)]);
        table.push(cells);
        sum = sum.checked_add(row.sums.cost_usd).unwrap_or(sum);
        calls = calls.saturating_add(of_calls);
        unpriced = unpriced.saturating_add(of_unpriced);
    }
    if rows.len() > 1 {
        let mut cells = vec![String::new(); names.len()];
        cells[0] = "together".to_owned();
        cells.extend([count(calls), count(unpriced), cost(sum, calls, unpriced, args.exact)]);
        table.push(cells);
    }
    table.print();
}
