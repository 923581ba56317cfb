//! Signing in to the page by e-mail address and password, with a stand-in for Supabase Auth.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::client::{Answer, Api};
use crate::issuer::{EC_KEYS, Signer, admin_claims};
use crate::stub::{Asked, serve};
use crate::support::until;

const KEY: &str = "sb_publishable_test";

/// The stand-in's state.
#[derive(Default)]
struct State {
    /// The refresh token that is valid, once.
    refresh: Option<String>,
    made: u32,
    signed_out: Vec<String>,
    /// The issued tokens: an access token and a refresh token each time.
    tokens: Vec<String>,
    admin: bool,
    /// An answer to give instead of the usual one.
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
        let access_token = signer.sign(&claims);
        self.tokens.push(access_token.clone());
        self.tokens.extend(self.refresh.clone());
        (
            200,
            json!({ "access_token": access_token, "token_type": "bearer", "expires_in": 3600, "refresh_token": self.refresh, "user": {} }),
        )
    }
}

fn post(api: &Api, body: &Value, cookie: &str, proof: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("cookie", cookie), ("x-tallyd-page", proof)];
    api.send("POST", "/session", &headers, body.to_string().as_bytes())
}

fn sign_in(api: &Api, password: &str) -> Answer {
    post(api, &json!({ "password": { "email": "ada@example.com", "password": password } }), "", "1")
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
    let [(name, id, attributes)] = set.as_slice() else { panic!("{set:?}") };
    assert!(attributes.contains("Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"), "{set:?}");
    let cookie = format!("{name}={id}");
    let proof = answer.json()["proof"].as_str().unwrap().to_owned();
    let tokens = gotrue.state().tokens.clone();
    assert!(tokens.iter().all(|token| !answer.text().contains(token) && !cookie.contains(token)), "no token goes out");
    let stored = api.postgres.psql("SELECT s::text FROM public.tallyd_page_sessions s");
    assert!(tokens.iter().chain([id, &proof]).all(|secret| !stored.contains(secret.as_str())), "{stored}");

    let ask = || api.send("GET", "/api/v1/costs", &[("cookie", &cookie), ("x-tallyd-page", &proof)], b"");
    assert_eq!(ask().status, 200);
    let renewal = || post(&api, &json!({ "renewal": {} }), &cookie, &proof);
    assert_eq!(renewal().ok()["role"], "admin");
    assert_eq!(gotrue.state().made, 1, "the access token is still good");
    // The access token expires.
    api.postgres.psql("UPDATE public.tallyd_page_sessions SET valid_until = now()");
    until("the session has to be renewed", || if ask().status == 401 { Ok(()) } else { Err("200".into()) });
    assert_eq!(post(&api, &json!({ "renewal": {} }), &cookie, &"0".repeat(64)).code(), "unauthorized");
    assert_eq!(post(&api, &json!({ "renewal": {} }), "", &proof).code(), "unauthorized");
    assert_eq!(gotrue.state().made, 1, "it was not asked");
    // Two tabs renew at once with a refresh token that is valid once.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tabs = [scope.spawn(|| renewal().status), scope.spawn(|| renewal().status)];
        tabs.map(|tab| tab.join().unwrap()).to_vec()
    });
    assert_eq!((statuses, gotrue.state().made), (vec![200, 200], 2));
    assert_eq!(ask().status, 200);

    let out = api.send("DELETE", "/session", &[("cookie", &cookie), ("x-tallyd-page", &proof)], b"");
    assert_eq!(out.status, 204);
    assert!(cookies(&out).iter().all(|(_, value, rest)| value.is_empty() && rest.contains("Max-Age=0")));
    let state = gotrue.state();
    assert_eq!(state.signed_out, [format!("Bearer {}", state.tokens[2])], "the access token of the renewal");
    drop(state);
    assert_eq!(renewal().code(), "unauthorized");
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
    // A token with a wrong signature is refused, even from the right address.
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
