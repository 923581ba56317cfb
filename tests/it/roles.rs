//! The daemon's role: it loads as the tables' owner or with BYPASSRLS, and otherwise reports the cause.

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

const LINE: &str = r#"{"provider":"rentcast","endpoint":"/avm","user_id":"u","cost_usd":"0.2"}"#;

fn url(postgres: &Postgres, role: &str) -> String {
    postgres.url().replace("user=postgres", &format!("user={role}"))
}

#[test]
fn the_owner_and_the_writer_load_and_another_role_is_told_why_it_cannot() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE keeper LOGIN CREATEROLE; GRANT CREATE ON SCHEMA public TO keeper");
    // The owner, which is not a superuser and does not have BYPASSRLS.
    let mut daemon = Daemon::on(&url(&postgres, "keeper")).start();
    daemon.lines(LINE);
    postgres.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));

    // The owner cannot create a role with BYPASSRLS, and gets a hint.
    let migrated = daemon.run(&["migrate"]);
    let advice = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert!(migrated.status.success() && advice.contains("CREATE ROLE tallyd_writer NOLOGIN BYPASSRLS"), "{advice}");
    postgres.psql("CREATE ROLE tallyd_writer LOGIN BYPASSRLS; SELECT tallyd_protect_all()");
    assert_eq!(daemon.run(&["migrate"]).stderr, b"", "now all is well");

    // The least privileged role that can load. It creates partitions, too, which belong to the owner.
    daemon.set("TALLYD_DATABASE_URL", &url(&postgres, "tallyd_writer"));
    daemon.up();
    daemon.lines(LINE);
    daemon.lines(&LINE.replace("}", r#","occurred_at":"2020-02-03T04:05:06Z"}"#));
    postgres.until_calls(3);
    daemon.assert_reconciled();
    assert_eq!(daemon.terminate().code(), Some(0));

    // Grants are not enough where policies apply.
    postgres.psql(
        "CREATE ROLE other LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO other; \
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other",
    );
    daemon.set("TALLYD_DATABASE_URL", &url(&postgres, "other"));
    daemon.up();
    assert_eq!(daemon.lines(LINE)[0]["ok"], true, "records are accepted");
    daemon.until_status("loading holds, and says why", |status| {
        let message = status["health"]["flusher"]["message"].as_str().unwrap_or_default();
        message.contains("BYPASSRLS") && message.contains("owner")
    });
    let advice = String::from_utf8_lossy(&daemon.run(&["migrate"]).stderr).into_owned();
    assert!(advice.contains("the role other cannot see the migrated tables"), "{advice}");
    postgres.psql("ALTER ROLE other BYPASSRLS");
    postgres.until_calls(4);
    daemon.assert_reconciled();
}
