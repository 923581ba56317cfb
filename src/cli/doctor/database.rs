//! Checks of the database: the connection, the server, the schema, and this role's rights.

use std::time::Instant;

use super::check::Check;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_store::embedded::{self, EmbeddedError};
use tallyd_store::examine::{self, OLDEST_SERVER, Server, Sessions};
use tallyd_store::source::Protection;
use tallyd_store::{Access, Connection, CopyAccess, Database, DatabaseError, pending};

/// The application name of these sessions in PostgreSQL.
const NAME: &str = "tallyd doctor";
/// A difference of the two clocks above this is a warning, microseconds.
const CLOCK_US: i64 = 5_000_000;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let name = "database";
    let database = match crate::cli::open_database(config).await {
        Ok(database) => database,
        Err(DatabaseError::Embedded(EmbeddedError::NoCluster { .. })) => return vec![programs(config)],
        Err(error) => {
            return vec![Check::error(name, &error, "`tallyd config check --show` prints the database's settings")];
        }
    };
    let begun = Instant::now();
    let checks = match database.connect(NAME).await {
        Ok(mut connection) => {
            let ms = begun.elapsed().as_millis();
            let mut checks = vec![Check::ok(name, format!("{} answered within {ms} ms", database.redacted_url()))];
            checks.push(certificate(&database));
            checks.extend(on_server(config, &database, &mut connection).await);
            checks
        }
        Err(error) => {
            let hint = "records wait in the WAL meanwhile; check the host, the port, the password and the firewall";
            vec![Check::error(name, &error, hint), certificate(&database)]
        }
    };
    database.close().await;
    checks
}

/// Without a database URL and before the first start: the server programs for the private PostgreSQL.
fn programs(config: &Config) -> Check {
    let name = "database";
    match embedded::server_programs(config.database.embedded_bin_dir.as_deref()) {
        Ok(folder) => Check::ok(
            name,
            format!("the first start makes a private PostgreSQL with the programs in {}", folder.display()),
        ),
        Err(error) => Check::error(name, &error, "apt-get install postgresql, or set database.url"),
    }
}

fn certificate(database: &Database) -> Check {
    let name = "certificate";
    let hint = "add sslmode=verify-full to the URL; database.ca_file has the authority if the system does not know it";
    match database.protection() {
        Protection::SameMachine => Check::ok(name, "not needed: the server is on this machine"),
        Protection::Verified => Check::ok(name, "the server's certificate is verified at every attempt to connect"),
        Protection::Unverified => Check::warning(
            name,
            "the server's certificate is not verified: an attacker on the way can pose as the server",
            hint,
        ),
        Protection::None => {
            Check::warning(name, "sslmode=disable: the password and the calls are readable on the way", hint)
        }
    }
}

async fn on_server(config: &Config, database: &Database, connection: &mut Connection) -> Vec<Check> {
    let server = match examine::server(&**connection).await {
        Ok(server) => server,
        Err(error) => return vec![Check::failed("server", tallyd_store::describe(&error), "try again")],
    };
    let mut checks = vec![version(&server), clock(config, &server), sessions(database).await];
    checks.extend(schema(config, connection).await);
    checks
}

fn version(server: &Server) -> Check {
    let name = "server";
    let found = format!(
        "PostgreSQL {}{}",
        server.version,
        server.tls.as_ref().map_or_else(String::new, |tls| format!(", {tls}"))
    );
    if server.version_number < OLDEST_SERVER {
        return Check::failed(name, format!("{found} is too old"), "tallyd needs PostgreSQL 13 or later");
    }
    if server.is_standby || server.is_read_only {
        let why = if server.is_standby { "a standby" } else { "read-only" };
        return Check::failed(
            name,
            format!("{found} is {why}, and takes no records"),
            "name the primary in database.url, or all hosts of the cluster",
        );
    }
    Check::ok(name, found)
}

fn clock(config: &Config, server: &Server) -> Check {
    let ahead_us = SystemClock.now_us() - server.now_us;
    let seconds = ahead_us.abs() as f64 / 1_000_000.0;
    let found =
        format!("this machine is {seconds:.1} s {} the database's", if ahead_us < 0 { "behind" } else { "ahead of" });
    let hint = "keep both clocks: systemd-timesyncd or chrony; `timedatectl` shows the state";
    if i128::from(ahead_us.abs()) > i128::try_from(config.limits.ahead.as_micros()).unwrap_or(i128::MAX) {
        return Check::failed(
            "clocks",
            format!("{found}: records may be refused as made in the future (limits.ahead_ms)"),
            hint,
        );
    }
    if ahead_us.abs() > CLOCK_US { Check::warning("clocks", found, hint) } else { Check::ok("clocks", found) }
}

async fn sessions(database: &Database) -> Check {
    let name = "pooler";
    match examine::sessions(database, NAME).await {
        Ok(Sessions::Own) => Check::ok(name, "none, or one in session mode: each connection has its own session"),
        Ok(Sessions::Shared) => {
            Check::ok(name, "one in transaction mode: changes of prices are seen within pricing.refresh_ms")
        }
        Ok(Sessions::Single) => Check::failed(
            name,
            "there is one session for all connections together",
            "a daemon needs two of the pooler's at the least, and 13 without one: raise the pool's size",
        ),
        Err(error) => {
            Check::error(name, &error, "a second connection was refused: raise max_connections or the role's limit")
        }
    }
}

/// The schema, the zone and the role's rights, as far as each can be read.
async fn schema(config: &Config, connection: &mut Connection) -> Vec<Check> {
    let mut checks = match pending(&**connection).await {
        Ok(names) if names.is_empty() => vec![Check::ok("schema", "up to date")],
        Ok(names) => {
            let found = match names.len() {
                1 => format!("{} is not applied yet", names[0]),
                many => format!("{} and {} more migrations are not applied yet", names[0], many - 1),
            };
            let check =
                Check::ok("schema", found).hint("the daemon applies them when it starts; `tallyd migrate` does it now");
            return vec![check, Check::skipped("rights", "the tables are not complete yet")];
        }
        Err(error) => return vec![Check::error("schema", &error, "`tallyd migrate` says more")],
    };
    checks.push(match crate::cli::reporting_zone(connection, config).await {
        Ok(zone) => Check::ok("time zone", format!("days begin in {}", zone.name())),
        Err(error) => Check::error("time zone", error.as_ref(), "`tallyd rollups rebuild --time-zone` changes it"),
    });
    checks.push(match Access::read(&**connection).await {
        Ok(access) => rights(&access),
        Err(error) => Check::failed("rights", tallyd_store::describe(&error), "`tallyd migrate` says more"),
    });
    checks
}

fn rights(access: &Access) -> Check {
    let name = "rights";
    let role = &access.role;
    let advice = access.advice();
    let check = match access.copy {
        CopyAccess::Refused { .. } => {
            let (found, hint) =
                advice.split_first().map_or_else(Default::default, |(found, rest)| (found.clone(), rest.join("; ")));
            return Check::failed(name, found, hint);
        }
        CopyAccess::Owner => Check::ok(name, format!("{role} owns the tables, and loads")),
        CopyAccess::Bypass => Check::ok(name, format!("{role} is not under row level security, and loads")),
    };
    match advice.is_empty() {
        true => check,
        false => check.hint(advice.join("; ")),
    }
}
