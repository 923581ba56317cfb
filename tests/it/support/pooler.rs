//! A PgBouncer between the daemon and PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::postgres::{Postgres, as_account, give, url};
use super::until;

/// When the pooler gives a server session to another client: PgBouncer's `pool_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client has disconnected.
    Session,
    /// After each transaction.
    Transaction,
}

/// A pooler, and its process while it runs.
pub struct Pooler {
    home: tempfile::TempDir,
    process: Option<Child>,
}

impl Pooler {
    /// A running pooler with `sessions` sessions, behind a socket of the server's default port.
    pub fn start(postgres: &Postgres, mode: PoolMode, sessions: u32) -> Self {
        let home = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut pooler = Self { home, process: None };
        pooler.configure(postgres, mode, sessions, "");
        pooler.up();
        pooler
    }

    /// Writes its configuration for the next start; `more` are further lines.
    pub fn configure(&self, postgres: &Postgres, mode: PoolMode, sessions: u32, more: &str) {
        let (server, folder) = (postgres.sockets(), self.home.path());
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let text = format!(
            "[databases]\npostgres = host={} user=postgres dbname=postgres\n[pgbouncer]\nlisten_addr =\n\
             listen_port = 5432\nunix_socket_dir = {}\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {sessions}\nmax_client_conn = 100\nserver_login_retry = 0.1\n{more}\n",
            server.display(),
            folder.display(),
        );
        fs::write(self.configuration(), text).unwrap();
        give(folder);
    }

    /// Starts it, and waits until it answers.
    pub fn up(&mut self) {
        assert!(self.process.is_none(), "the pooler runs already");
        let log = fs::File::options().append(true).create(true).open(self.home.path().join("log")).unwrap();
        let mut command = as_account(program());
        command.arg("-q").arg(self.configuration()).current_dir(self.home.path());
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let socket = self.home.path().join(".s.PGSQL.5432");
        until("the pooler answers", || match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}: {}", self.log())),
        });
    }

    /// SIGKILL: its clients and its servers find their connections closed.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the pooler runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The address for the daemon.
    pub fn url(&self) -> String {
        url(self.home.path())
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("pgbouncer.ini")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the pooler's log:\n{}", self.log());
        }
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Debian installs it in a folder that is only on root's `PATH`.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join("pgbouncer"));
    found.into_iter().find(|file| Path::is_file(file)).expect("pgbouncer is installed (scripts/need-pgbouncer does it)")
}
