//! The page's session under attack: by another program on the host, to which browsers send the page's cookie, too; and
//! by requests that another site's page makes a browser send.

#[allow(dead_code, reason = "the HTTP tests use the rest of it")]
use serde_json::json;

use crate::client::{Answer, Api, send};
use crate::support::daemon::Daemon;
use crate::support::until;

const JSON: (&str, &str) = ("content-type", "application/json");
const PAGE: (&str, &str) = ("x-tallyd-page", "1");
/// Every try of these tests must be checked, not refused as too frequent.
const EACH_TRY: (&str, &str) = ("TALLYD_AUTH_FAILURES_PER_MINUTE", "10000");

/// Cookie and proof of a browser that has signed in with `header`'s token.
fn sign_in(api: &Api, header: &str) -> (String, String) {
    let body = json!({ "token": header.strip_prefix("Bearer ").unwrap() }).to_string();
    let answer = api.send("POST", "/session", &[JSON, PAGE], body.as_bytes());
    let proof = answer.ok()["proof"].as_str().expect("a session has a proof").to_owned();
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (cookie, proof)
}

fn ask(address: &str, path: &str, cookie: &str, proof: &str) -> u16 {
    send(address, "GET", path, &[("cookie", cookie), ("x-tallyd-page", proof)], b"").status
}

#[test]
fn the_cookie_that_every_port_of_the_host_receives_opens_nothing() {
    let api = Api::with(&[EACH_TRY]);
    let admin = api.token("admin");
    let (cookie, proof) = sign_in(&api, &admin);
    let id = cookie.split_once('=').unwrap().1;
    assert!(!admin.contains(id), "the cookie is the token");
    assert_eq!(ask(&api.address, "/api/v1/costs", &cookie, &proof), 200);

    let bearers = [format!("Bearer {id}"), format!("Bearer {proof}"), format!("Bearer {id}{proof}")];
    let zeros = "0".repeat(64);
    let replays: [&[(&str, &str)]; 9] = [
        &[("authorization", &bearers[0])],
        &[("authorization", &bearers[1])],
        &[("authorization", &bearers[2])],
        &[("cookie", &cookie)],
        &[("cookie", &cookie), PAGE],
        &[("cookie", &cookie), ("x-tallyd-page", id)],
        &[("cookie", &cookie), ("x-tallyd-page", &zeros)],
        &[("cookie", &cookie), ("x-tallyd-page", &proof), ("sec-fetch-site", "same-site")],
        &[("cookie", &cookie), ("x-tallyd-page", &proof), ("origin", "http://127.0.0.1:1")],
    ];
    for headers in replays {
        for (method, path) in [("GET", "/api/v1/costs"), ("GET", "/session"), ("PUT", "/api/v1/budgets")] {
            let answer = api.send(method, path, headers, br#"{"period":"day","amount_usd":"1"}"#);
            assert!(matches!(answer.status, 401 | 403), "{method} {path} {headers:?}: {}", answer.text());
        }
        assert_ne!(api.send("DELETE", "/session", headers, b"").status, 200, "{headers:?}");
    }
    assert_eq!(ask(&api.address, "/api/v1/costs", &cookie, &proof), 200, "nobody has ended it");

    // The session works for the page only: neither for recording nor for the endpoints of other programs.
    for (method, path) in [("POST", "/api/v1/records"), ("GET", "/api/admin/costs"), ("POST", "/v1/traces")] {
        let answer = api.send(method, path, &[("cookie", &cookie), ("x-tallyd-page", &proof), JSON], b"[]");
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
    }
    // A token is not accepted from a cookie.
    for token in [admin.strip_prefix("Bearer ").unwrap(), "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(ask(&api.address, "/api/v1/costs", &format!("tallyd_session={token}"), &proof), 401);
    }
    // The table's contents do not open a session.
    let table = api.postgres.psql("SELECT s::text FROM public.tallyd_page_sessions s");
    assert!(!table.is_empty() && !table.contains(id) && !table.contains(&proof), "{table}");
}

#[test]
fn nobody_is_signed_in_by_another_sites_page() {
    let api = Api::with(&[EACH_TRY]);
    let admin = api.token("admin");
    let body = json!({ "token": admin.strip_prefix("Bearer ").unwrap() }).to_string();
    let evil = ("origin", "https://evil.example");
    let own_origin = format!("http://{}", api.address);
    let forged: [(&[(&str, &str)], u16); 10] = [
        // As a form of another site sends it.
        (&[("content-type", "text/plain"), evil], 403),
        (&[("content-type", "text/plain"), ("sec-fetch-site", "cross-site")], 403),
        (&[("content-type", "text/plain")], 403),
        (&[("content-type", "text/plain"), PAGE], 415),
        (&[PAGE], 415),
        (&[JSON], 403),
        (&[JSON, evil, PAGE], 403),
        (&[JSON, ("origin", "null"), PAGE], 403),
        (&[JSON, ("sec-fetch-site", "cross-site"), PAGE], 403),
        // Another port of this host.
        (&[JSON, ("sec-fetch-site", "same-site"), ("origin", &own_origin), PAGE], 403),
    ];
    for (headers, status) in forged {
        let answer: Answer = api.send("POST", "/session", headers, body.as_bytes());
        assert_eq!((answer.status, answer.header("set-cookie")), (status, None), "{headers:?}: {}", answer.text());
    }
    assert_eq!(api.metric(r#"tallyd_auth_failures_total{reason="cross_site"}"#), 8.0);
    let own = [JSON, PAGE, ("sec-fetch-site", "same-origin"), ("origin", &own_origin)];
    assert_eq!(api.send("POST", "/session", &own, body.as_bytes()).status, 200);
}

#[test]
fn a_session_survives_a_restart_holds_on_every_daemon_and_ends_on_all() {
    let mut api = Api::with(&[EACH_TRY]);
    let mut beside = Daemon::on(&api.postgres.url());
    let second = crate::client::free_address();
    beside.set("TALLYD_HTTP_LISTEN", &second);
    beside.set(EACH_TRY.0, EACH_TRY.1);
    let _beside = beside.start();
    let read = api.token("read");
    until("the second daemon knows the token", || {
        match send(&second, "GET", "/session", &[("authorization", &read)], b"") {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.text()),
        }
    });
    let (cookie, proof) = sign_in(&api, &read);
    assert_eq!(ask(&second, "/api/v1/costs", &cookie, &proof), 200, "at once, on the other daemon");
    api.daemon.terminate();
    api.daemon.up();
    until("the daemon is back", || match ask(&api.address, "/api/v1/costs", &cookie, &proof) {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    let out = api.send("DELETE", "/session", &[("cookie", &cookie), ("x-tallyd-page", &proof)], b"");
    assert_eq!(out.status, 204, "{}", out.text());
    assert_eq!(ask(&api.address, "/api/v1/costs", &cookie, &proof), 401);
    until("it is over on the other daemon", || match ask(&second, "/api/v1/costs", &cookie, &proof) {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_eq!(api.get("/api/v1/costs", &read).status, 200, "the token goes on");
}

#[test]
fn one_token_keeps_a_bounded_number_of_sessions() {
    let api = Api::with(&[EACH_TRY]);
    let read = api.token("read");
    let (first, proof) = sign_in(&api, &read);
    let (honest, honest_proof) = sign_in(&api, &api.token("admin"));
    for _ in 0..20 {
        sign_in(&api, &read);
    }
    assert_eq!(api.postgres.psql("SELECT count(*) FROM public.tallyd_page_sessions").trim(), "21");
    until("the oldest is over", || match ask(&api.address, "/session", &first, &proof) {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_eq!(ask(&api.address, "/session", &honest, &honest_proof), 200, "another's stays");
}
