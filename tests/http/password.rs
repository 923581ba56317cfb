//! Signing in to the page by e-mail address and password, with a stand-in for Supabase Auth.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::client::{Answer, Api};
use crate::issuer::{EC_KEYS, Signer, admin_claims};
use crate::stub::{Asked, serve};

const KEY: &str = "sb_publishable_test";

/// What the stand-in knows and was told.
#[derive(Default)]
struct State {
    /// Each refresh token is good once.
    refresh: Option<String>,
    made: u32,
    signed_out: Vec<String>,
    /// Whether the user is an admin.
    admin: bool,
    /// What is answered instead, if anything.
    instead: Option<(u16, Value)>,
}

struct Gotrue {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Gotrue {
    fn start() -> Self {
        let signer = Signer::ec("one", EC_KEYS[0]);
        let state = Arc::new(Mutex::new(State { admin: true, ..State::default() }));
        let known = Arc::clone(&state);
        let url = serve(move |asked| {
            let issuer = format!("http://{}/auth/v1", asked.header("host"));
            let (status, body) = known.lock().unwrap().answer(asked, &signer, &issuer);
            (status, body.to_string())
        });
        Self { url: format!("{url}/auth/v1"), state }
    }

    fn api(&self) -> Api {
        Api::with(&[("TALLYD_AUTH_ISSUER", &self.url), ("TALLYD_AUTH_PUBLISHABLE_KEY", KEY)])
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self, asked: &Asked, signer: &Signer, issuer: &str) -> (u16, Value) {
        if asked.line.contains("jwks.json") {
            return (200, json!({ "keys": [signer.jwk()] }));
        }
        if let Some(instead) = &self.instead {
            return instead.clone();
        }
        if asked.header("apikey") != KEY {
            return (401, json!({ "message": "Invalid API key" }));
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let wrong =
            (400, json!({ "code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials" }));
        match asked.line.as_str() {
            "POST /auth/v1/token?grant_type=password"
                if body["email"] == "ada@example.com" && body["password"] == "right" => {}
            "POST /auth/v1/token?grant_type=refresh_token" => {
                let known = self.refresh.take().is_some_and(|known| body["refresh_token"] == known.as_str());
                if !known {
                    return (
                        400,
                        json!({ "code": 400, "error_code": "refresh_token_already_used", "msg": "Already Used" }),
                    );
                }
            }
            "POST /auth/v1/logout?scope=local" => {
                self.signed_out.push(asked.header("authorization").to_owned());
                return (204, Value::Null);
            }
            _ => return wrong,
        }
        self.made += 1;
        self.refresh = Some(format!("refresh-{}", self.made));
        let mut claims = admin_claims(issuer);
        claims["session_id"] = json!(self.made);
        if !self.admin {
            claims["app_metadata"] = json!({});
        }
        (
            200,
            json!({ "access_token": signer.sign(&claims), "token_type": "bearer", "expires_in": 3600, "refresh_token": self.refresh, "user": {} }),
        )
    }
}

fn post(api: &Api, body: &Value, cookies: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("cookie", cookies)];
    api.send("POST", "/session", &headers, body.to_string().as_bytes())
}

fn sign_in(api: &Api, password: &str) -> Answer {
    post(api, &json!({ "password": { "email": "ada@example.com", "password": password } }), "")
}

/// The cookies that an answer sets, as a browser keeps them: name, value, the rest.
fn cookies(answer: &Answer) -> Vec<(String, String, String)> {
    let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value);
    set.map(|text| {
        let (pair, rest) = text.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned(), rest.to_owned())
    })
    .collect()
}

#[test]
fn a_password_signs_an_admin_in_and_the_session_goes_on_and_ends() {
    let gotrue = Gotrue::start();
    let api = gotrue.api();
    assert_eq!(api.get("/session/ways", "").ok(), json!({ "password": true }));
    let answer = sign_in(&api, "right");
    assert_eq!(answer.ok()["actor"], "user:5e0e2c5f-3b5e-4c7b-9a55-6a0a3f0f7d11");
    let set = cookies(&answer);
    assert_eq!((set[0].0.as_str(), set[1].0.as_str()), ("tallyd_session", "tallyd_renewal"));
    assert!(set[0].2.contains("HttpOnly; SameSite=Strict; Max-Age=3600"), "as long as the token: {set:?}");
    assert!(set[1].2.contains("Path=/session; HttpOnly; SameSite=Strict; Max-Age=43200"), "{set:?}");
    assert!(!answer.text().contains(&set[0].1) && !answer.text().contains("refresh"), "no script sees a token");

    // The browser has forgotten the first cookie.
    let renewal = format!("tallyd_renewal={}", set[1].1);
    let renewed = post(&api, &json!({ "renewal": {} }), &renewal);
    assert_eq!(renewed.ok()["role"], "admin");
    let next = cookies(&renewed);
    assert!(next[0].1 != set[0].1 && next[1].1 != set[1].1);
    let session = format!("tallyd_session={}; tallyd_renewal={}", next[0].1, next[1].1);
    assert_eq!(api.send("GET", "/api/v1/costs", &[("cookie", &session)], b"").status, 200);
    assert_eq!(post(&api, &json!({ "renewal": {} }), &renewal).code(), "unauthorized", "a refresh token is good once");
    assert_eq!(post(&api, &json!({ "renewal": {} }), "").code(), "unauthorized");

    let out = api.send("DELETE", "/session", &[("cookie", &session)], b"");
    assert_eq!(out.status, 204);
    assert!(cookies(&out).iter().all(|(_, value, rest)| value.is_empty() && rest.contains("Max-Age=0")));
    assert_eq!(gotrue.state().signed_out, [format!("Bearer {}", next[0].1)]);
}

#[test]
fn who_does_not_get_in_is_told_why() {
    let gotrue = Gotrue::start();
    let api = gotrue.api();
    let wrong = sign_in(&api, "wrong");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.text().contains("do not match"), "{}", wrong.text());
    assert_eq!(api.metric(r#"tallyd_auth_failures_total{reason="password"}"#), 1.0);
    gotrue.state().admin = false;
    let user = sign_in(&api, "right");
    assert_eq!((user.status, user.code().as_str(), user.header("set-cookie")), (403, "forbidden", None));
    let unconfirmed = json!({ "code": 400, "error_code": "email_not_confirmed", "msg": "Email not confirmed" });
    for (instead, status, text) in [
        ((400, unconfirmed), 401, "not confirmed"),
        ((429, json!({ "error_code": "over_request_rate_limit" })), 429, "too often"),
        ((500, json!({})), 503, "did not sign anybody in"),
        ((200, json!({ "access_token": 1 })), 503, "not understood"),
    ] {
        gotrue.state().instead = Some(instead);
        let answer = sign_in(&api, "right");
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(text), "{}", answer.text());
    }
    // A stranger's token is a stranger's, whoever hands it out.
    let forged = Signer::ec("one", EC_KEYS[1]).sign(&admin_claims(&gotrue.url));
    let forged = json!({ "access_token": forged, "expires_in": 3600, "refresh_token": "r" });
    gotrue.state().instead = Some((200, forged));
    assert_eq!(sign_in(&api, "right").status, 401);
}

#[test]
fn many_wrong_passwords_are_not_passed_on() {
    let gotrue = Gotrue::start();
    let settings = [("TALLYD_AUTH_ISSUER", gotrue.url.as_str()), ("TALLYD_AUTH_PUBLISHABLE_KEY", KEY)];
    let api = Api::with(&[settings[0], settings[1], ("TALLYD_AUTH_FAILURES_PER_MINUTE", "6")]);
    let statuses: Vec<u16> = (0..12).map(|_| sign_in(&api, "wrong").status).collect();
    assert!(statuses.contains(&401) && statuses.ends_with(&[429, 429]), "{statuses:?}");
    assert_eq!(sign_in(&api, "right").status, 429);
    assert_eq!(gotrue.state().made, 0, "it was not asked");
}

#[test]
fn without_a_key_there_is_no_such_way() {
    let api = Api::start();
    assert_eq!(api.get("/session/ways", "").ok(), json!({ "password": false }));
    assert_eq!(sign_in(&api, "right").code(), "not_found");
}
