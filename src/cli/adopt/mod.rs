//! `tallyd adopt`: takes over the history of the tables that tallyd replaces.

mod show;

use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::{migrate_options, output, reporting_zone, with_database};
use tallyd_config::Config;
use tallyd_model::pricing::{Added, Catalog};
use tallyd_store::adopt::{self, AdoptOptions, Inspection, SCHEMA, Sources, inspect, move_aside};
use tallyd_store::queries::audit::Actor;
use tallyd_store::{Connection, MigrateOptions, migrate};

/// Take over the history of an older `api_usage_log` and `daily_api_costs`.
#[derive(Args)]
#[command(
    after_help = "The old tables are only read. Where they have the names that tallyd's own need, --move-aside moves them \
(and increment_daily_cost) to the schema tallyd_adopted, as they are. A second run adds nothing, or what has been added to the \
old log since; a run that was interrupted goes on.

Exit codes: 0 done or shown; 1 failed, or --yes left rows behind that no call could be made of.

Examples:
  tallyd adopt --dry-run
  tallyd adopt --move-aside --yes
  tallyd adopt --from-log billing.calls --map cost_usd=price --map occurred_at=made_at --time-zone America/New_York --dry-run
  tallyd adopt --dry-run --json | jq .found.daily.differing"
)]
pub(super) struct AdoptArgs {
    /// The old log [default: public.api_usage_log, or tallyd_adopted.api_usage_log]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    from_log: Option<String>,
    /// The old daily sums [default: public.daily_api_costs, or tallyd_adopted.daily_api_costs]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    from_daily: Option<String>,
    /// The column of a field, where its name does not tell; may be repeated
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = mapping)]
    map: Vec<(String, String)>,
    /// The time zone of times without one
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: tallyd_model::zone::Tz,
    /// About how many calls one transaction takes
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_calls: u32,
    /// Move old tables that are in the way of tallyd's to the schema tallyd_adopted
    #[arg(long)]
    move_aside: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.is_empty() && !column.is_empty() => Ok((field.to_owned(), column.to_owned())),
        _ => Err("write FIELD=COLUMN, such as cost_usd=price".to_owned()),
    }
}

impl AdoptArgs {
    fn options(&self, config: &Config, zone: tallyd_model::zone::Tz) -> AdoptOptions {
        AdoptOptions {
            log: self.from_log.clone(),
            daily: self.from_daily.clone(),
            columns: self.map.iter().cloned().collect(),
            source_time_zone: self.time_zone.name().to_owned(),
            reporting_time_zone: zone.name().to_owned(),
            strip_query: config.limits.strip_query,
            batch_calls: self.batch_calls,
            granularity: MigrateOptions::from(config).granularity.as_str(),
        }
    }
}

pub(super) fn run(args: &AdoptArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let told = args.confirm.told();
    if told == Confirmation::Nothing {
        return Ok(args.confirm.refuse("takes calls over, and with --move-aside moves tables"));
    }
    // Only the models' names are needed here.
    let (catalog, _) = Catalog::layered(&config.pricing, &Added::default())?;
    with_database(config, "tallyd adopt", async |db| {
        let options = args.options(config, reporting_zone(db, config).await?);
        let sources = Sources::find(db, &options).await?;
        let found = inspect(db, &sources, &options, &catalog).await?;
        if !args.json {
            show::found(&found);
        }
        if told == Confirmation::DryRun {
            if args.json {
                output::json(&json!({ "found": found, "moved": null, "done": null }))?;
            } else {
                output::hint(&show::next_step(&found));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !found.occupied.is_empty() && !args.move_aside {
            let tables = found.occupied.join(", ");
            anyhow::bail!(
                "{tables}: tallyd's own tables need these names. hint: --move-aside moves the old ones to the schema {SCHEMA}, \
                 as they are; whatever writes to them by name has to be stopped before"
            );
        }
        take(db, args, config, options, &found).await
    })
}

/// Moves tables aside, migrates the schema, and takes the history over.
async fn take(
    db: &mut Connection,
    args: &AdoptArgs,
    config: &Config,
    mut options: AdoptOptions,
    found: &Inspection,
) -> anyhow::Result<ExitCode> {
    let moved = if args.move_aside { move_aside(db).await? } else { Vec::new() };
    follow(&mut options, &moved);
    migrate(db, &migrate_options(config)).await?;
    let sources = Sources::find(db, &options).await?;
    let actor = args.by.clone().unwrap_or_else(super::actor);
    let by = Actor::at_the_command_line(&actor);
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(found.log.as_ref().map_or(0, |log| log.calls.unsigned_abs()));
    bar.set_style(ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} calls, {eta} left")?);
    let done = adopt::adopt(db, &sources, &options, &by, |calls| bar.set_position(calls.unsigned_abs())).await?;
    bar.finish_and_clear();
    if args.json {
        output::json(&json!({ "found": found, "moved": moved, "done": done }))?;
    } else {
        show::done(&moved, &done);
        output::hint("`tallyd reconcile` proves that the rollups are the sums of the call log and of the adopted sums");
    }
    Ok(if found.left_rows() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The options, with the new names of tables that were moved.
fn follow(options: &mut AdoptOptions, moved: &[String]) {
    for named in [&mut options.log, &mut options.daily].into_iter().flatten() {
        let bare = named.strip_prefix("public.").unwrap_or(named).to_owned();
        if moved.contains(&format!("public.{bare}")) {
            *named = format!("{SCHEMA}.{bare}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_moved_is_read_where_it_is_now() {
        let mut options = AdoptOptions {
            log: Some("api_usage_log".into()),
            daily: Some("b.costs".into()),
            ..AdoptOptions::default()
        };
        follow(&mut options, &["public.api_usage_log".into(), "public.daily_api_costs".into()]);
        assert_eq!(options.log.as_deref(), Some("tallyd_adopted.api_usage_log"));
        assert_eq!(options.daily.as_deref(), Some("b.costs"));
    }

    #[test]
    fn a_mapping_has_two_sides() {
        assert_eq!(mapping("cost_usd=price"), Ok(("cost_usd".into(), "price".into())));
        assert!(mapping("cost_usd").is_err() && mapping("=x").is_err());
    }
}
