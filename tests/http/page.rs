//! The admin page's files and its sessions.

use serde_json::json;

use crate::client::{Answer, Api, free_address};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

fn session(api: &Api, body: &str) -> Answer {
    api.send("POST", "/session", &[("content-type", "application/json")], body.as_bytes())
}

/// The cookie that an answer sets, as a browser sends it.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    set.split(';').next().unwrap().to_owned()
}

fn with_cookie(api: &Api, method: &str, path: &str, cookie: &str, more: (&str, &str), body: &[u8]) -> Answer {
    api.send(method, path, &[("cookie", cookie), more], body)
}

fn code(api: &Api) -> String {
    let link = api.daemon.run(&["open"]);
    let link = String::from_utf8(link.stdout).unwrap();
    let (address, code) = link.trim().split_once("/#code=").unwrap();
    assert_eq!(address, format!("http://{}", api.address));
    code.to_owned()
}

#[test]
fn the_page_is_served_with_a_policy_that_keeps_it_at_home() {
    let api = Api::start();
    let page = api.get("/", "");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let missing = api.get("/assets/none.js", "");
    assert_eq!(missing.code(), "not_found");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn a_code_becomes_a_session_once() {
    let api = Api::start();
    let code = code(&api);
    let signed_in = session(&api, &json!({ "code": code }).to_string());
    assert_eq!(signed_in.ok()["role"], "admin");
    let set = signed_in.header("set-cookie").unwrap().to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("Secure"), "{set}");
    let cookie = cookie(&signed_in);
    assert_eq!(session(&api, &json!({ "code": code }).to_string()).code(), "unauthorized", "once");
    let none = ("accept", "*/*");
    assert_eq!(with_cookie(&api, "GET", "/session", &cookie, none, b"").ok()["actor"], "token:1 the page");
    assert_eq!(with_cookie(&api, "GET", "/api/v1/costs", &cookie, none, b"").status, 200);
    let out = with_cookie(&api, "DELETE", "/session", &cookie, none, b"");
    assert_eq!(out.status, 204);
    assert_eq!(with_cookie(&api, "GET", "/session", &cookie, none, b"").status, 401, "revoked at once");
    let audit = api.get("/api/v1/audit", &api.token("admin")).text();
    assert!(audit.contains("token.revoke") && audit.contains("token:1 the page"), "{audit}");
    assert!(out.header("set-cookie").unwrap().contains("tallyd_session=;"));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[test]
fn signing_out_revokes_no_token_that_somebody_pasted() {
    let api = Api::start();
    let admin = api.token("admin");
    let cookie = cookie(&session(&api, &json!({ "token": &admin["Bearer ".len()..] }).to_string()));
    let none = ("accept", "*/*");
    assert_eq!(with_cookie(&api, "DELETE", "/session", &cookie, none, b"").status, 204);
    assert_eq!(api.get("/api/v1/costs", &admin).status, 200);
}

#[test]
fn a_token_of_the_page_is_revoked_like_any_other() {
    let api = Api::start();
    let cookie = cookie(&session(&api, &json!({ "code": code(&api) }).to_string()));
    assert!(api.daemon.run(&["token", "revoke", "1"]).status.success());
    until("the session is over", || {
        match with_cookie(&api, "GET", "/session", &cookie, ("accept", "*/*"), b"").status {
            401 => Ok(()),
            status => Err(status.to_string()),
        }
    });
}

#[test]
fn a_link_signs_in_once_the_database_is_there() {
    let postgres = Postgres::stopped();
    let mut daemon = Daemon::on(&postgres.url());
    let address = free_address();
    daemon.set("TALLYD_HTTP_LISTEN", &address);
    let mut api = Api { daemon: daemon.start(), postgres, address };
    let body = json!({ "code": code(&api) }).to_string();
    let early = session(&api, &body);
    assert_eq!(early.status, 503, "{}", early.text());
    api.postgres.up();
    until("the same link signs in", || match session(&api, &body) {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    });
    assert_eq!(session(&api, &body).status, 401, "once");
}

#[test]
fn a_change_by_cookie_needs_the_pages_header() {
    let api = Api::start();
    let admin = api.token("admin");
    let token = admin.strip_prefix("Bearer ").unwrap();
    let cookie = cookie(&session(&api, &json!({ "token": token }).to_string()));
    let body = br#"{"period":"day","amount_usd":"1"}"#;
    let forged = with_cookie(&api, "PUT", "/api/v1/budgets", &cookie, ("origin", "https://evil.example"), body);
    assert_eq!((forged.status, forged.code().as_str()), (403, "forbidden"));
    assert_eq!(api.metric(r#"tallyd_auth_failures_total{reason="cross_site"}"#), 1.0);
    let own = with_cookie(&api, "PUT", "/api/v1/budgets", &cookie, ("x-tallyd-page", "1"), body);
    assert_eq!(own.status, 200, "{}", own.text());
    // A header's token comes first: whoever sends one means it.
    let both =
        api.send("GET", "/api/v1/costs", &[("cookie", cookie.as_str()), ("authorization", "Bearer tallyd_9_00")], b"");
    assert_eq!(both.status, 401);
}

#[test]
fn what_is_no_token_for_the_page_is_refused() {
    let api = Api::start();
    let ingest = api.token("ingest");
    let ingest = ingest.strip_prefix("Bearer ").unwrap();
    let long = "x".repeat(4_000);
    for (body, status) in [
        (json!({ "token": ingest }), 403),
        (json!({ "token": "tallyd_1_00" }), 401),
        (json!({ "token": "a; Path=/" }), 401),
        (json!({ "token": long }), 401),
        (json!({ "code": "00" }), 401),
        (json!({ "token": ingest, "code": "00" }), 400),
        (json!({}), 400),
    ] {
        let answer = session(&api, &body.to_string());
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.header("set-cookie").is_none(), "{body}");
    }
}

#[test]
fn behind_a_proxy_that_speaks_tls_the_cookie_is_for_tls_alone() {
    let api = Api::with(&[("TALLYD_HTTP_TRUSTED_PROXIES", "1")]);
    let body = json!({ "code": code(&api) }).to_string();
    let headers =
        [("content-type", "application/json"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")];
    let answer = api.send("POST", "/session", &headers, body.as_bytes());
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
}
