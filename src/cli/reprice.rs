//! `tallyd reprice`: computes stored costs anew after prices were corrected or became known.

use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::confirm::{Confirm, Confirmation};
use super::output::{self, cost_in_usd, count, noun, usd, usd_text};
use super::prices::{actor, catalog, instant};
use super::with_database;
use tallyd_config::Config;
use tallyd_model::pricing::{Usd, normalise_provider};
use tallyd_store::Connection;
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::grouped::Dimension;
use tallyd_store::reprice::{Preview, Progress, RepriceOptions, dropped_calls, preview, reprice};

/// Compute stored costs anew with today's prices, log and rollups together. Killed, it goes on where it was when the same
/// command is run again.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd reprice --from 2026-11-01 --to 2026-12-01 --dry-run
  tallyd reprice --from 2026-11-01 --to 2026-12-01 --model claude-sonnet-4 --yes
Costs that the caller stated are left alone unless --include-client is given.")]
pub(super) struct RepriceArgs {
    /// Calls from here on: a date (midnight UTC) or RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: i64,
    /// Calls before this: now, a date (midnight UTC) or RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    to: i64,
    /// Only this provider's calls
    #[arg(long, default_value = "", value_name = "NAME")]
    provider: String,
    /// Only this model's calls, as the call log names it
    #[arg(long, default_value = "", value_name = "NAME")]
    model: String,
    /// Also calls whose cost the caller stated
    #[arg(long)]
    include_client: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// About how many calls one transaction reads
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Leave calls that were dropped from the call log at the cost that they had, and price the others
    #[arg(long)]
    skip_dropped: bool,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn print(preview: &Preview) {
    for day in &preview.days {
        let change = day.new_usd.checked_sub(day.old_usd).unwrap_or(Usd::ZERO);
        let model = if day.model.is_empty() { "-" } else { &day.model };
        println!(
            "{} {} {model}: {}, {} -> {} USD ({})",
            day.day,
            day.provider,
            noun(day.calls, "call", "calls"),
            cost_in_usd(day.old_usd, day.calls, day.newly_priced),
            usd(day.new_usd, false),
            usd(change, false)
        );
    }
    println!(
        "{} of {}: {} -> {} USD; {} a price for the first time, {} today",
        count(preview.changed),
        noun(preview.calls, "call differs", "calls differ"),
        cost_in_usd(preview.old_usd, preview.changed, preview.newly_priced),
        usd(preview.new_usd, false),
        noun(preview.newly_priced, "gets", "get"),
        noun(preview.unpriceable, "has no price", "have no price")
    );
    if preview.inexact > 0 {
        println!("{} alone: a stored cost has more than 18 decimals", noun(preview.inexact, "is left", "are left"));
    }
}

/// Refuses a period with dropped calls, unless told to leave them out.
async fn check_dropped(db: &Connection, args: &RepriceArgs) -> anyhow::Result<()> {
    let Some(dropped) = dropped_calls(db, args.from, args.to).await? else { return Ok(()) };
    let bound = |at: Option<chrono::DateTime<chrono::Utc>>| at.map_or("ever".into(), |at| at.to_rfc3339());
    let said = format!(
        "{}, {} USD between {} and {} {} dropped from the call log: such costs cannot be computed anew",
        noun(dropped.calls.unsigned_abs(), "call", "calls"),
        usd_text(&dropped.cost_usd),
        bound(dropped.from),
        bound(dropped.to),
        if dropped.calls == 1 { "was" } else { "were" }
    );
    if !args.skip_dropped {
        anyhow::bail!("{said}. hint: begin later, or leave them as they are with --skip-dropped");
    }
    output::hint(&said);
    Ok(())
}

pub(super) fn run(args: &RepriceArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.from >= args.to {
        anyhow::bail!("--from must be before --to. hint: --to is the first instant that is left out");
    }
    let told = args.confirm.told();
    if told == Confirmation::Nothing {
        return Ok(args.confirm.refuse("rewrites stored costs"));
    }
    let options = RepriceOptions {
        from_us: args.from,
        to_us: args.to,
        provider: normalise_provider(&args.provider).into_owned(),
        model: args.model.clone(),
        include_client: args.include_client,
        batch_rows: args.batch_rows,
    };
    let actor = actor(args.by.as_ref());
    with_database(config, "tallyd reprice", async |db| {
        check_dropped(db, args).await?;
        let (catalog, faults) = catalog(db, config).await?;
        faults.iter().for_each(|fault| output::hint(&format!("not applied: {fault}")));
        let found = preview(db, &catalog, &options).await?;
        if !args.json {
            print(&found);
        }
        if found.calls == 0 {
            let day = |us: i64| chrono::DateTime::from_timestamp_micros(us).unwrap_or_default().date_naive();
            let names = [(Dimension::Provider, &options.provider), (Dimension::Model, &options.model)];
            let filters: Vec<_> = names.into_iter().filter(|(_, name)| !name.is_empty()).collect();
            let filters: Vec<_> = filters.into_iter().map(|(of, name)| (of, name.clone())).collect();
            let zone = super::reporting_zone(db, config).await?;
            super::point_out(db, &filters, (day(args.from), day(args.to)), zone).await?;
        }
        if told == Confirmation::DryRun {
            if args.json {
                output::json(&serde_json::json!({ "preview": found, "done": null }))?;
            } else {
                output::hint("nothing was changed: --yes reprices");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let by = Actor::at_the_command_line(&actor);
        // Drawn on stderr, and only if that is a terminal.
        let bar = ProgressBar::new(found.calls);
        bar.set_style(ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} calls, {eta} left")?);
        let drawn = |progress: &Progress| {
            bar.set_position(progress.read);
            true
        };
        let done = reprice(db, &catalog, &options, &by, drawn).await?;
        bar.finish_and_clear();
        if args.json {
            output::json(&serde_json::json!({ "preview": found, "done": done }))?;
        } else {
            let resumed = if done.resumed { " (an earlier run had begun)" } else { "" };
            println!(
                "job {}{resumed}: {} read, {} changed, {} USD added",
                done.job,
                noun(done.read, "call", "calls"),
                count(done.changed),
                usd(done.difference_usd, false)
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}
