//! Static tokens: roles, revocation, their stored form, and the routes that need one.

use crate::client::{Api, send};
use crate::support::until;

#[test]
fn without_a_token_nothing_tells_a_cost_and_the_answer_says_how_to_get_one() {
    let api = Api::start();
    for path in [
        "/api/admin/costs",
        "/api/admin/cost-history",
        "/api/admin/user-stats",
        "/api/user/all",
        "/api/admin/metrics",
        "/api/admin/pricing",
        "/api/v1/costs",
        "/api/v1/users",
        "/api/v1/users/u",
        "/api/v1/sessions",
        "/api/v1/sessions/history",
        "/api/v1/records",
        "/api/v1/dead-letters",
        "/api/v1/prices",
        "/api/v1/pipeline",
        "/api/v1/audit",
    ] {
        let answer = api.get(path, "");
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
        assert!(answer.text().contains("tallyd token create"), "{path}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(api.get(path, "").status, 200, "{path}");
    }
    assert_eq!(api.get("/nowhere", "").code(), "not_found");
    assert_eq!(api.send("DELETE", "/healthz", &[], b"").status, 405);
}

#[test]
fn a_role_allows_what_it_says() {
    let api = Api::start();
    let (admin, read, ingest) = (api.token("admin"), api.token("read"), api.token("ingest"));
    for (what, token, asks, changes) in
        [("admin", &admin, 200, 200), ("read", &read, 200, 403), ("ingest", &ingest, 403, 403)]
    {
        assert_eq!(api.get("/api/v1/costs", token).status, asks, "{what}");
        assert_eq!(api.post("/api/admin/budget", token, r#"{"budget": 5}"#).status, changes, "{what}");
    }
}

#[test]
fn a_token_is_stored_hashed_shown_once_and_out_soon_after_it_is_revoked() {
    let api = Api::start();
    let token = api.token("read");
    let text = token.strip_prefix("Bearer ").unwrap();
    let (_, secret) = text.rsplit_once('_').unwrap();
    assert_eq!(secret.len(), 64);
    let stored = api.postgres.psql("SELECT t::text, encode(sha256, 'hex') FROM tallyd_tokens t");
    assert!(!stored.contains(secret), "{stored}");
    assert_eq!(api.postgres.psql(&format!("SELECT count(*) FROM tallyd_tokens WHERE sha256 = sha256('{text}')")), "1");
    let listed = String::from_utf8(api.daemon.run(&["token", "list"]).stdout).unwrap();
    assert!(listed.contains("read") && listed.contains("in force") && !listed.contains(secret), "{listed}");
    // The last digit changed: another token.
    let other = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    assert_eq!(api.get("/api/v1/costs", &other).status, 401);
    assert_eq!(api.get("/api/v1/costs", &token).status, 200);
    assert!(api.daemon.run(&["token", "revoke", "1", "--yes"]).status.success());
    until("the token is out", || match api.get("/api/v1/costs", &token).status {
        401 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(api.daemon.run(&["token", "revoke", "1", "--yes"]).status.code(), Some(1), "it is revoked already");
    assert_eq!(api.daemon.run(&["token", "create", "--name", " ", "--role", "read"]).status.code(), Some(1));
    let log = api.postgres.psql("SELECT action, object FROM tallyd_audit_log ORDER BY id");
    assert_eq!(log, "token.create|token 1\ntoken.revoke|token 1");
    let everything = api.postgres.psql("SELECT string_agg(a::text, '') FROM tallyd_audit_log a");
    assert!(!everything.contains(secret), "{everything}");
}

#[test]
fn a_token_goes_on_serving_while_the_database_is_down() {
    let mut api = Api::start();
    let token = api.token("read");
    api.postgres.down(crate::support::postgres::Stop::Fast);
    let answer = api.get("/api/v1/costs", &token);
    assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"));
    assert_eq!(api.get("/api/v1/pipeline", &token).status, 200);
    assert_eq!(api.get("/api/v1/pipeline", "Bearer tallyd_1_00").status, 401);
    api.postgres.up();
    until("questions are answered again", || match api.get("/api/v1/costs", &token).status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
}

#[test]
fn pages_of_other_origins_may_ask_only_where_that_is_configured() {
    let api = Api::with(&[("TALLYD_HTTP_CORS_ORIGINS", "https://admin.example.com")]);
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
        ];
        send(&api.address, "OPTIONS", "/api/v1/costs", &headers, b"")
    };
    let allowed = preflight("https://admin.example.com");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://admin.example.com"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    assert_eq!(preflight("https://evil.example.com").header("access-control-allow-origin"), None);
    let answer = api.get("/healthz", "");
    for (name, value) in [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")] {
        assert_eq!(answer.header(name), Some(value));
    }
}
