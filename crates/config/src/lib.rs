//! Configuration: defaults < `config.toml` < environment < flags.
//!
//! Each section is a file of this crate: a struct with typed (a `Duration`, a time zone, an enum) and documented
//! fields, its defaults and its checks. The daemon runs without any configuration. `make snapshots` writes the shipped
//! `config.toml` and `docs/reference/config.md` from these doc comments and defaults.
//!
//! *Strict.* Unknown keys and `TALLYD_` variables, values of another type, and contradicting settings are errors.
//! Errors are reported together, each with the value's source and the accepted values. A daemon that ignored
//! `max_byte = 1000000` would run with an unintended setting.
//!
//! *Environment.* Every key has a variable: `TALLYD_`, the section, `_`, the key (`TALLYD_WAL_MAX_BYTES`). Usual
//! variables of platforms work as well: `DATABASE_URL`, `PORT`, `TALLYD_SOCKET`, `TALLYD_LOG` ([`mod@env`]).
//!
//! *Secrets.* Tokens and the database's password have types that print `***` ([`secret`]), so the output of
//! [`Config::effective_toml`] is safe in a bug report.

#![warn(unreachable_pub)]

mod alerts;
mod auth;
mod database;
mod dimensions;
pub mod env;
mod error;
mod flusher;
mod form;
mod http;
mod layers;
mod limits;
mod listen;
mod otlp;
mod process;
mod reports;
mod retention;
mod routes;
pub mod secret;
mod tls;
mod vendors;
mod wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::alerts::{Alerts, PriceSync};
pub use self::auth::Auth;
pub use self::database::{Database, Granularity, LogTable, Rollup, UserIndex};
pub use self::dimensions::Dimensions;
pub use self::error::{ConfigError, Origin};
pub use self::flusher::Flusher;
pub use self::http::{Http, Users};
pub use self::limits::{DeadLetters, Limits, StatedCosts};
pub use self::listen::Listen;
pub use self::otlp::{ClaudeCode, GRPC_ADDRESS, GRPC_AUTO, Otlp};
pub use self::process::{Log, LogFormat, Shutdown};
pub use self::reports::Reports;
pub use self::retention::{ArchivePlace, Retention, S3};
pub use self::routes::{DEFAULT_ROUTE, MailServer, MailTls, Route, RouteKind, mail_server};
pub use self::secret::{Secret, SecretUrl, redact_url};
pub use self::tls::{Tls, TlsListener};
pub use self::vendors::{Vendor, Vendors};
pub use self::wal::{Sync, Wal};
use tallyd_model::pricing::PricingOptions;

/// The whole configuration. Made by [`Config::load`], which checks it; [`Config::default`] is valid, too.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of everything that the daemon keeps on disk; made at the first start.
    pub data_dir: PathBuf,
    /// Listeners for records.
    pub listen: Listen,
    /// Bounds of a record. A record outside of them is refused alone; its neighbours go through.
    pub limits: Limits,
    /// The WAL (write-ahead log) on disk, where a record is safe before it is acknowledged.
    pub wal: Wal,
    /// The way from the WAL into PostgreSQL.
    pub flusher: Flusher,
    /// The PostgreSQL that records are loaded into.
    pub database: Database,
    /// The rollups.
    pub rollup: Rollup,
    /// Tags with a rollup, beside the application.
    pub dimensions: Dimensions,
    /// The call log, `api_usage_log`.
    pub log_table: LogTable,
    /// How long single calls are kept. Sums by day and the users' lifetime totals stay for ever.
    pub retention: Retention,
    /// How many refused records are kept. Beyond a bound a refused record is still answered, counted and shown; its payload
    /// is not kept, and cannot be retried.
    pub dead_letters: DeadLetters,
    /// The application's users, and when their sessions end.
    pub users: Users,
    /// The API, the page, metrics and health.
    pub http: Http,
    /// TLS of the network listeners: HTTP, metrics, TCP and gRPC.
    pub tls: Tls,
    /// Exports of OpenTelemetry to `/v1/traces`, `/v1/logs` and `/v1/metrics`, which become records.
    pub otlp: Otlp,
    /// Access to the API: JSON Web Tokens of an issuer. Static tokens need no setting; `tallyd token create` makes them.
    pub auth: Auth,
    /// Prices beside the built-in catalog.
    pub pricing: PricingOptions,
    /// A public price list, read regularly. Its changes are proposed: `tallyd prices sync` shows them with their effect on last
    /// week's calls.
    pub price_sync: PriceSync,
    /// The vendors' usage and cost reports. With an admin key, each day is compared with its bill and closed: `tallyd close list`.
    pub vendors: Vendors,
    /// Budgets (`tallyd budgets set`), unusual spend, and who is told.
    pub alerts: Alerts,
    /// Reports of finished days, weeks and months: spend, changes, top movers, budgets, unpriced calls. `tallyd report` prints one.
    pub reports: Reports,
    /// The orderly end, at SIGTERM.
    pub shutdown: Shutdown,
    /// The daemon log, on standard error.
    pub log: Log,
    /// Where each value that was set came from, by its key (`wal.max_bytes`). Missing keys are at their default.
    #[serde(skip)]
    pub origins: BTreeMap<String, Origin>,
}

/// What [`Config::load`] reads, from the weakest to the strongest.
#[derive(Debug, Default)]
pub struct ConfigSources<E> {
    /// A TOML file; it must exist.
    pub file: Option<PathBuf>,
    /// Environment variables, usually all of the process'.
    pub env: E,
    /// Keys and values from the command line: `("wal.max_bytes", "1000000")`.
    pub overrides: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./tallyd-data"),
            listen: Listen::default(),
            limits: Limits::default(),
            wal: Wal::default(),
            flusher: Flusher::default(),
            database: Database::default(),
            rollup: Rollup::default(),
            dimensions: Dimensions::default(),
            log_table: LogTable::default(),
            retention: Retention::default(),
            dead_letters: DeadLetters::default(),
            users: Users::default(),
            http: Http::default(),
            tls: Tls::default(),
            otlp: Otlp::default(),
            auth: Auth::default(),
            pricing: PricingOptions::default(),
            price_sync: PriceSync::default(),
            vendors: Vendors::default(),
            alerts: Alerts::default(),
            reports: Reports::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
            origins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the sources over the defaults, and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load<E>(sources: ConfigSources<E>) -> Result<Self, ConfigError>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        let (mut layers, mut faults) = (layers::Layers::new(), error::Faults::default());
        if let Some(path) = &sources.file {
            layers.add_file(path, &mut faults);
        }
        Self::over(layers, sources.env, &sources.overrides, faults)
    }

    /// Reads a file's text and an environment over the defaults: [`Config::load`] without a file.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn from_text(file: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (mut layers, mut faults) = (layers::Layers::new(), error::Faults::default());
        layers.add_toml(file, Path::new("config.toml"), &mut faults);
        Self::over(layers, env, &[], faults)
    }

    fn over(
        mut layers: layers::Layers,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
        mut faults: error::Faults,
    ) -> Result<Self, ConfigError> {
        for (name, key, text) in env::settings(env, layers.keys(), &mut faults) {
            layers.add_text(&key, &text, Origin::Variable(name), &mut faults);
        }
        for (key, text) in overrides {
            layers.add_text(key, text, Origin::Flag, &mut faults);
        }
        let config = layers.into_config(&mut faults);
        let mut checked = error::Faults::default();
        config.validate(&mut checked);
        faults.extend_checked(checked, &config.origins);
        faults.end()?;
        Ok(config)
    }

    /// Reads the values that name a file or a variable (`file:PATH`, `env:NAME`), as the daemon does when it needs them. Not a part of
    /// [`Config::load`], because other commands do not need them.
    ///
    /// # Errors
    /// [`ConfigError`] with every value that cannot be read.
    pub fn read_elsewhere(&self) -> Result<(), ConfigError> {
        let (mut checked, mut faults) = (error::Faults::default(), error::Faults::default());
        self.alerts.read_elsewhere(&mut checked);
        self.retention.read_elsewhere(&mut checked);
        faults.extend_checked(checked, &self.origins);
        faults.end()
    }

    /// Every key that can be set, with its section: `wal.max_bytes`.
    #[must_use]
    pub fn keys() -> Vec<String> {
        layers::Layers::new().keys().map(str::to_owned).collect()
    }

    /// The Unix socket's path: `listen.socket`, or `tallyd.sock` in the data folder.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.listen.socket.clone().unwrap_or_else(|| self.data_dir.join("tallyd.sock"))
    }

    /// Checks relations between values.
    fn validate(&self, faults: &mut error::Faults) {
        if self.data_dir.as_os_str().is_empty() {
            faults.add("data_dir", "it is empty; name a folder that the daemon may write to");
        }
        self.listen.validate(faults, &self.socket_path());
        self.limits.validate(faults, self.listen.max_frame_bytes);
        self.wal.validate(faults, self.listen.max_frame_bytes);
        self.flusher.validate(faults);
        self.database.validate(faults);
        self.rollup.validate(faults);
        self.dimensions.validate(faults);
        self.log_table.validate(faults);
        self.retention.validate(faults);
        self.dead_letters.validate(faults);
        self.tls.validate(faults);
        self.users.validate(faults);
        self.http.validate(faults);
        self.otlp.validate(faults);
        faults.in_range("pricing.refresh_ms", self.pricing.refresh_ms, 10..=3_600_000);
        if let Err(error) = tallyd_model::pricing::Catalog::builtin(&self.pricing) {
            faults.add("pricing.prices", error.to_string());
        }
        self.price_sync.validate(faults);
        self.vendors.validate(faults);
        self.alerts.validate(faults);
        self.reports.validate(faults, &self.alerts.all_routes());
        self.auth.validate(faults);
        self.shutdown.validate(faults);
        self.log.validate(faults);
    }
}

#[cfg(test)]
mod tests;
