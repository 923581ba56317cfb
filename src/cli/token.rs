//! `tallyd token`: static tokens for the HTTP API.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::output::Table;
use super::{actor, output};
use crate::http::auth::Role;
use crate::http::auth::tokens::issue;
use crate::lock::holder_runs;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::{Config, StatedCosts};
use tallyd_store::Connection;
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::tokens::{self, ListedToken, NewToken, TokenError, TokenFilter};

/// Make, list and revoke tokens for the HTTP API. Each change is in the audit log.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd token create --name grafana --role read
  tallyd token create --name checkout --role ingest --expires-days 90 --json | jq -r .token
  tallyd token list
  tallyd token revoke 3 --yes")]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token and print it. It is shown this once: only its hash is kept
    #[command(after_help = "Example:\n  tallyd token create --name grafana --role read")]
    Create {
        /// Name of the token's user or purpose
        #[arg(long)]
        name: String,
        /// The token's rights
        #[arg(long)]
        role: RoleArg,
        /// Days until it ends [default: it does not]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_days: Option<u32>,
        /// Costs that the token may state, if fewer than limits.stated_costs lets everybody [default: as configured]
        #[arg(long, value_name = "WHICH")]
        stated_costs: Option<CostsArg>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List all tokens, the revoked ones included
    #[command(after_help = "Example:\n  tallyd token list --json | jq '.[] | select(.revoked_at == null)'")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; running daemons refuse it within two seconds
    #[command(after_help = "Example:\n  tallyd token revoke 3 --yes")]
    Revoke {
        /// The token's number, from `tallyd token list`
        id: i32,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Everything
    Admin,
    /// Ask, and change nothing
    Read,
    /// Send records, and ask nothing
    Ingest,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Admin => Self::Admin,
            RoleArg::Read => Self::Read,
            RoleArg::Ingest => Self::Ingest,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum CostsArg {
    /// From 0 up to limits.stated_cost_max_usd
    NonNegative,
    /// None
    Refuse,
}

impl From<CostsArg> for StatedCosts {
    fn from(costs: CostsArg) -> Self {
        match costs {
            CostsArg::NonNegative => Self::NonNegative,
            CostsArg::Refuse => Self::Refuse,
        }
    }
}

pub(super) fn run(args: &TokenArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if let TokenCommand::Revoke { confirm, .. } = &args.command
        && confirm.told() == Confirmation::Nothing
    {
        return Ok(confirm.refuse("revokes a token for good"));
    }
    super::block_on(async {
        let database = super::open_database(config).await?;
        let done = {
            let mut connection = database.connect("tallyd token").await?;
            wait_for_schema(&connection, config).await?;
            super::reporting_zone(&connection, config).await?;
            run_on(args, &mut connection).await
        };
        database.close().await;
        done
    })
}

/// The longest wait for a daemon that has just started and is making the schema.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(60);

/// Waits while a daemon is making the schema, because people make tokens right after its first start. Without a daemon
/// there is nothing to wait for.
async fn wait_for_schema(connection: &Connection, config: &Config) -> anyhow::Result<()> {
    let end = Instant::now() + SCHEMA_PATIENCE;
    let mut told = false;
    loop {
        if tokens::has_table(connection).await? {
            return Ok(());
        }
        if UnixStream::connect(config.socket_path()).is_err() && !holder_runs(&config.data_dir) {
            anyhow::bail!(
                "this database does not have tallyd's schema. hint: start the daemon, or run `tallyd migrate`"
            );
        }
        if Instant::now() >= end {
            anyhow::bail!(
                "the daemon has not made the schema within {} s. hint: `tallyd status` says why",
                SCHEMA_PATIENCE.as_secs()
            );
        }
        if !told {
            output::hint("the daemon is making the schema; the token waits for it");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn run_on(args: &TokenArgs, connection: &mut Connection) -> anyhow::Result<ExitCode> {
    match &args.command {
        TokenCommand::Create { name, role, expires_days, stated_costs, json } => {
            let expires_at = expires_days.map(|days| now() + TimeDelta::days(i64::from(days)));
            let stated_costs = stated_costs.map(StatedCosts::from);
            let token = NewToken { name: name.trim().to_owned(), role: (*role).into(), expires_at, stated_costs };
            create(connection, &token, *json).await
        }
        TokenCommand::List { json } => list(connection, *json).await,
        TokenCommand::Revoke { id, confirm } => revoke(connection, *id, confirm.told()).await,
    }
}

async fn create(connection: &mut Connection, token: &NewToken, as_json: bool) -> anyhow::Result<ExitCode> {
    let transaction = connection.transaction().await?;
    let issued = issue(&transaction, token, &Actor::at_the_command_line(&actor())).await;
    let (id, text) = issued.map_err(|error| match error {
        TokenError::Database(_) => error.into(),
        TokenError::Name => anyhow::anyhow!("{error}. hint: name the token after its user, as in `--name grafana`"),
        TokenError::StatedCosts => anyhow::anyhow!("{error}. hint: leave --stated-costs out, or give --role ingest"),
    })?;
    transaction.commit().await?;
    if as_json {
        let NewToken { name, role, expires_at, .. } = token;
        output::json(&json!({ "id": id, "name": name, "role": role, "expires_at": expires_at, "token": text }))?;
    } else {
        println!("{text}");
        output::hint("keep it now: only its hash is stored. Send it as `Authorization: Bearer …`");
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(connection: &Connection, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut tokens = tokens::list(connection, TokenFilter::default()).await?;
    tokens.reverse();
    if as_json {
        output::json(&tokens)?;
        return Ok(ExitCode::SUCCESS);
    }
    if tokens.is_empty() {
        output::hint("there are none; `tallyd token create --name me --role read` makes one");
    }
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
    let mut table = Table::new(&["id", "role", "state", "made", "ends", "name"], &[]);
    for token in &tokens {
        let ends = token.revoked_at.or(token.expires_at).map_or_else(|| "-".to_owned(), day);
        let cells =
            [token.id.to_string(), token.role.to_string(), state(token).to_owned(), day(token.created_at), ends];
        table.push(cells.into_iter().chain([token.name.clone()]).collect());
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn state(token: &ListedToken) -> &'static str {
    match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now() => "expired",
        (None, _) => "in force",
    }
}

async fn revoke(connection: &mut Connection, id: i32, told: Confirmation) -> anyhow::Result<ExitCode> {
    if told == Confirmation::DryRun {
        let tokens = tokens::list(connection, TokenFilter::default()).await?;
        if let Some(token) = tokens.iter().find(|token| token.id == id && token.revoked_at.is_none()) {
            println!("would be revoked: token {id}, {} of the role {}", token.name, token.role);
            output::hint("nothing was changed: --yes revokes it");
            return Ok(ExitCode::SUCCESS);
        }
    } else {
        let transaction = connection.transaction().await?;
        let revoked = tokens::revoke(&transaction, id, None, &Actor::at_the_command_line(&actor())).await?;
        transaction.commit().await?;
        if revoked {
            println!("token {id} is revoked");
            return Ok(ExitCode::SUCCESS);
        }
    }
    output::error(&anyhow::anyhow!("no token {id} is in force"));
    output::hint("`tallyd token list` shows their numbers");
    Ok(ExitCode::FAILURE)
}

fn now() -> DateTime<Utc> {
    // The clock's microseconds lie within the calendar.
    DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default()
}
