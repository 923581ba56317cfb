//! JWTs: accepted and refused ones, with the reasons, and changes of the issuer's keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::client::Api;
use crate::issuer::{EC_KEYS, Issuer, RSA_KEY, Signer, now};
use crate::support::until;

const PATH: &str = "/api/admin/costs";

fn api(issuer: &Issuer, more: &[(&str, &str)]) -> Api {
    let mut settings = vec![
        ("TALLYD_AUTH_ISSUER", issuer.url.as_str()),
        ("TALLYD_AUTH_ADMIN_TTL_MS", "0"),
        ("TALLYD_AUTH_JWKS_REFETCH_MS", "50"),
        ("TALLYD_AUTH_FAILURES_PER_MINUTE", "1000"),
    ];
    settings.extend_from_slice(more);
    Api::with(&settings)
}

fn with(mut claims: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn a_token_is_let_in_or_refused_for_its_own_reason_and_counted() {
    let (ec, rsa) = (Signer::ec("ec", EC_KEYS[0]), Signer::rsa("rsa", RSA_KEY));
    let issuer = Issuer::start(&[&ec, &rsa]);
    let api = api(&issuer, &[]);
    let good = issuer.claims();
    let stranger = Signer::ec("ec", EC_KEYS[1]);
    let unknown = Signer::ec("nobody", EC_KEYS[1]);
    // The public key is not a secret: a token signed with it as one must not be accepted.
    let confused = Signer::secret("ec", ec.jwk().to_string().as_bytes());
    let none = |alg: &str| {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "ec"}).to_string();
        format!(
            "Bearer {}.{}.",
            URL_SAFE_NO_PAD.encode(header.as_bytes()),
            URL_SAFE_NO_PAD.encode(good.to_string().as_bytes())
        )
    };
    let genuine = ec.bearer(&good);
    let payload_changed = {
        let parts: Vec<&str> = genuine.split('.').collect();
        let other = with(good.clone(), &[("sub", json!("somebody else"))]).to_string();
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(other.as_bytes()), parts[2])
    };
    let user_metadata = json!({"role": "admin", "is_admin": true});
    let plain = with(good.clone(), &[("app_metadata", json!({})), ("user_metadata", user_metadata)]);
    let (later, earlier) = (json!(now() + 600), json!(now() - 600));
    let cases: Vec<(&str, String, u16, &str)> = vec![
        ("ES256", genuine.clone(), 200, ""),
        ("RS256", rsa.bearer(&good), 200, ""),
        (
            "an audience among several",
            ec.bearer(&with(good.clone(), &[("aud", json!(["x", "authenticated"]))])),
            200,
            "",
        ),
        ("no token", String::new(), 401, "missing"),
        ("no bearer", genuine.replace("Bearer", "Basic"), 401, "malformed"),
        ("no JWT", "Bearer nonsense".into(), 401, "malformed"),
        ("two dots and nothing", "Bearer ..".into(), 401, "malformed"),
        ("a changed payload", payload_changed, 401, "signature"),
        ("no signature", genuine[..=genuine.rfind('.').unwrap()].into(), 401, "signature"),
        ("another's key", stranger.bearer(&good), 401, "signature"),
        ("an unknown key", unknown.bearer(&good), 401, "unknown_key"),
        ("HS256 with the public key", confused.bearer(&good), 401, "algorithm"),
        ("alg none", none("none"), 401, "algorithm"),
        ("alg None", none("None"), 401, "algorithm"),
        ("alg HS512", none("HS512"), 401, "algorithm"),
        ("alg RS256 for an EC key", none("RS256"), 401, "algorithm"),
        ("expired", ec.bearer(&with(good.clone(), &[("exp", earlier.clone())])), 401, "expired"),
        ("without an end", ec.bearer(&without(good.clone(), "exp")), 401, "malformed"),
        ("an end that is text", ec.bearer(&with(good.clone(), &[("exp", json!("never"))])), 401, "malformed"),
        ("not yet valid", ec.bearer(&with(good.clone(), &[("nbf", later)])), 401, "not_yet_valid"),
        ("another issuer", ec.bearer(&with(good.clone(), &[("iss", json!("https://evil.example"))])), 401, "issuer"),
        ("no issuer", ec.bearer(&without(good.clone(), "iss")), 401, "issuer"),
        ("another audience", ec.bearer(&with(good.clone(), &[("aud", json!("anon"))])), 401, "audience"),
        ("no audience", ec.bearer(&without(good.clone(), "aud")), 401, "audience"),
        ("no subject", ec.bearer(&without(good.clone(), "sub")), 401, "malformed"),
        ("an admin in user_metadata only", ec.bearer(&plain), 403, "not_admin"),
        (
            "a role that is an object",
            ec.bearer(&with(good.clone(), &[("app_metadata", json!({"role": ["admin"]}))])),
            403,
            "not_admin",
        ),
        ("a static token that is none", "Bearer tallyd_1_00".into(), 401, "unknown_token"),
        ("a long token", format!("Bearer {}.a.b", "a".repeat(9_000)), 401, "malformed"),
    ];
    for (what, bearer, status, reason) in cases {
        let line = format!("tallyd_auth_failures_total{{reason=\"{reason}\"}} ");
        let before = api.metric(&line);
        let answer = api.get(PATH, &bearer);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status != 200 {
            let code = if status == 401 { "unauthorized" } else { "forbidden" };
            assert_eq!(answer.code(), code, "{what}");
            assert!(!answer.text().contains("total"), "{what}: {}", answer.text());
            assert_eq!(api.metric(&line), before + 1.0, "{what} is counted as {reason}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{what}");
        }
    }
}

#[test]
fn a_row_of_user_profiles_makes_an_admin_for_as_long_as_it_says_so() {
    let ec = Signer::ec("ec", EC_KEYS[0]);
    // An issuer whose keys are at another address, and whose tokens have another audience.
    let (issuer, keys) = (Issuer::start(&[]), Issuer::start(&[&ec]));
    let jwks = format!("{}/.well-known/jwks.json", keys.url);
    let api = api(&issuer, &[("TALLYD_AUTH_JWKS_URL", &jwks), ("TALLYD_AUTH_AUDIENCE", "ours")]);
    assert_eq!(api.get(PATH, &ec.bearer(&issuer.claims())).status, 401, "the audience by default");
    let claims = with(issuer.claims(), &[("aud", json!("ours"))]);
    let plain = without(claims.clone(), "app_metadata");
    let (sub, bearer) = (plain["sub"].as_str().unwrap().to_owned(), ec.bearer(&plain));
    assert_eq!(api.get(PATH, &bearer).status, 403);
    api.postgres.psql("CREATE TABLE user_profiles (id uuid PRIMARY KEY, is_admin boolean)");
    assert_eq!(api.get(PATH, &bearer).status, 403);
    api.postgres.psql(&format!("INSERT INTO user_profiles VALUES ('{sub}', true)"));
    assert_eq!(api.get(PATH, &bearer).status, 200);
    api.postgres.psql("UPDATE user_profiles SET is_admin = false");
    assert_eq!(api.get(PATH, &bearer).status, 403);
    // The claims of an hour ago are checked against the issuer's own table.
    let claimed = ec.bearer(&claims);
    assert_eq!(api.get(PATH, &claimed).status, 200);
    let users = "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid, raw_app_meta_data jsonb, banned_until timestamptz, \
        deleted_at timestamptz)";
    api.postgres.psql(users);
    assert_eq!(api.get(PATH, &claimed).status, 403, "the user is gone");
    api.postgres.psql(&format!("INSERT INTO auth.users VALUES ('{sub}', '{{\"role\": \"admin\"}}')"));
    assert_eq!(api.get(PATH, &claimed).status, 200);
    api.postgres.psql("UPDATE auth.users SET banned_until = now() + interval '1 day'");
    assert_eq!(api.get(PATH, &claimed).status, 403, "the user is banned");
    api.postgres.psql("UPDATE auth.users SET banned_until = NULL, raw_app_meta_data = '{}'");
    assert_eq!(api.get(PATH, &claimed).status, 403, "the user was demoted");
}

#[test]
fn keys_are_rotated_served_stale_and_not_fetched_for_every_stranger() {
    let (old, new) = (Signer::ec("old", EC_KEYS[0]), Signer::ec("new", EC_KEYS[1]));
    let issuer = Issuer::start(&[&old]);
    let api = api(&issuer, &[("TALLYD_AUTH_JWKS_TTL_MS", "100"), ("TALLYD_AUTH_JWKS_REFETCH_MS", "1000")]);
    let claims = issuer.claims();
    assert_eq!(api.get(PATH, &old.bearer(&claims)).status, 200);
    let before = issuer.fetches();
    for number in 0..20 {
        let stranger = Signer::ec(&format!("stranger-{number}"), EC_KEYS[1]);
        assert_eq!(api.get(PATH, &stranger.bearer(&claims)).status, 401);
    }
    // At most one a second, and a busy machine may take a few for the loop.
    assert!(issuer.fetches() - before < 20, "{} fetches", issuer.fetches() - before);
    issuer.fail();
    assert_eq!(api.get(PATH, &old.bearer(&claims)).status, 200, "stale keys serve");
    issuer.publish(&[&new]);
    until("the new key is known", || match api.get(PATH, &new.bearer(&claims)).status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(api.get(PATH, &old.bearer(&claims)).status, 401, "the old key is gone");
}

#[test]
fn stale_keys_serve_within_their_bound_only() {
    let ec = Signer::ec("ec", EC_KEYS[0]);
    let issuer = Issuer::start(&[&ec]);
    let api = api(&issuer, &[("TALLYD_AUTH_JWKS_TTL_MS", "100"), ("TALLYD_AUTH_JWKS_MAX_STALE_MS", "0")]);
    let bearer = ec.bearer(&issuer.claims());
    assert_eq!(api.get(PATH, &bearer).status, 200);
    issuer.fail();
    until("nobody is let in with keys that are too old", || match api.get(PATH, &bearer).status {
        503 => Ok(()),
        other => Err(other.to_string()),
    });
}

#[test]
fn a_shared_secret_verifies_hs256_and_nothing_else() {
    let secret = "a shared secret of more than thirty-two bytes";
    let hs = Signer::secret("", secret.as_bytes());
    let ec = Signer::ec("ec", EC_KEYS[0]);
    let issuer = Issuer::start(&[&ec]);
    let api = api(&issuer, &[("TALLYD_AUTH_HS256_SECRET", secret)]);
    assert_eq!(api.get(PATH, &hs.bearer(&issuer.claims())).status, 200);
    assert_eq!(api.get(PATH, &Signer::secret("", b"another").bearer(&issuer.claims())).status, 401);
    assert_eq!(api.get(PATH, &ec.bearer(&issuer.claims())).status, 401);
    assert_eq!(issuer.fetches(), 0);
}

#[test]
fn an_address_that_fails_often_is_told_so_and_its_valid_tokens_are_let_in() {
    let ec = Signer::ec("ec", EC_KEYS[0]);
    let issuer = Issuer::start(&[&ec]);
    let settings = [("TALLYD_AUTH_FAILURES_PER_MINUTE", "5"), ("TALLYD_HTTP_TRUSTED_PROXIES", "1")];
    let api = api(&issuer, &settings);
    let (good, token) = (ec.bearer(&issuer.claims()), api.token("read"));
    let from = |address: &str, bearer: &str| {
        api.send("GET", PATH, &[("authorization", bearer), ("x-forwarded-for", address)], b"")
    };
    for _ in 0..5 {
        assert_eq!(from("9.9.9.9, 192.0.2.7", "Bearer a.b.c").status, 401);
    }
    for wrong in ["Bearer a.b.c", "Bearer tallyd_1_00", &format!("{}x", &good[..good.len() - 1])] {
        let refused = from("192.0.2.7", wrong);
        assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_failures"), "{wrong}");
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(from("192.0.2.7", &good).status, 200, "others share the address");
    assert_eq!(from("192.0.2.7", &token).status, 200);
    assert_eq!(from("192.0.2.8", "Bearer a.b.c").status, 401, "another address");
    let written = from("192.0.2.7, 192.0.2.8", "Bearer a.b.c");
    assert_eq!(written.status, 401, "what a client writes into the header is not believed");
}
