//! The private cluster survives kills, stale files and other users of its folder.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tallyd_store::embedded::{Embedded, EmbeddedError};

use crate::support::{data_dir, eventually, postmaster, processes, session, signal, try_session, value};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_once_works_and_leaves_no_process() {
    let dir = data_dir();
    let cluster = Embedded::open(dir.path(), None).await.unwrap();
    let client = session(&cluster).await;
    let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
        ('data_checksums', 'fsync', 'full_page_writes', 'jit', 'listen_addresses', 'synchronous_commit', 'TimeZone')";
    assert_eq!(
        value(&client, settings).await,
        "TimeZone=UTC data_checksums=on fsync=on full_page_writes=on jit=off listen_addresses= synchronous_commit=on"
    );
    assert_eq!(
        value(&client, "SELECT current_user || current_database() || current_setting('server_encoding')").await,
        "tallydtallydUTF8"
    );
    client.batch_execute("CREATE TABLE kept AS SELECT 7 AS seven; CHECKPOINT").await.unwrap();
    cluster.stop().await;
    assert_eq!(processes(dir.path()), Vec::<std::path::PathBuf>::new());
    assert!(matches!(cluster.ensure().await, Err(EmbeddedError::Stopped)));

    let again = Embedded::open(dir.path(), None).await.unwrap();
    assert_eq!(value(&session(&again).await, "SELECT seven FROM kept").await, "7");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_unprivileged_below_a_closed_folder() {
    let dir = data_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let data = closed.join("data");
    let cluster = Embedded::open(&data, None).await.unwrap();
    let meta = fs::metadata(cluster.dir()).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o700);
    assert_ne!(meta.uid(), 0, "the server never runs as root");
    let server = fs::metadata(format!("/proc/{}", postmaster(&data))).unwrap();
    assert_eq!(server.uid(), meta.uid());

    // The server's own processes reach their files: a sort that spills, parallel workers, a file read by its name.
    let client = session(&cluster).await;
    let work = "SET work_mem = '64kB'; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; \
        SET min_parallel_table_scan_size = 0; CREATE TABLE t AS SELECT g, md5(g::text) AS m FROM generate_series(1, 50000) g; \
        SELECT * FROM t ORDER BY m OFFSET 49999; SELECT pg_reload_conf(); SELECT pg_switch_wal(); CHECKPOINT";
    client.batch_execute(work).await.unwrap();
    assert_eq!(value(&client, "SELECT length(pg_read_file('PG_VERSION')) > 0").await, "t");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_too_long_for_a_socket_works_for_us_and_for_other_processes() {
    let dir = data_dir();
    let data = dir.path().join("x".repeat(60)).join("y".repeat(60)).join("with, a comma");
    let cluster = Embedded::open(&data, None).await.unwrap();
    assert_eq!(value(&session(&cluster).await, "SELECT 1").await, "1");
    let psql = cluster.programs().unwrap().join("psql");
    let run = |host: &std::path::Path| {
        let output =
            Command::new(&psql).arg("-h").arg(host).args(["-U", "tallyd", "-d", "tallyd", "-Atc", "SELECT 2"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(run(cluster.host()), "2\n");
    // A second user of the cluster connects by another host name.
    let second = Embedded::open(&data, None).await.unwrap();
    assert_ne!(second.host(), cluster.host());
    assert_eq!(run(second.host()), "2\n");
    cluster.stop().await;
}

/// A process that is killed when the test ends or fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_started_again_with_everything_committed() {
    let dir = data_dir();
    let cluster = Embedded::open(dir.path(), None).await.unwrap();
    session(&cluster).await.batch_execute("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g").await.unwrap();
    let killed = postmaster(dir.path());
    signal(killed, Signal::KILL);
    eventually("the server's end", || !fs::exists(format!("/proc/{killed}")).unwrap());
    cluster.ensure().await.unwrap();
    assert_eq!(value(&session(&cluster).await, "SELECT count(*) FROM t").await, "1000");
    assert_ne!(postmaster(dir.path()), killed);

    // The same for a later `tallyd`. The stale process id now belongs to an unrelated process of the server's user, as
    // it happens in containers.
    signal(postmaster(dir.path()), Signal::KILL);
    eventually("the end of all processes", || processes(dir.path()).is_empty());
    let owner = fs::metadata(cluster.dir()).unwrap();
    drop(cluster);
    let mut other = Command::new("sleep");
    other.arg("600").current_dir("/").uid(owner.uid()).gid(owner.gid()).stdout(Stdio::null()).stderr(Stdio::null());
    let other = Killed(other.spawn().unwrap());
    let pid_file = dir.path().join("postgres/postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&pid_file, format!("{}\n{rest}", other.0.id())).unwrap();
    let again = Embedded::open(dir.path(), None).await.unwrap();
    assert_eq!(value(&session(&again).await, "SELECT count(*) FROM t").await, "1000");
    again.stop().await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_user_attaches_leaves_it_running_and_takes_it_over() {
    let dir = data_dir();
    let (first, second) = tokio::join!(Embedded::open(dir.path(), None), Embedded::open(dir.path(), None));
    let (first, second) = (first.unwrap(), second.unwrap());
    let (owner, guest) = if first.is_owned().await { (first, second) } else { (second, first) };
    assert!(owner.is_owned().await && !guest.is_owned().await);
    let third = Embedded::open(dir.path(), None).await.unwrap();
    third.stop().await;
    assert_eq!(value(&session(&owner).await, "SELECT 1").await, "1");
    owner.stop().await;
    guest.ensure().await.unwrap();
    assert!(guest.is_owned().await);
    assert_eq!(value(&session(&guest).await, "SELECT 1").await, "1");
    guest.stop().await;
    assert!(processes(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_initdb_left_half_made_is_made_anew_and_foreign_files_are_not_touched() {
    let dir = data_dir();
    fs::create_dir_all(dir.path().join("postgres.new/base")).unwrap();
    fs::write(dir.path().join("postgres.new/PG_VERSION"), "15\n").unwrap();
    let cluster = Embedded::open(dir.path(), None).await.unwrap();
    assert_eq!(value(&session(&cluster).await, "SELECT 1").await, "1");
    cluster.stop().await;
    assert!(!dir.path().join("postgres.new").exists());

    let other = data_dir();
    fs::create_dir(other.path().join("postgres")).unwrap();
    let account = fs::metadata(dir.path().join("postgres")).unwrap();
    std::os::unix::fs::chown(other.path().join("postgres"), Some(account.uid()), Some(account.gid())).unwrap();
    fs::write(other.path().join("postgres/thesis.txt"), "mine").unwrap();
    let error = Embedded::open(other.path(), None).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
    assert_eq!(fs::read_to_string(other.path().join("postgres/thesis.txt")).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_says_why() {
    let dir = data_dir();
    Embedded::open(dir.path(), None).await.unwrap().stop().await;
    let settings = dir.path().join("postgres/postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\nno_such_setting = 1\n")).unwrap();
    let message = Embedded::open(dir.path(), None).await.unwrap_err().to_string();
    assert!(message.contains("no_such_setting"), "{message}");
    fs::write(&settings, text).unwrap();
    fs::write(dir.path().join("postgres/PG_VERSION"), "12\n").unwrap();
    let message = Embedded::open(dir.path(), None).await.unwrap_err().to_string();
    assert!(message.contains("PostgreSQL 12 is needed (the cluster was made with it)"), "{message}");
}

/// The test below runs this in a process of its own: it holds a cluster until it is killed. An ordinary run skips it.
#[test]
fn holds_a_cluster() {
    let Ok(data) = std::env::var("TALLYD_TEST_HOLDS") else { return };
    // One worker, so that the thread on which the cluster was opened has ended by the time the server is in use.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _cluster = runtime.block_on(Embedded::open(data.as_ref(), None)).unwrap();
    drop(runtime);
    fs::write(format!("{data}/held"), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_server_and_the_next_one_waits_for_its_end() {
    let dir = data_dir();
    let daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::holds_a_cluster"])
        .env("TALLYD_TEST_HOLDS", dir.path())
        .stdout(Stdio::null())
        .spawn();
    let daemon = Killed(daemon.unwrap());
    eventually("the daemon's cluster", || dir.path().join("held").exists());
    let server = postmaster(dir.path());
    let guest = Embedded::open(dir.path(), None).await.unwrap();
    assert!(!guest.is_owned().await, "the runtime's threads have ended, and the server runs all the same");
    drop(daemon);
    let next = Embedded::open(dir.path(), None).await.unwrap();
    // The session may have reached the old server, just before its shutdown.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while try_session(next.host()).await.is_err() || !next.is_owned().await {
        assert!(std::time::Instant::now() < deadline, "the old server has outlived its daemon");
        next.ensure().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_ne!(postmaster(dir.path()), server);
    assert_eq!(value(&session(&next).await, "SELECT pg_is_in_recovery()").await, "f");
    next.stop().await;
    assert!(processes(dir.path()).is_empty());
}
