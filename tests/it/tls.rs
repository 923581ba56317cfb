//! The connection to PostgreSQL is encrypted, and the server has to prove its identity. Until it can, records wait.

use std::fs;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::network::{Authority, own_address, replace};
use crate::support::postgres::Postgres;

const BEGIN: &str = "20200101000000Z";
const END: &str = "21000101000000Z";

/// Gives the server another key and certificate, and makes the daemon connect again.
fn present(postgres: &Postgres, (key, certificate): (String, String)) {
    postgres.file("server.key", key);
    postgres.file("server.crt", certificate);
    let before = postgres.psql("SELECT pg_conf_load_time()");
    postgres.psql("SELECT pg_reload_conf()");
    // The server reads both at once, so that new settings imply the new certificate.
    postgres.until(&format!("SELECT pg_conf_load_time() > '{before}'"), "t");
    postgres.end_sessions();
}

#[test]
fn a_server_that_cannot_prove_itself_gets_no_record_until_it_can_and_nothing_is_lost() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = own_address();
    let mut postgres = Postgres::at(address).with_setting("ssl", "on");
    let (key, certificate) = authority.sign("db.test", BEGIN, END);
    postgres.file("server.key", key);
    postgres.file("server.crt", certificate);
    postgres.rules("local all all trust\nhostssl all all all trust\n");
    postgres.up();

    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    fs::copy(other.certificate(), &trusted).unwrap();
    let url = format!("host=db.test hostaddr={address} user=postgres dbname=postgres sslmode=verify-full");
    let mut daemon = Daemon::on(&url).with("TALLYD_DATABASE_CA_FILE", trusted.to_str().unwrap()).start();
    let load = Load::start(&daemon.socket(), 1);
    let refused = |status: &Value, why: &str| {
        let message = status["health"]["flusher"]["message"].as_str().unwrap_or_default();
        status["health"]["status"] == "failing" && message.contains(why)
    };
    daemon.until_status("the wrong authority is named", |status| refused(status, "database.ca_file"));
    load.until_acked(500);
    replace(&trusted, fs::read(authority.certificate()).unwrap());
    postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE application_name LIKE 'tallyd%'";
    assert_eq!(postgres.psql(encrypted), "t");

    for (certificate, why) in [
        (authority.sign("other.test", BEGIN, END), "another host's"),
        (authority.sign("db.test", BEGIN, "20200201000000Z"), "renew the server's certificate"),
        (authority.sign("db.test", "20990101000000Z", END), "compare the clocks"),
        (other.sign("db.test", BEGIN, END), "database.ca_file"),
    ] {
        present(&postgres, certificate);
        daemon.until_status(why, |status| refused(status, why));
        load.until_acked(500);
        let before = load.acked().records();
        present(&postgres, authority.sign("db.test", BEGIN, END));
        postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    }

    // A half-written file does not replace the trusted authorities of the start.
    daemon.kill();
    daemon.up();
    let before = load.acked().records();
    postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    replace(&trusted, "-----BEGIN CERTIFICATE-----\n");
    postgres.end_sessions();
    load.until_acked(500);
    let before = load.acked().records();
    postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    assert!(daemon.log().contains("trusted on"), "nobody has read the file: the test proves nothing");
    replace(&trusted, fs::read(authority.certificate()).unwrap());
    load.finish().assert_in(&postgres);
    daemon.until_status("all is well again", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
}
