//! The command line: one file a command. A command prints data on stdout and messages on stderr.
//!
//! Exit codes: 0 done; 1 failed; 2 called wrongly; 3 the data folder is in use, or no daemon is running.

// First, because the other modules print with its macros.
#[macro_use]
mod output;

mod adopt;
mod alerts;
mod archive;
mod backup;
mod bill_check;
mod budgets;
mod calls;
mod close;
mod completions;
mod config;
mod confirm;
mod costs;
mod dead_letters;
mod demo;
mod dimensions;
mod doctor;
mod duplicates;
mod explain;
mod export;
mod filters;
mod forecast;
mod import;
mod init;
mod mcp;
mod migrate;
mod open;
mod partitions;
mod plans;
mod prices;
mod psql;
mod reconcile;
mod record;
mod report;
mod reprice;
mod restore;
mod rollups;
mod rules;
mod serve;
mod status;
mod token;
mod top;
mod units;
mod users;
mod wal;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use tallyd_config::{Config, ConfigSources};
use tallyd_store::queries::QueryError;
use tallyd_store::queries::grouped::Dimension;
use tallyd_store::queries::names;
use tallyd_store::{Database, DatabaseError, MigrateError};

/// Records every paid API call durably, prices it exactly, and loads it into PostgreSQL.
#[derive(Parser)]
#[command(name = "tallyd", version, long_version = LONG_VERSION, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// `--version`: the version and its build. `-V` prints the number alone.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILT_COMMIT"),
    "\nbuild: ",
    env!("BUILT_AS"),
    "\nfeatures: ",
    env!("BUILT_FEATURES"),
);

const EXAMPLES: &str = "Examples:
  tallyd                                     start the daemon, with a PostgreSQL of its own
  tallyd record --provider claude --model claude-sonnet-5 --input-tokens 1200 --output-tokens 300
  tallyd status
  tallyd costs                               what was spent in the last 30 days, by model
  tallyd psql -c 'SELECT * FROM daily_api_costs'";

/// The heading of the last part of every help, after a command's own options, which people look for.
const GLOBAL: &str = "Global options";

/// Flags that every command takes. They win over the environment, which wins over the configuration file.
#[derive(Args)]
struct Common {
    /// The configuration file [default: config.toml, if it is there]
    #[arg(long, global = true, env = "TALLYD_CONFIG", value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// Where the daemon keeps its WAL (write-ahead log) and its PostgreSQL
    #[arg(long, global = true, value_name = "FOLDER", help_heading = GLOBAL)]
    data_dir: Option<PathBuf>,
    /// The daemon's Unix socket
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    socket: Option<PathBuf>,
    /// The PostgreSQL to use instead of a private one
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    database_url: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Serve(serve::ServeArgs),
    /// Prompt for five settings, and write the files of a first start and of an application
    Init(init::InitArgs),
    /// Bring the database's schema up to date
    Migrate(migrate::MigrateArgs),
    /// Record one call, or one a line from standard input
    Record(Box<record::RecordArgs>),
    /// Import calls from a CSV or NDJSON file, exactly once
    Import(import::ImportArgs),
    /// Print a link that signs in to the admin page, once
    Open(open::OpenArgs),
    /// Show the state of the running daemon
    Status(status::StatusArgs),
    /// Check the disk, the ports, the database and the running daemon, with a hint for each fault
    Doctor(doctor::DoctorArgs),
    /// Watch the running daemon: rates, the WAL, today's cost by model
    Top(top::TopArgs),
    /// Take over the history of the tables that tallyd replaces
    Adopt(adopt::AdoptArgs),
    /// Prove that the rollups equal the call log
    Reconcile(reconcile::ReconcileArgs),
    /// Look at records that were refused, and retry or drop them
    #[command(name = "dead-letters")]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Find calls that are in the call log more than once, and drop the doubles
    Duplicates(duplicates::DuplicatesArgs),
    /// Look at the segments of the WAL (write-ahead log), and load the readable records of a damaged one
    Wal(wal::WalArgs),
    /// List the call log's partitions, make them ahead, drop old ones
    Partitions(partitions::PartitionsArgs),
    /// List the files of archived partitions, verify them, restore one
    Archive(archive::ArchiveArgs),
    /// Back the database up into a folder, while daemons run
    Backup(backup::BackupArgs),
    /// Restore a backup, reconcile it, and compare it with the WAL
    Restore(restore::RestoreArgs),
    /// Work on the rollup tables
    Rollups(rollups::RollupsArgs),
    /// List the tags that have a rollup, add one, remove one
    Dimensions(dimensions::DimensionsArgs),
    /// Look at prices, change them, import price lists
    Prices(prices::PricesArgs),
    /// Amend or void one call, with a reason; show its changes
    Calls(calls::CallsArgs),
    /// Compute stored costs anew after prices were corrected
    Reprice(reprice::RepriceArgs),
    /// Show costs by model, provider, user, application, tag or day
    Costs(costs::CostsArgs),
    /// Explain why spend changed between two periods
    Explain(explain::ExplainArgs),
    /// State units and revenue, and show them with cost per unit and margin
    Units(units::UnitsArgs),
    /// Write calls and costs into files that other programs read
    Export(export::ExportArgs),
    /// Set budgets, and show where they stand
    Budgets(budgets::BudgetsArgs),
    /// Show alerts and sent reports, acknowledge them, and test a route
    Alerts(alerts::AlertsArgs),
    /// Set alert rules, and show where they stand
    Rules(rules::RulesArgs),
    /// Print the report of a day, week or month
    Report(report::ReportArgs),
    /// Compare a vendor's bill with the recorded calls
    #[command(name = "bill-check")]
    BillCheck(bill_check::BillCheckArgs),
    /// Show which vendor-days are closed, close them now, verify the record of closings
    Close(close::CloseArgs),
    /// Compare the plans of a provider that bills by plan
    Plans(plans::PlansArgs),
    /// Estimate future spend
    Forecast(forecast::ForecastArgs),
    /// Serve an assistant with costs, over the Model Context Protocol
    Mcp(mcp::McpArgs),
    /// Send realistic traffic to the running daemon
    Demo(demo::DemoArgs),
    /// Make, list and revoke tokens for the HTTP API
    Token(token::TokenArgs),
    /// List users with their costs; forget one: the calls stay, anonymised
    Users(users::UsersArgs),
    /// Look at the configuration
    Config(config::ConfigArgs),
    /// Run psql on the daemon's database
    Psql(psql::PsqlArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the man page of every command into a folder
    #[command(hide = true)]
    Man(completions::ManArgs),
}

impl Command {
    /// Whether the command fails without a valid configuration.
    fn needs_configuration(&self) -> bool {
        !matches!(self, Self::Completions(_) | Self::Man(_))
    }
}

impl Common {
    fn load(&self) -> anyhow::Result<Config> {
        let implied = PathBuf::from("config.toml");
        let file = self.config.clone().or_else(|| implied.exists().then_some(implied));
        let mut overrides = Vec::new();
        let mut add = |key: &str, value: Option<String>| overrides.extend(value.map(|value| (key.to_owned(), value)));
        add("data_dir", self.data_dir.as_ref().map(|path| path.display().to_string()));
        add("listen.socket", self.socket.as_ref().map(|path| path.display().to_string()));
        add("database.url", self.database_url.clone());
        Ok(Config::load(ConfigSources { file, env: std::env::vars(), overrides })?)
    }
}

/// The whole command line. A negative number is a value everywhere, so that `--amount -5` is refused with the amount's
/// own error, not as an unknown option `-5`.
#[must_use]
pub fn command() -> clap::Command {
    fn with_negative_numbers(command: clap::Command) -> clap::Command {
        let takes_one = |arg: &clap::Arg| arg.get_action().takes_values() && !arg.is_allow_hyphen_values_set();
        command
            .mut_args(|arg| if takes_one(&arg) { arg.allow_negative_numbers(true) } else { arg })
            .mut_subcommands(with_negative_numbers)
    }
    with_negative_numbers(Cli::command())
}

/// The command line of the daemon alone. [`command`] makes every command with its help, which is a good part of a start.
#[derive(Parser)]
struct DaemonCli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<DaemonCommand>,
}

#[derive(Subcommand)]
enum DaemonCommand {
    Serve(serve::ServeArgs),
}

/// Reads the program's arguments. Those of other commands, faults and requests for help are left to the whole command line.
fn read() -> Cli {
    if let Ok(DaemonCli { common, command }) = DaemonCli::try_parse() {
        return Cli { common, command: command.map(|DaemonCommand::Serve(args)| Command::Serve(args)) };
    }
    Cli::from_arg_matches_mut(&mut command().get_matches()).unwrap_or_else(|error| error.exit())
}

/// Runs the program. Returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = read();
    let command = cli.command.unwrap_or(Command::Serve(serve::ServeArgs::default()));
    let config = match cli.common.load() {
        Ok(config) => config,
        Err(_) if !command.needs_configuration() => Config::default(),
        Err(error) => {
            output::error(&error);
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Serve(args) => serve::run(&args, config, || cli.common.load()),
        Command::Init(args) => init::run(&args, &config),
        Command::Migrate(args) => migrate::run(&args, &config),
        Command::Record(args) => record::run(&args, &config),
        Command::Import(args) => import::run(&args, &config),
        Command::Open(args) => open::run(&args, &config),
        Command::Status(args) => status::run(&args, &config),
        Command::Doctor(args) => doctor::run(&args, &config),
        Command::Top(args) => top::run(&args, &config),
        Command::Adopt(args) => adopt::run(&args, &config),
        Command::Reconcile(args) => reconcile::run(&args, &config),
        Command::DeadLetters(args) => dead_letters::run(&args, &config),
        Command::Duplicates(args) => duplicates::run(&args, &config),
        Command::Wal(args) => wal::run(&args, &config),
        Command::Partitions(args) => partitions::run(&args, &config),
        Command::Archive(args) => archive::run(&args, &config),
        Command::Backup(args) => backup::run(&args, &config),
        Command::Restore(args) => restore::run(&args, &config),
        Command::Rollups(args) => rollups::run(&args, &config),
        Command::Dimensions(args) => dimensions::run(&args, &config),
        Command::Prices(args) => prices::run(&args, &config),
        Command::Calls(args) => calls::run(&args, &config),
        Command::Reprice(args) => reprice::run(&args, &config),
        Command::Costs(args) => costs::run(&args, &config),
        Command::Explain(args) => explain::run(&args, &config),
        Command::Units(args) => units::run(&args, &config),
        Command::Export(args) => export::run(&args, &config),
        Command::Budgets(args) => budgets::run(&args, &config),
        Command::Alerts(args) => alerts::run(&args, &config),
        Command::Rules(args) => rules::run(&args, &config),
        Command::Report(args) => report::run(&args, &config),
        Command::BillCheck(args) => bill_check::run(&args, &config),
        Command::Close(args) => close::run(&args, &config),
        Command::Plans(args) => plans::run(&args, &config),
        Command::Forecast(args) => forecast::run(&args, &config),
        Command::Mcp(args) => mcp::run(&args, &config),
        Command::Demo(args) => demo::run(&args, &config),
        Command::Token(args) => token::run(&args, &config),
        Command::Users(args) => users::run(&args, &config),
        Command::Config(args) => config::run(&args, &config),
        Command::Psql(args) => psql::run(&args, &config),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    let code = done.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::FAILURE
    });
    let Some(error) = output::failure() else { return code };
    eprintln!("error: standard output cannot be written to: {error}");
    ExitCode::FAILURE
}

/// The database's reporting time zone. A command is often run from a shell without the daemon's settings.
///
/// # Errors
/// If the configuration states another zone.
async fn reporting_zone(db: &tallyd_store::Connection, config: &Config) -> anyhow::Result<tallyd_model::zone::Tz> {
    Ok(tallyd_store::reporting_zone(&**db, stated_zone(config)).await?)
}

/// Today's date in a zone.
fn today_in(zone: tallyd_model::zone::Tz) -> chrono::NaiveDate {
    use tallyd_base::clock::{Clock, SystemClock};
    let now = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    now.with_timezone(&zone).date_naive()
}

/// The zone from the file, the environment or a flag; none if it is the default.
fn stated_zone(config: &Config) -> Option<tallyd_model::zone::Tz> {
    config.origins.contains_key("rollup.time_zone").then_some(config.rollup.time_zone)
}

/// Options of a migration. Without a stated zone, the database's applies.
fn migrate_options(config: &Config) -> tallyd_store::MigrateOptions {
    let reporting_time_zone = stated_zone(config).map(|zone| zone.name().to_owned());
    tallyd_store::MigrateOptions { reporting_time_zone, ..config.into() }
}

/// The configured database. Commands never create a private cluster; only the daemon does.
async fn open_database(config: &Config) -> Result<Database, DatabaseError> {
    let daemon_runs =
        |data_dir: &Path| crate::http::socket::is_answered(data_dir) || crate::lock::holder_runs(data_dir);
    Database::open_existing(&config.into(), daemon_runs).await
}

/// Runs a task on a connection to the database, and closes the database afterwards. In every command, a stated time
/// zone that differs from the database's is an error, and so is the schema of a newer version, whose tables may mean
/// something else.
fn with_database<T>(
    config: &Config,
    name: &str,
    task: impl AsyncFnOnce(&mut tallyd_store::Connection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    block_on(async {
        let database = open_database(config).await?;
        let done = match database.connect(name).await {
            Ok(mut connection) => match fits(&connection, config).await {
                Ok(()) => task(&mut connection).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        };
        database.close().await;
        done
    })
}

/// Refuses a database of another time zone or of a newer version.
async fn fits(connection: &tallyd_store::Connection, config: &Config) -> anyhow::Result<()> {
    // A role that cannot read the history may still read the tables.
    if let Err(error @ MigrateError::Newer { .. }) = tallyd_store::migrate::reached(&**connection).await {
        return Err(error.into());
    }
    reporting_zone(connection, config).await.map(drop)
}

/// Prints a hint for each filter that no call of these days matches, with the names that calls have. False if every
/// filter matches.
///
/// # Errors
/// [`QueryError`].
async fn point_out(
    db: &tallyd_store::Connection,
    filters: &[(Dimension, String)],
    days: (chrono::NaiveDate, chrono::NaiveDate),
    zone: tallyd_model::zone::Tz,
) -> Result<bool, QueryError> {
    let notes = names::unseen(db, filters, days, zone).await?;
    notes.iter().for_each(|note| output::hint(note));
    Ok(!notes.is_empty())
}

/// Runs a task on a runtime of its own.
fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Boxed, because each type of task would get its own copy of the runtime's loop.
    let task: Pin<Box<dyn Future<Output = anyhow::Result<T>> + '_>> = Box::pin(task);
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(task)
}

/// The person at the command line, as the audit log has it.
pub(crate) fn actor() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("{} (command line)", named.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `look` with each command below `command`, and its words.
    fn each(command: &clap::Command, words: &str, look: &mut dyn FnMut(&str, &clap::Command)) {
        look(words, command);
        for below in command.get_subcommands() {
            each(below, format!("{words} {}", below.get_name()).trim_start(), look);
        }
    }

    #[test]
    fn what_deletes_or_rewrites_is_confirmed_in_one_way() {
        let mut found = Vec::new();
        each(&command(), "", &mut |words, command| {
            let has = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
            if has("yes") {
                assert!(has("dry-run"), "{words}");
                found.push(words.to_owned());
            }
        });
        found.sort();
        let expected = [
            "adopt",
            "budgets remove",
            "calls amend",
            "calls void",
            "dead-letters drop",
            "dimensions remove",
            "duplicates drop",
            "migrate",
            "partitions drop",
            "prices alias",
            "prices withdraw",
            "reprice",
            "rollups rebuild",
            "rules remove",
            "token revoke",
            "users forget",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_negative_number_is_a_value_of_every_option_that_takes_one() {
        let mut looked_at = 0;
        each(&command(), "", &mut |words, command| {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let takes_it = arg.is_allow_negative_numbers_set() || arg.is_allow_hyphen_values_set();
                assert!(takes_it, "{words} {}", arg.get_id());
                looked_at += 1;
            }
        });
        assert!(looked_at > 100, "only {looked_at}");
        for (words, says) in [
            ("budgets remove -3 --yes", ""),
            ("dead-letters show -3", ""),
            ("budgets set -5", ""),
            ("costs --days -3", "'-3' for '--days <N>'"),
            ("costs --limit -3", "-3 is not in 1..=10000"),
            ("alerts list --limit -1", "-1 is not in 1..=1000"),
            ("dead-letters list --limit -1", "'-1' for '--limit <N>'"),
            ("bill-check f --tolerance-usd -1", "not negative"),
            ("bill-check f --tolerance-percent -1", "not a percentage between 0 and 100"),
            ("record --provider p --input-tokens -5", "'-5' for '--input-tokens"),
        ] {
            let parsed = command().try_get_matches_from(format!("tallyd {words}").split(' '));
            match parsed {
                Ok(_) => assert_eq!(says, "", "{words} is taken"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!says.is_empty() && error.contains(says), "{words}: {error}");
                    assert!(!error.contains("unexpected argument"), "{words}: {error}");
                }
            }
        }
    }
}
