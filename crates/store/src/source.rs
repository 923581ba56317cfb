//! The database: the PostgreSQL of a URL, or the private cluster.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config};

use super::connection::{ConnectError, Connection};
use super::embedded::{self, Embedded, EmbeddedError};
use super::hosts::{Driver, Way};
use super::tls::{TlsError, Verify};
use super::url::{Address, AddressError};

/// The database's address, or the place of the private cluster.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// A URL, or libpq's `key=value` form. Without it a private cluster is used.
    pub url: Option<String>,
    /// The daemon's data directory, in which a private cluster is made.
    pub data_dir: PathBuf,
    /// Authorities to trust instead of the system's, in PEM form. Implies `sslmode=require`.
    pub ca_file: Option<PathBuf>,
    /// A file with the password, read at every attempt to connect. It replaces the password in the URL.
    pub password_file: Option<PathBuf>,
    /// Time limit for one host, from the first packet to the end of the log-in.
    pub connect_timeout: Duration,
    /// The folder of the programs (`postgres`, `psql`). None: they are looked for.
    pub bin_dir: Option<PathBuf>,
}

impl From<&tallyd_config::Config> for DatabaseOptions {
    fn from(config: &tallyd_config::Config) -> Self {
        let database = &config.database;
        Self {
            url: database.url.as_ref().map(|url| url.expose().to_owned()),
            data_dir: config.data_dir.clone(),
            ca_file: database.ca_file.clone(),
            password_file: database.password_file.clone(),
            connect_timeout: database.connect_timeout,
            bin_dir: database.embedded_bin_dir.clone(),
        }
    }
}

/// Why there is no database to work with. A PostgreSQL that is merely down is not an error here.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is wrong.
    #[error("the database's address is wrong: {0}")]
    Address(#[from] AddressError),
    /// A certificate is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The private cluster cannot be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

/// Protection of the connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Not needed: the connection does not leave the machine.
    SameMachine,
    /// Encrypted, and the server's certificate is verified.
    Verified,
    /// Encrypted, but a machine on the way can pose as the server.
    Unverified,
    /// Neither encrypted nor verified.
    None,
}

/// A database, and how to reach it. Clones share one database.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    way: Way,
    bin_dir: Option<PathBuf>,
    cluster: Option<Embedded>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("url", &self.redacted_url()).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database. With a URL it does not connect yet: PostgreSQL may be down, and records are accepted
    /// meanwhile. Without a URL it starts a private cluster, and creates one if there is none.
    ///
    /// # Errors
    /// [`DatabaseError`], if the URL or a CA file is wrong, or the private cluster cannot run.
    pub async fn open(options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        Self::with_cluster(options, async |dir, bin_dir| Embedded::open(dir, bin_dir).await).await
    }

    /// The same for commands, which never create a private cluster: only the daemon does. While a daemon runs on the
    /// data folder (`daemon_runs`), a command waits for the daemon's cluster.
    ///
    /// # Errors
    /// [`DatabaseError`], also if the private cluster is missing.
    pub async fn open_existing(
        options: &DatabaseOptions,
        daemon_runs: fn(&Path) -> bool,
    ) -> Result<Self, DatabaseError> {
        Self::with_cluster(options, async |dir, bin_dir| Embedded::open_existing(dir, bin_dir, daemon_runs).await).await
    }

    async fn with_cluster(
        options: &DatabaseOptions,
        open: impl AsyncFnOnce(&Path, Option<&Path>) -> Result<Embedded, EmbeddedError>,
    ) -> Result<Self, DatabaseError> {
        let (address, cluster) = match &options.url {
            Some(url) => {
                let address = Address::parse(url, options.ca_file.as_deref(), options.connect_timeout)?;
                (address.with_password_file(options.password_file.clone()), None)
            }
            None => {
                let cluster = open(&options.data_dir, options.bin_dir.as_deref()).await?;
                let (user, database) = (embedded::USER, embedded::DATABASE);
                (Address::embedded(cluster.host(), user, database, options.connect_timeout), Some(cluster))
            }
        };
        let way = Way::new(address, options.connect_timeout)?;
        Ok(Self { inner: Arc::new(Inner { way, bin_dir: options.bin_dir.clone(), cluster }) })
    }

    /// The driver's settings. They include the password, unless that is in a file.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.way.address.config
    }

    /// The private cluster, if it is used.
    #[must_use]
    pub fn embedded(&self) -> Option<&Embedded> {
        self.inner.cluster.as_ref()
    }

    /// The address for printing: the password is `***`. `psql` accepts the address of a private cluster.
    #[must_use]
    pub fn redacted_url(&self) -> String {
        self.inner.way.address.redacted()
    }

    /// Protection of the connection to the server.
    #[must_use]
    pub fn protection(&self) -> Protection {
        let address = &self.inner.way.address;
        let is_local = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        };
        let config = &address.config;
        let local = config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        match (address.verify, config.get_ssl_mode()) {
            (Verify::Full, _) => Protection::Verified,
            _ if local => Protection::SameMachine,
            (Verify::Nothing, SslMode::Disable) => Protection::None,
            (Verify::Nothing, _) => Protection::Unverified,
        }
    }

    /// Opens a session. A private cluster whose server has stopped is first started again, which may take up to a
    /// minute.
    ///
    /// # Errors
    /// [`ConnectError`]; its [`class`](ConnectError::class) says whether to try again.
    pub async fn connect(&self, application_name: &str) -> Result<Connection, ConnectError> {
        let (client, driver) = self.connect_raw(application_name).await?;
        Ok(Connection::new(client, tokio::spawn(driver)))
    }

    async fn connect_raw(&self, application_name: &str) -> Result<(Client, Driver), ConnectError> {
        match self.inner.way.connect(application_name).await {
            Err(error) if self.may_have_gone(&error) => {
                self.revive().await?;
                self.inner.way.connect(application_name).await
            }
            outcome => outcome,
        }
    }

    /// Opens a session that listens on a channel. The returned [`Notify`] is notified of each notification, and when
    /// the session ends. Behind a pooler in transaction mode notifications may never arrive: poll as well.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn listen(
        &self,
        application_name: &str,
        channel: &str,
    ) -> Result<(Connection, Arc<Notify>), ConnectError> {
        let notify = Arc::new(Notify::new());
        let heard = Arc::clone(&notify);
        let (client, mut driver) = self.inner.way.connect(application_name).await?;
        let driver = tokio::spawn(async move {
            let ended = loop {
                match poll_fn(|context| driver.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => heard.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            };
            heard.notify_one();
            ended
        });
        let connection = Connection::new(client, driver);
        let listening = connection.batch_execute(&format!("LISTEN {channel}")).await;
        listening.map_err(|source| ConnectError::Refused { address: self.redacted_url(), source })?;
        Ok((connection, notify))
    }

    /// True if a private cluster's server may have stopped: it did not answer, or was shutting down.
    fn may_have_gone(&self, error: &ConnectError) -> bool {
        let gone = match error {
            ConnectError::Refused { source, .. } => source.code().is_none_or(|code| code.code().starts_with("57")),
            ConnectError::NoHost { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::PasswordFile(_)
            | ConnectError::Embedded(_) => false,
        };
        gone && self.inner.cluster.is_some()
    }

    async fn revive(&self) -> Result<(), EmbeddedError> {
        match &self.inner.cluster {
            Some(cluster) => cluster.ensure().await,
            None => Ok(()),
        }
    }

    /// A pool of at most `size` sessions, for the control plane. It opens sessions only when they are needed.
    #[must_use]
    pub fn pool(&self, size: usize) -> Pool {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let address = self.inner.way.address.config.clone();
        let manager = Manager::from_connect(address, PoolConnect(self.clone()), config);
        let limit = self.inner.way.limit();
        Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limit))
            .create_timeout(Some(limit))
            .build()
            // Building fails only if timeouts are set without a runtime.
            .expect("a pool with a runtime can have timeouts")
    }

    /// `psql`, with the connection's settings. `args` are added unchanged.
    pub fn psql_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program("psql");
        command.args(args);
        command
    }

    /// A client program of PostgreSQL, with the connection's settings.
    ///
    /// It is the one beside the server programs if there is one, otherwise the first in `PATH`. The password is in its
    /// environment, not in its arguments.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let dir = match &self.inner.cluster {
            Some(cluster) => cluster.programs(),
            None => self.inner.bin_dir.clone(),
        };
        let program = dir.map(|dir| dir.join(name)).filter(|program| program.is_file());
        let mut command = Command::new(program.unwrap_or_else(|| name.into()));
        self.inner.way.address.set_environment(&mut command);
        command
    }

    /// Stops a private cluster that this process owns, and waits for its end; clones cannot connect any more. Any other
    /// PostgreSQL keeps running.
    pub async fn close(self) {
        if let Some(cluster) = &self.inner.cluster {
            cluster.stop().await;
        }
    }
}

/// Opens a pool's sessions, and revives a private cluster as [`Database::connect`] does.
struct PoolConnect(Database);

type PoolSession = (Client, JoinHandle<()>);

impl deadpool_postgres::Connect for PoolConnect {
    fn connect(
        &self,
        _config: &Config,
    ) -> futures_util::future::BoxFuture<'_, Result<PoolSession, tokio_postgres::Error>> {
        Box::pin(async move {
            match self.0.connect_raw("tallyd control").await {
                // The client reports the driver's error.
                Ok((client, driver)) => Ok((client, tokio::spawn(async move { drop(driver.await) }))),
                Err(error) => {
                    let reason = error.to_string();
                    match error.into_driver_error() {
                        Some(error) => Err(error),
                        None => {
                            tracing::warn!(reason, "no session for a request");
                            // The driver does not have an error for this case. The pool's own time limit ends the wait.
                            std::future::pending().await
                        }
                    }
                }
            }
        })
    }
}
