//! Samples of the sessions: one an hour, gaps where there is none, bounded by age.

use serde_json::json;

use crate::client::Api;
use crate::support::postgres::Postgres;

/// Two sessions of one user, one of which was refreshed lately.
const AUTH: &str = "CREATE SCHEMA auth; \
    CREATE TABLE auth.users (id uuid, last_sign_in_at timestamptz, deleted_at timestamptz, banned_until timestamptz); \
    CREATE TABLE auth.sessions (user_id uuid, created_at timestamptz, refreshed_at timestamp, not_after timestamptz); \
    INSERT INTO auth.users (id, last_sign_in_at) VALUES (md5('1')::uuid, now()); \
    INSERT INTO auth.sessions VALUES (md5('1')::uuid, now(), NULL, NULL), \
        (md5('1')::uuid, now() - interval '3 days', NULL, NULL)";
const SAMPLES: &str =
    "SELECT active, active_users, refreshed_24h, signed_in_24h FROM tallyd_session_samples ORDER BY hour";

#[test]
fn an_hour_has_one_sample_and_an_hour_without_a_daemon_has_none() {
    let postgres = Postgres::start();
    postgres.psql(AUTH);
    let mut api = Api::on(postgres, &[]);
    api.postgres.until(SAMPLES, "2|1|1|1");
    // As if it had been written three hours ago, beside one that is too old to be kept.
    let earlier = "UPDATE tallyd_session_samples SET hour = hour - interval '3 hours'; \
        INSERT INTO tallyd_session_samples VALUES (date_trunc('hour', now(), 'UTC') - interval '91 days', 1, 1, 1, 1)";
    api.postgres.psql(earlier);
    api.postgres.psql("DELETE FROM auth.sessions WHERE created_at < now() - interval '1 day'");
    api.daemon.kill();
    api.daemon.up();
    api.postgres.until(SAMPLES, "2|1|1|1\n1|1|1|1");

    let token = api.token("read");
    let history = api.get("/api/v1/sessions/history?days=2", &token).ok();
    let samples = history["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2, "the two hours between are not zero: {history}");
    let numbers = ["active", "active_users", "refreshed_24h", "signed_in_24h"].map(|name| samples[0][name].clone());
    assert_eq!(json!(numbers), json!([2, 1, 1, 1]));
    let file = api.get("/api/v1/sessions/history?days=2&format=csv", &token).text();
    let hour = samples[1]["hour"].as_str().unwrap();
    assert_eq!(file.lines().nth(2), Some(format!("{hour},1,1,1,1").as_str()), "{file}");
    assert_eq!(api.get("/api/v1/sessions/history?days=91", &token).status, 400);
}
