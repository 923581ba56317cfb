//! The admin page's session: how a token becomes a cookie, what the cookie is good for, and what ends it.

use serde_json::json;

use crate::client::{Answer, Api};
use crate::issuer::{EC_KEYS, Issuer, Signer};
use crate::support::until;

const PATH: &str = "/api/v1/costs";

/// A browser with tallyd's page: sends what the page sends, and keeps the cookie.
struct Browser<'a> {
    api: &'a Api,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(api: &'a Api) -> Self {
        Self { api, cookie: String::new() }
    }

    fn sign_in(&mut self, field: &str, value: &str) -> Answer {
        let body = json!({ field: value }).to_string();
        let answer = self.page("POST", "/page/session", &body);
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        answer
    }

    fn get(&self, path: &str) -> Answer {
        self.api.send("GET", path, &[("cookie", &self.cookie)], b"")
    }

    fn page(&self, method: &str, path: &str, body: &str) -> Answer {
        let origin = format!("http://{}", self.api.address);
        let headers = [("cookie", self.cookie.as_str()), ("origin", &origin), ("x-tallyd-page", "1")];
        self.api.send(method, path, &headers, body.as_bytes())
    }

    fn until_status(&self, what: &str, status: u16) {
        until(what, || match self.get(PATH).status {
            found if found == status => Ok(()),
            other => Err(other.to_string()),
        });
    }
}

fn text(bearer: &str) -> &str {
    bearer.strip_prefix("Bearer ").unwrap()
}

#[test]
fn a_token_becomes_a_cookie_that_asks_changes_and_ends_when_it_is_signed_out() {
    let api = Api::start();
    let token = api.token("admin");
    let mut browser = Browser::new(&api);
    assert_eq!(browser.get("/page/session").ok()["actor"], json!(null));
    assert_eq!(browser.get(PATH).status, 401);
    let answer = browser.sign_in("token", text(&token));
    assert_eq!(answer.ok()["role"], "admin");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    let secret = browser.cookie.split_once('=').unwrap().1;
    let stored = api.postgres.psql("SELECT s::text FROM tallyd_page_sessions s");
    assert!(!stored.is_empty() && !stored.contains(secret), "{stored}");
    assert_eq!(browser.get("/page/session").ok()["actor"], "token:1 test");
    assert_eq!(browser.get(PATH).header("vary"), Some("authorization, cookie"));
    assert_eq!(browser.page("POST", "/api/admin/budget", r#"{"budget": 5}"#).status, 200);
    let log = api.postgres.psql("SELECT actor, action FROM tallyd_audit_log ORDER BY id OFFSET 1");
    assert_eq!(log, "token:1 test|page.sign_in\ntoken:1 test|budget.set");
    // A second browser's session is another one.
    let mut other = Browser::new(&api);
    other.sign_in("token", text(&token)).ok();
    assert_eq!(browser.page("DELETE", "/page/session", "").status, 204);
    assert_eq!((browser.get(PATH).status, other.get(PATH).status), (401, 200));
    assert_eq!(api.postgres.psql("SELECT count(*) FROM tallyd_page_sessions"), "1");
}

#[test]
fn a_cookie_changes_nothing_unless_the_page_itself_asks() {
    let api = Api::start();
    let token = api.token("admin");
    let mut browser = Browser::new(&api);
    browser.sign_in("token", text(&token)).ok();
    let (here, evil) = (format!("http://{}", api.address), "https://evil.example".to_owned());
    let cookie = browser.cookie.as_str();
    for (what, headers) in [
        ("a form of another site", vec![("origin", evil.as_str())]),
        ("a form of this site", vec![("origin", here.as_str())]),
        ("no origin", vec![("x-tallyd-page", "1")]),
        ("another origin", vec![("x-tallyd-page", "1"), ("origin", &evil)]),
        ("an opaque origin", vec![("x-tallyd-page", "1"), ("origin", "null")]),
    ] {
        let with_cookie: Vec<_> = headers.iter().copied().chain([("cookie", cookie)]).collect();
        let answer = api.send("POST", "/api/admin/budget", &with_cookie, br#"{"budget": 5}"#);
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        let body = json!({ "token": text(&token) }).to_string();
        assert_eq!(api.send("POST", "/page/session", &headers, body.as_bytes()).status, 403, "signing in: {what}");
        assert_eq!(api.send("DELETE", "/page/session", &with_cookie, b"").status, 403, "signing out: {what}");
    }
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_budgets"), "0");
    assert_eq!(browser.get(PATH).status, 200);
}

#[test]
fn a_session_ends_with_its_token_and_may_do_what_the_token_may() {
    let api = Api::start();
    let (read, ingest) = (api.token("read"), api.token("ingest"));
    let mut browser = Browser::new(&api);
    assert_eq!(browser.sign_in("token", text(&ingest)).status, 403, "it could ask nothing");
    assert_eq!(browser.sign_in("token", "tallyd_1_00").status, 401);
    assert_eq!(browser.sign_in("secret", "x").code(), "invalid_body");
    browser.sign_in("token", text(&read)).ok();
    assert_eq!(browser.get(PATH).status, 200);
    assert_eq!(browser.page("POST", "/api/admin/budget", r#"{"budget": 5}"#).status, 403);
    assert_eq!(browser.page("POST", "/api/v1/records", "[]").status, 403);
    assert!(api.daemon.run(&["token", "revoke", "1"]).status.success());
    browser.until_status("the revoked token's session is out", 401);
    // A session that has ended is no attempt to break in.
    assert!(api.metric("tallyd_auth_failures_total{reason=\"session\"} ") > 0.0);
}

#[test]
fn a_session_serves_while_the_database_is_down_and_after_a_restart() {
    let mut api = Api::start();
    let token = api.token("read");
    let mut browser = Browser::new(&api);
    browser.sign_in("token", text(&token)).ok();
    let cookie = browser.cookie.clone();
    api.postgres.down(crate::support::postgres::Stop::Fast);
    assert_eq!(api.send("GET", "/api/v1/pipeline", &[("cookie", &cookie)], b"").status, 200);
    let origin = format!("http://{}", api.address);
    let page = [("origin", origin.as_str()), ("x-tallyd-page", "1")];
    let body = json!({ "token": text(&token) }).to_string();
    assert_eq!(api.send("POST", "/page/session", &page, body.as_bytes()).code(), "database_unavailable");
    api.postgres.up();
    api.daemon.kill();
    api.daemon.up();
    let browser = Browser { api: &api, cookie };
    browser.until_status("the session is known again", 200);
    api.postgres.psql("UPDATE tallyd_page_sessions SET expires_at = now()");
    browser.until_status("its time is over", 401);
}

#[test]
fn an_admin_signs_in_with_a_jwt_and_is_out_once_demoted() {
    let ec = Signer::ec("ec", EC_KEYS[0]);
    let issuer = Issuer::start(&[&ec]);
    let api = Api::with(&[("TALLYD_AUTH_ISSUER", &issuer.url), ("TALLYD_AUTH_ADMIN_TTL_MS", "0")]);
    let claims = issuer.claims();
    let (sub, exp) = (claims["sub"].as_str().unwrap(), claims["exp"].as_i64().unwrap());
    api.postgres.psql(
        "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid, raw_app_meta_data jsonb, banned_until timestamptz, \
         deleted_at timestamptz)",
    );
    api.postgres.psql(&format!("INSERT INTO auth.users VALUES ('{sub}', '{{\"role\": \"admin\"}}')"));
    let mut browser = Browser::new(&api);
    let session = browser.sign_in("token", text(&ec.bearer(&claims))).ok();
    assert_eq!(session["actor"], format!("user:{sub}"));
    let ends = chrono::DateTime::parse_from_rfc3339(session["expires_at"].as_str().unwrap()).unwrap();
    assert_eq!(ends.timestamp(), exp, "not after the JWT");
    assert_eq!(browser.get(PATH).status, 200);
    api.postgres.psql("UPDATE auth.users SET raw_app_meta_data = '{}'");
    assert_eq!(browser.get(PATH).status, 403, "demoted");
    assert_eq!(browser.get("/page/session").ok()["actor"], json!(null), "the page asks to sign in");
}

#[test]
fn a_link_signs_in_once_and_not_from_elsewhere() {
    let api = Api::start();
    let link = || {
        let output = api.daemon.run(&["open"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().split_once("/#open=").unwrap().1.to_owned()
    };
    let code = link();
    let body = json!({ "code": code }).to_string();
    let origin = format!("http://{}", api.address);
    let forwarded = [("origin", origin.as_str()), ("x-tallyd-page", "1"), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(api.send("POST", "/page/session", &forwarded, body.as_bytes()).status, 401, "through a proxy");
    let mut browser = Browser::new(&api);
    assert_eq!(browser.sign_in("code", &code).ok()["role"], "admin");
    assert_eq!(browser.get(PATH).status, 200);
    assert_eq!(Browser::new(&api).sign_in("code", &code).status, 401, "twice");
    assert_eq!(Browser::new(&api).sign_in("code", &link()).status, 200);
    assert_eq!(api.send("POST", "/open", &[], b"").status, 404, "on the local socket only");
}

#[test]
fn the_page_comes_with_a_policy_and_a_tag_and_over_https_its_cookie_is_secure() {
    let api = Api::start();
    let page = api.send("GET", "/", &[], b"");
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let tag = page.header("etag").unwrap();
    assert_eq!(api.send("GET", "/", &[("if-none-match", tag)], b"").status, 304);
    assert_eq!(api.send("GET", "/assets/none.js", &[], b"").code(), "not_found");
    let body = json!({ "token": text(&api.token("read")) }).to_string();
    let origin = format!("https://{}", api.address);
    let headers = [("origin", origin.as_str()), ("x-tallyd-page", "1"), ("x-forwarded-proto", "https")];
    let answer = api.send("POST", "/page/session", &headers, body.as_bytes());
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"), "{:?}", answer.headers);
}
