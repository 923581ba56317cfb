//! The admin page's files and its sessions.

use serde_json::json;

use crate::client::{Answer, Api, free_address};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

fn session(api: &Api, body: &str) -> Answer {
    api.send("POST", "/session", &[("content-type", "application/json"), ("x-tallyd-page", "1")], body.as_bytes())
}

/// The parts of a sign-in's answer that a browser keeps.
struct Kept {
    cookie: String,
    proof: String,
}

impl Kept {
    #[track_caller]
    fn of(answer: &Answer) -> Self {
        let proof = answer.ok()["proof"].as_str().unwrap().to_owned();
        Self { cookie: cookie(answer), proof }
    }

    fn send(&self, api: &Api, method: &str, path: &str, body: &[u8]) -> Answer {
        api.send(method, path, &[("cookie", &self.cookie), ("x-tallyd-page", &self.proof)], body)
    }
}

/// The cookie that an answer sets, as a browser sends it.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    set.split(';').next().unwrap().to_owned()
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
    let kept = Kept::of(&signed_in);
    assert_eq!(session(&api, &json!({ "code": code }).to_string()).code(), "unauthorized", "once");
    assert_eq!(kept.send(&api, "GET", "/session", b"").ok()["actor"], "token:1 the page");
    assert_eq!(kept.send(&api, "GET", "/api/v1/costs", b"").status, 200);
    let out = kept.send(&api, "DELETE", "/session", b"");
    assert_eq!(out.status, 204);
    assert_eq!(kept.send(&api, "GET", "/session", b"").status, 401, "ended at once");
    let audit = api.get("/api/v1/audit", &api.token("admin")).text();
    assert!(audit.contains("token.revoke") && audit.contains("token:1 the page"), "{audit}");
    assert!(out.header("set-cookie").unwrap().contains("tallyd_session=;"));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[test]
fn signing_out_revokes_no_token_that_somebody_pasted() {
    let api = Api::with(&[("TALLYD_AUTH_FAILURES_PER_MINUTE", "10000")]);
    let admin = api.token("admin");
    let kept = Kept::of(&session(&api, &json!({ "token": &admin["Bearer ".len()..] }).to_string()));
    assert_eq!(kept.send(&api, "DELETE", "/session", b"").status, 204);
    assert_eq!(kept.send(&api, "GET", "/api/v1/costs", b"").status, 401);
    assert_eq!(api.get("/api/v1/costs", &admin).status, 200);
}

#[test]
fn a_token_of_the_page_is_revoked_like_any_other() {
    let api = Api::start();
    let kept = Kept::of(&session(&api, &json!({ "code": code(&api) }).to_string()));
    assert!(api.daemon.run(&["token", "revoke", "1", "--yes"]).status.success());
    until("the session is over", || match kept.send(&api, "GET", "/session", b"").status {
        401 => Ok(()),
        status => Err(status.to_string()),
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
fn a_headers_token_comes_before_a_session() {
    let api = Api::start();
    let kept = Kept::of(&session(&api, &json!({ "code": code(&api) }).to_string()));
    let own = kept.send(&api, "PUT", "/api/v1/budgets", br#"{"period":"day","amount_usd":"1"}"#);
    assert_eq!(own.status, 200, "{}", own.text());
    let both =
        [("cookie", kept.cookie.as_str()), ("x-tallyd-page", &kept.proof), ("authorization", "Bearer tallyd_9_00")];
    assert_eq!(api.send("GET", "/api/v1/costs", &both, b"").status, 401);
}

#[test]
fn what_is_no_token_for_the_page_is_refused() {
    let api = Api::with(&[("TALLYD_AUTH_FAILURES_PER_MINUTE", "10000")]);
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
    let proxied = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")];
    let headers = [("content-type", "application/json"), ("x-tallyd-page", "1"), proxied[0], proxied[1]];
    let answer = api.send("POST", "/session", &headers, body.as_bytes());
    let set = answer.header("set-cookie").unwrap();
    // Browsers require these attributes for the prefix.
    assert!(set.starts_with("__Host-tallyd_session=") && set.ends_with("; Secure"), "{set}");
    assert!(set.contains("; Path=/; ") && !set.contains("Domain"), "{set}");
    let kept = Kept::of(&answer);
    let ask = |cookie: &str| {
        let headers = [("cookie", cookie), ("x-tallyd-page", &kept.proof), proxied[0], proxied[1]];
        api.send("GET", "/session", &headers, b"").status
    };
    assert_eq!(ask(&kept.cookie), 200);
    assert_eq!(ask(kept.cookie.strip_prefix("__Host-").unwrap()), 401, "a cookie that another page may have set");
}
