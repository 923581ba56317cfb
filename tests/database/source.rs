//! The options decide how a database is reached.

use std::time::Duration;

use tallyd_store::{Database, DatabaseOptions, FailureClass, classify};

use crate::support::{data_dir, options, postmaster, signal};

#[tokio::test(flavor = "multi_thread")]
async fn the_private_cluster_is_the_default_and_comes_back_by_itself() {
    let dir = data_dir();
    let db = Database::open(&options(dir.path())).await.unwrap();
    let mut connection = db.connect("tallyd test").await.unwrap();
    let row = connection.query_one("SELECT current_setting('application_name')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "tallyd test");
    let pool = db.pool(2);
    assert_eq!(pool.get().await.unwrap().query_one("SELECT 5", &[]).await.unwrap().get::<_, i32>(0), 5);

    signal(postmaster(dir.path()), rustix::process::Signal::KILL);
    let reason = connection.ended().await;
    assert!(reason.is_none_or(|error| classify(&error) == FailureClass::Transient));
    let lost = connection.query_one("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(classify(&lost), FailureClass::Transient);
    let row = db.connect("x").await.unwrap().query_one("SELECT 6", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 6);

    signal(postmaster(dir.path()), rustix::process::Signal::KILL);
    assert_eq!(pool.get().await.unwrap().query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    db.clone().close().await;
    let error = db.connect("x").await.unwrap_err();
    assert!(error.to_string().contains("shutting down"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_connects_with_what_it_is_given_and_with_what_is_printed() {
    let dir = data_dir();
    for data in [dir.path().to_owned(), dir.path().join("l".repeat(100))] {
        let db = Database::open(&options(&data)).await.unwrap();
        let output = db.psql_command(["-Atc", "SELECT current_database()"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "tallyd\n", "{:?}", output.stderr);
        let output =
            std::process::Command::new("psql").args([&db.redacted_url(), "-Atc", "SELECT 1"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n");
        // The same address as a URL leads to the same database, which this handle must not stop.
        let by_url = DatabaseOptions { url: Some(db.redacted_url()), ..options(&data) };
        let guest = Database::open(&by_url).await.unwrap();
        assert!(guest.connect("guest").await.is_ok());
        guest.close().await;
        assert!(db.connect("x").await.is_ok());
        db.close().await;
    }
}

#[tokio::test]
async fn a_database_that_is_down_or_silent_is_no_reason_not_to_open() {
    let dir = data_dir();
    // A server that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://u:secret@127.0.0.1:{port}/d?sslmode=disable");
    let options = DatabaseOptions {
        url: Some(url),
        connect_timeout: Duration::from_millis(200),
        ..options(&dir.path().join("unused"))
    };
    let db = Database::open(&options).await.unwrap();
    assert!(!dir.path().join("unused").exists());
    let error = db.connect("x").await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(error.to_string().contains("did not answer within 200 ms"), "{error}");
    assert!(!format!("{error} {db:?}").contains("secret"));
    drop(silent);
    let error = db.connect("x").await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_classified_as_the_server_reports_them() {
    let dir = data_dir();
    let db = Database::open(&options(dir.path())).await.unwrap();
    let client = db.connect("x").await.unwrap();
    client
        .batch_execute("CREATE TABLE p (n int CHECK (n < 5)) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)")
        .await
        .unwrap();
    let failures = [
        ("INSERT INTO p VALUES (20)", FailureClass::MissingPartition),
        ("INSERT INTO p VALUES (-1)", FailureClass::MissingPartition),
        ("INSERT INTO p VALUES (7)", FailureClass::Data),
        ("SELECT 1/0", FailureClass::Data),
        ("INSERT INTO nowhere VALUES (1)", FailureClass::Hold),
        ("SET TRANSACTION READ ONLY; INSERT INTO p VALUES (1)", FailureClass::Hold),
        ("SET statement_timeout = 1; SELECT pg_sleep(10)", FailureClass::Transient),
    ];
    for (sql, class) in failures {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(classify(&error), class, "{sql}: {error:?}");
    }
    let mut other = db.config().clone();
    other.dbname("no_such_database");
    let error = other.connect(tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(classify(&error), FailureClass::Hold);
    db.close().await;
}
