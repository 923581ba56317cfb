//! Shared parts of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tallyd_store::embedded::{DATABASE, Embedded, USER};
use tallyd_store::queries::audit::Actor;
use tallyd_store::{Database, DatabaseOptions, Granularity, MigrateOptions, migrate};
use tokio_postgres::{Client, NoTls};

/// The actor of the tests' operations.
pub const TESTER: Actor<'static> = Actor { name: "tester", address: "" };

/// A data directory that is removed with the test. Other users have no access to it, but may have to its parent.
pub fn data_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tallyd-").tempdir().unwrap()
}

/// A private cluster in the data directory.
pub fn options(data_dir: &Path) -> DatabaseOptions {
    DatabaseOptions {
        url: None,
        data_dir: data_dir.to_owned(),
        ca_file: None,
        password_file: None,
        connect_timeout: Duration::from_secs(10),
        bin_dir: None,
    }
}

/// The options of a daemon without configuration.
pub fn migrate_options() -> MigrateOptions {
    MigrateOptions { reporting_time_zone: Some("UTC".into()), granularity: Granularity::Month, partitions_ahead: 2 }
}

/// A private cluster in an empty data directory. `initdb` takes a second of processor time, so its result is kept in
/// the build's folder and copied.
pub async fn database(data_dir: &Path) -> Database {
    let version = Command::new("pg_config").arg("--version").output().expect("pg_config is installed").stdout;
    let version: String = String::from_utf8(version).unwrap().chars().filter(char::is_ascii_digit).collect();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = build.join(format!("private-cluster-{version}"));
    let cluster = data_dir.join("postgres");
    if template.exists() {
        copy(&template, &cluster);
    } else {
        Database::open(&options(data_dir)).await.unwrap().close().await;
        // Renamed into place whole, because another test process may be looking.
        let unready = build.join(format!("private-cluster-{}", std::process::id()));
        copy(&cluster, &unready);
        if std::fs::rename(&unready, &template).is_err() {
            std::fs::remove_dir_all(&unready).unwrap();
        }
    }
    Database::open(&options(data_dir)).await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success(), "cp -a {from:?} {to:?}");
}

/// A private cluster with the schema in it.
pub async fn migrated(data_dir: &Path) -> Database {
    let db = database(data_dir).await;
    migrate(&mut db.connect("migrate").await.unwrap(), &migrate_options()).await.unwrap();
    db
}

/// A session with the cluster.
pub async fn session(cluster: &Embedded) -> Client {
    try_session(cluster.host()).await.unwrap()
}

/// A session by the host name that clients have for a cluster.
pub async fn try_session(host: &Path) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    let (client, driver) = config.host_path(host).user(USER).dbname(DATABASE).connect(NoTls).await?;
    tokio::spawn(driver);
    Ok(client)
}

/// The value of a query that returns one row and column.
pub async fn value(client: &Client, sql: &str) -> String {
    client
        .simple_query(sql)
        .await
        .unwrap()
        .into_iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        })
        .expect("the query returns a row")
}

/// The process id of a cluster's server, from its `postmaster.pid`.
pub fn postmaster(data_dir: &Path) -> i32 {
    let text = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

/// The processes that work in a cluster's folder.
pub fn processes(data_dir: &Path) -> Vec<PathBuf> {
    let cluster = std::fs::canonicalize(data_dir).unwrap().join("postgres");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let works_there = |dir: &PathBuf| std::fs::read_link(dir.join("cwd")).is_ok_and(|cwd| cwd == cluster);
    entries.flatten().map(|entry| entry.path()).filter(works_there).collect()
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits until the condition holds. The test fails after 30 seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the session of this name waits for a lock.
pub async fn until_waiting(client: &Client, name: &str) {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event_type = 'Lock'");
    let deadline = Instant::now() + Duration::from_secs(30);
    while value(client, &sql).await == "0" {
        assert!(Instant::now() < deadline, "{name} does not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
