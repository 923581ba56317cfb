//! Checks of the running daemon, its Unix socket, and its ports.

use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chrono::DateTime;

use super::check::Check;
use crate::cli::output::noun;
use crate::http::socket::{self, AskError};
use crate::http::{Health, Status};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::{Config, GRPC_ADDRESS, GRPC_AUTO, TlsListener};
use tallyd_pipeline::tls::{self, ListenerTls};

/// The longest wait for a listener on this machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time before a certificate's end from which on it should be renewed, seconds: two weeks.
const RENEW_S: i64 = 14 * 86_400;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let asked = socket::get(&config.data_dir, "/status").await;
    let runs = !matches!(asked, Err(AskError::NotRunning(_)));
    let mut checks = daemon(asked);
    checks.push(unix_socket(config, runs));
    checks.extend(certificate(config));
    checks.extend(addresses(config).into_iter().map(|(name, address)| port(name, &address, runs)));
    checks
}

fn daemon(asked: Result<hyper::body::Bytes, AskError>) -> Vec<Check> {
    let name = "daemon";
    let status = match asked {
        Err(error @ AskError::NotRunning(_)) => {
            return vec![Check::skipped(name, error.to_string())];
        }
        Err(error) => return vec![Check::error(name, &error, "its log on standard error says why")],
        Ok(body) => match tallyd_model::json::from_slice::<Status>(&body) {
            Ok(status) => status,
            Err(error) => {
                return vec![Check::failed(
                    name,
                    format!("its answer is not understood: {error}"),
                    "restart it: another version runs",
                )];
            }
        },
    };
    let up = format!("tallyd {}, process {}, up {} s", status.version, status.pid, status.uptime_seconds);
    let mut checks = vec![Check::ok(name, up.clone())];
    if status.version != env!("CARGO_PKG_VERSION") {
        checks = vec![Check::warning(
            name,
            format!("{up}; this program is {}", env!("CARGO_PKG_VERSION")),
            "restart the daemon to run the installed version",
        )];
    }
    let health = status.health;
    for (name, part) in [("ingest", health.ingest), ("WAL", health.wal), ("flusher", health.flusher)] {
        let message = part.message.unwrap_or_default();
        checks.push(match part.status {
            Health::Ok => Check::ok(name, "it works"),
            Health::Degraded => {
                Check::warning(name, message, "it mends itself; docs/operate/runbook.md says from when on to look")
            }
            Health::Failing => {
                Check::failed(name, message, "docs/operate/runbook.md has a section for each such state")
            }
        });
    }
    checks
}

/// The socket, and the users who may record over it.
fn unix_socket(config: &Config, runs: bool) -> Check {
    let name = "socket";
    let path = config.socket_path();
    let shown = path.display();
    let Ok(meta) = std::fs::metadata(&path) else {
        return match runs {
            true => Check::failed(
                name,
                format!("a daemon runs, and {shown} is not there"),
                "the daemon has another listen.socket, or the file was removed: restart it",
            ),
            false => Check::skipped(name, format!("{shown} is made when the daemon starts")),
        };
    };
    if !meta.file_type().is_socket() {
        return Check::failed(name, format!("{shown} is not a socket"), "name another path as listen.socket");
    }
    if let Err(error) = UnixStream::connect(&path) {
        return match error.kind() {
            std::io::ErrorKind::PermissionDenied => Check::failed(
                name,
                format!(
                    "this user may not record: {shown} belongs to user {} and group {}, mode {:04o}",
                    meta.uid(),
                    meta.gid(),
                    meta.mode() & 0o777
                ),
                "add the application's user to that group (usermod -aG), or set listen.socket_mode",
            ),
            _ if !runs => Check::skipped(name, format!("{shown} is left from a daemon that has ended")),
            _ => Check::failed(name, format!("{shown}: {error}"), "restart the daemon"),
        };
    }
    let mode = meta.mode() & 0o777;
    let found = format!("{shown}, of user {} and group {}, mode {mode:04o}", meta.uid(), meta.gid());
    if mode != config.listen.socket_mode {
        let hint = format!(
            "listen.socket_mode is {:04o} here: the daemon has other settings, or a restart sets it",
            config.listen.socket_mode
        );
        return Check::warning(name, found, hint);
    }
    Check::ok(name, found)
}

/// The network listeners' certificate, if there is one: whether it can be used, and for how long.
fn certificate(config: &Config) -> Option<Check> {
    let name = "certificate";
    let path = config.tls.certificate.as_deref()?;
    let usable = TlsListener::ALL.into_iter().try_for_each(|listener| ListenerTls::of(&config.tls, listener).map(drop));
    let ends_at_s = match usable.and_then(|()| tls::ends_at_s(path)) {
        Ok(ends_at_s) => i64::try_from(ends_at_s).unwrap_or(i64::MAX),
        Err(error) => return Some(Check::error(name, &error, "name other files, or correct these")),
    };
    let left = ends_at_s.saturating_sub(SystemClock.now_us() / 1_000_000);
    let ends = DateTime::from_timestamp(ends_at_s, 0).map_or_else(|| "later".to_owned(), |end| end.to_rfc3339());
    let found = format!("{}, until {ends}", path.display());
    let hint = "renew it; the daemon takes a new file over by itself";
    Some(match left {
        ..=0 => Check::failed(name, format!("{found}: it has ended, and clients refuse it"), hint),
        1..RENEW_S => {
            Check::warning(name, format!("{found}: {} left", noun(left.unsigned_abs() / 86_400, "day", "days")), hint)
        }
        _ => Check::ok(name, found),
    })
}

/// The configured addresses, without those of port 0.
fn addresses(config: &Config) -> Vec<(&'static str, String)> {
    let grpc = match config.otlp.grpc_listen.as_str() {
        GRPC_AUTO => GRPC_ADDRESS.to_owned(),
        address => address.to_owned(),
    };
    let configured = [
        ("http.listen", Some(config.http.listen.clone())),
        ("http.metrics_listen", config.http.metrics_listen.clone()),
        ("listen.tcp", config.listen.tcp.clone()),
        ("otlp.grpc_listen", Some(grpc).filter(|address| !address.is_empty())),
    ];
    let fixed = |address: &String| !address.ends_with(":0");
    configured.into_iter().filter_map(|(name, address)| Some((name, address.filter(fixed)?))).collect()
}

/// A port must answer if a daemon runs, and be free otherwise.
fn port(name: &'static str, address: &str, runs: bool) -> Check {
    if runs {
        return match connects(address) {
            true => Check::ok(name, format!("{address} answers")),
            false => Check::failed(
                name,
                format!("the daemon runs, and {address} does not answer"),
                "the daemon has other settings, or a firewall is between",
            ),
        };
    }
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Check::failed(
            name,
            format!("another program listens on {address}"),
            format!("stop it (`ss -ltnp` names it), or set {name} to another port"),
        ),
        Err(error) => {
            Check::failed(name, format!("{address}: {error}"), format!("set {name} to an address of this machine"))
        }
    }
}

fn connects(address: &str) -> bool {
    let Ok(mut addresses) = address.to_socket_addrs() else { return false };
    addresses.any(|address| std::net::TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}
