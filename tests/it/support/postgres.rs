//! A private PostgreSQL cluster that a test may stop, kill, freeze, back up and restore.
//!
//! `initdb` takes a second, so its result is kept in the build's folder and copied. fsync stays on, because a commit
//! that the daemon relies on must be durable. A server cannot run as root, so under root it runs as the user
//! `postgres`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use rustix::process::Signal;

use super::{bound_to_us, signal, until};

/// How to end a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It ends its sessions and writes everything out.
    Fast,
    /// It ends at once, and recovers at the next start.
    Immediate,
    /// SIGKILL: as `Immediate`, without a message to its clients.
    Kill,
}

/// A cluster, and its server while it runs.
pub struct Postgres {
    home: tempfile::TempDir,
    server: Option<Child>,
    /// Further settings, from its next start on.
    settings: Vec<String>,
}

impl Postgres {
    /// A cluster whose server answers.
    pub fn start() -> Self {
        let mut postgres = Self::stopped();
        postgres.up();
        postgres
    }

    /// A cluster that is not started yet.
    pub fn stopped() -> Self {
        let postgres = Self::empty();
        copy(&template(&postgres), &postgres.data());
        postgres
    }

    /// Changes a setting of the server, from its next start on.
    pub fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// A folder for a cluster, still empty.
    pub(super) fn empty() -> Self {
        let home = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sockets = home.path().join("s");
        fs::create_dir(&sockets).unwrap();
        for folder in [home.path(), &sockets] {
            give(folder);
        }
        Self { home, server: None, settings: Vec::new() }
    }

    /// Starts the server and waits until it answers. An earlier server of the cluster may still be ending.
    pub fn up(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let mut server = self.spawn();
        until("PostgreSQL answers", || {
            if server.try_wait().unwrap().is_some() {
                // The backends of a killed server take a moment to notice that they are orphans.
                server = self.spawn();
            }
            self.try_psql("SELECT 1").map_err(|error| format!("{error}\n{}", self.log()))
        });
        self.server = Some(server);
    }

    /// Ends the server and waits for its end.
    pub fn down(&mut self, how: Stop) {
        let mut server = self.server.take().expect("the server runs");
        signal(
            server.id(),
            match how {
                Stop::Fast => Signal::INT,
                Stop::Immediate => Signal::QUIT,
                Stop::Kill => Signal::KILL,
            },
        );
        server.wait().unwrap();
    }

    /// Suspends or resumes the server's processes: connections stay open, and nothing answers.
    pub fn freeze(&self, frozen: bool) {
        let server = self.server.as_ref().expect("the server runs").id();
        let which = if frozen { Signal::STOP } else { Signal::CONT };
        for pid in children(server).into_iter().chain([server]) {
            signal(pid, which);
        }
    }

    /// Copies the stopped cluster, for [`Postgres::restore`].
    pub fn back_up(&self) {
        assert!(self.server.is_none(), "a backup is taken of a stopped server");
        copy(&self.data(), &self.home.path().join("backup"));
    }

    /// Restores the stopped cluster from its backup.
    pub fn restore(&self) {
        assert!(self.server.is_none(), "a backup is restored under a stopped server");
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(self.home.path().join("backup"), self.data()).unwrap();
    }

    pub fn url(&self) -> String {
        url(&self.sockets())
    }

    /// The folder of the server's socket.
    pub fn sockets(&self) -> PathBuf {
        self.home.path().join("s")
    }

    /// The output of psql for a statement, without the last newline.
    ///
    /// # Panics
    /// If the statement fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Changes a table that is being loaded. The statement locks the call log and then its partitions; a COPY into a
    /// partition, or an index build on it, locks the partition first. PostgreSQL may end either as a deadlock victim.
    /// The statement is then run again.
    #[track_caller]
    pub fn alter(&self, sql: &str) {
        until(sql, || match self.try_psql(sql) {
            Err(error) if error.contains("deadlock detected") => Err(error),
            done => Ok(done.unwrap_or_else(|error| panic!("{sql}: {error}"))),
        });
    }

    /// The output of psql for a statement, without the last newline, or its error.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        let mut command = Command::new(bin("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-c", sql, "-h"]);
        let output = command.arg(self.sockets()).output().expect("psql is installed");
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }

    /// A session that stays open between statements, to hold locks.
    pub fn session(&self) -> PsqlSession {
        let mut command = bound_to_us(bin("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]).arg(self.sockets());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql is installed");
        let answers = BufReader::new(child.stdout.take().unwrap());
        PsqlSession { statements: child.stdin.take().unwrap(), answers, child }
    }

    /// Waits until a statement prints `expected`.
    #[track_caller]
    pub fn until(&self, sql: &str, expected: &str) {
        until(&format!("{sql} is {expected}"), || match self.try_psql(sql) {
            Ok(found) if found == expected => Ok(()),
            Ok(other) | Err(other) => Err(other),
        });
    }

    /// Waits until the call log has this number of calls.
    #[track_caller]
    pub fn until_calls(&self, calls: usize) {
        self.until("SELECT count(*) FROM api_usage_log", &calls.to_string());
    }

    /// Waits until a daemon has merged the users' deltas.
    #[track_caller]
    pub fn until_merged(&self) {
        self.until(
            "SELECT count(*) FROM (SELECT FROM tallyd_user_deltas_0 UNION ALL SELECT FROM tallyd_user_deltas_1) AS d",
            "0",
        );
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options().append(true).create(true).open(self.home.path().join("log")).unwrap();
        let mut command = as_server("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.sockets());
        command.args(["-c", "listen_addresses=", "-c", "shared_buffers=32MB", "-c", "max_connections=40"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.current_dir(self.home.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// The server's log.
    pub fn whole_log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn log(&self) -> String {
        let log = self.whole_log();
        let last: Vec<_> = log.lines().rev().take(20).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log ends with:\n{}", self.log());
        }
        for which in [Signal::CONT, Signal::QUIT] {
            signal(server.id(), which);
        }
        let _ = server.wait();
    }
}

/// An open session of psql. When it is dropped, its transaction ends.
pub struct PsqlSession {
    child: Child,
    statements: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl PsqlSession {
    /// Runs statements, and waits until they are done.
    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        writeln!(self.statements, "{sql};\n\\echo done").unwrap();
        let mut line = String::new();
        while line != "done\n" {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "psql has ended: {sql}");
        }
    }
}

impl Drop for PsqlSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of the server, or of a proxy, whose socket is in this folder.
pub fn url(sockets: &Path) -> String {
    format!("host={} user=postgres dbname=postgres", sockets.display())
}

/// The cluster that all others are copied from.
fn template(first: &Postgres) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new(bin("postgres")).arg("--version").output().unwrap();
    let version: String = String::from_utf8(output.stdout).unwrap().chars().filter(char::is_ascii_digit).collect();
    let account = server_account().map_or_else(|| "own".into(), |(uid, _)| uid.to_string());
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = build.join(format!("cluster-{version}-{account}-1"));
    if !template.exists() {
        let mut command = as_server("initdb");
        command.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "--wal-segsize=1",
            "-D",
        ]);
        command.args([&first.data()]).current_dir(first.home.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Renamed into place whole, because another test process may be looking.
        let unready = build.join(format!("cluster-{}", std::process::id()));
        copy(&first.data(), &unready);
        fs::remove_dir_all(first.data()).unwrap();
        if fs::rename(&unready, &template).is_err() {
            fs::remove_dir_all(&unready).unwrap();
        }
    }
    template
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success(), "cp -a {from:?} {to:?}");
}

/// A program of the server's package, psql included: Debian's `psql` is a slow script in Perl that looks for it.
pub fn bin(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let output = Command::new("pg_config").arg("--bindir").output().expect("pg_config is installed");
        String::from_utf8(output.stdout).unwrap().trim().into()
    });
    folder.join(program)
}

/// A server program, run as an account that it accepts.
pub(super) fn as_server(program: &str) -> Command {
    as_account(bin(program))
}

/// A program that refuses to run as root, run as the server's account.
pub(super) fn as_account(program: PathBuf) -> Command {
    match server_account() {
        None => bound_to_us(program),
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
    }
}

/// Gives a file or folder to the server's account.
pub(super) fn give(path: &Path) {
    if let Some((uid, gid)) = server_account() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The account of the server, if this process may not run it itself.
fn server_account() -> Option<(u32, u32)> {
    let we_are_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let ask = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().expect("under root, a user `postgres` is needed")
    };
    we_are_root.then(|| (ask("-u"), ask("-g")))
}

fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    fs::read_to_string(path).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
