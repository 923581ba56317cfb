//! An admin's changes over HTTP: budgets, prices, decisions about dead letters. Each has its entry in the audit log.

use serde_json::{Value, json};

use crate::client::Api;
use crate::legacy::loaded;
use crate::support::until;

fn put(api: &Api, path: &str, token: &str, body: &Value) -> crate::client::Answer {
    let headers = [("authorization", token), ("content-type", "application/json")];
    api.send("PUT", path, &headers, body.to_string().as_bytes())
}

fn delete(api: &Api, path: &str, token: &str) -> crate::client::Answer {
    api.send("DELETE", path, &[("authorization", token)], b"")
}

fn actions(api: &Api, token: &str) -> Vec<String> {
    let entries = api.get("/api/v1/audit?limit=1000", token).ok()["entries"].clone();
    let found = entries.as_array().unwrap().iter().rev();
    found.map(|entry| format!("{} {}", entry["action"].as_str().unwrap(), entry["object"].as_str().unwrap())).collect()
}

#[test]
fn a_budget_is_set_shown_changed_and_removed() {
    let api = loaded();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let budget = json!({"period": "month", "amount_usd": "25.50"});
    assert_eq!(put(&api, "/api/v1/budgets", &read, &budget).code(), "forbidden");
    let id = put(&api, "/api/v1/budgets", &admin, &budget).ok()["id"].clone();
    let changed = json!({"period": "month", "amount_usd": 30, "limit": "soft"});
    let answer = put(&api, "/api/v1/budgets", &admin, &changed).ok();
    assert_eq!((&answer["id"], &answer["replaced"]["amount_usd"]), (&id, &json!("25.5")));
    assert_eq!(answer["note"], Value::Null);
    let scoped = json!({"scope": {"provider": "Anthropic"}, "period": "day", "amount_usd": "0"});
    assert_eq!(put(&api, "/api/v1/budgets", &admin, &scoped).ok()["note"], Value::Null);
    let found = api.get("/api/v1/budgets", &read).ok();
    let rows = found["budgets"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["amount_usd"], &rows[0]["limit"]), (&json!("30"), &json!("soft")));
    assert_eq!((&rows[1]["scope"], &rows[1]["limit"]), (&json!({"provider": "claude"}), &json!("hard")));
    for (wrong, says) in [
        (json!({"period": "year", "amount_usd": "1"}), "year"),
        (json!({"period": "day", "amount_usd": "-1"}), "amount_usd"),
        (json!({"period": "day", "amount_usd": "1", "scope": "user"}), "expected a map"),
        (json!({"period": "day", "amount_usd": "1", "scope": {"user": ""}}), "the name of user is not 1 to 512 bytes"),
        (json!({"period": "day", "amount_usd": "1", "scope": {"colour": "x"}}), "no such dimension"),
        (
            json!({"period": "day", "amount_usd": "1", "scope": {"user": "x", "model": "m"}}),
            "no rollup tells model and user apart",
        ),
        (json!({"period": "day", "amount_usd": "1", "scope": {"tag:run": "7"}}), "the tag run is not a dimension"),
        (json!({"period": "day", "amount_usd": "1", "limit": "firm"}), "firm"),
        (json!({"period": "day", "amount_usd": "1", "warning_percent": 101}), "warning_percent"),
        (json!({"period": "day", "amount_usd": "1", "alert_percents": [0]}), "alert_percents"),
        (json!({"period": "day", "amount_usd": "1", "colour": 1}), "colour"),
    ] {
        let answer = put(&api, "/api/v1/budgets", &admin, &wrong);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{wrong}");
        assert!(answer.text().contains(says), "{wrong}: {}", answer.text());
    }
    // A budget for a name without calls is set, with a note.
    for (scope, value, says) in [
        ("provider", "rentcats", "no call has had the provider \"rentcats\"; near names: rentcast"),
        ("model", "claude-sonet-4", "no call has had the model \"claude-sonet-4\"; near names: claude-sonnet-4"),
        ("user", "u-9", "no call has had the user \"u-9\"; near names: u-1, u-2, u-3"),
        ("app", "wep", "no call has had the application \"wep\"; near names: web"),
    ] {
        let slip = json!({"scope": {scope: value}, "period": "day", "amount_usd": "1"});
        let answer = put(&api, "/api/v1/budgets", &admin, &slip).ok();
        assert!(answer["note"].as_str().unwrap_or_default().starts_with(says), "{answer}");
        assert_eq!(delete(&api, &format!("/api/v1/budgets/{}", answer["id"]), &admin).status, 204);
    }
    assert_eq!(delete(&api, &format!("/api/v1/budgets/{id}"), &read).status, 403);
    assert_eq!(delete(&api, &format!("/api/v1/budgets/{id}"), &admin).status, 204);
    assert_eq!(delete(&api, &format!("/api/v1/budgets/{id}"), &admin).code(), "not_found");
    assert_eq!(delete(&api, "/api/v1/budgets/first", &admin).code(), "invalid_parameter");
    let set = ["budget.set everything/month", "budget.set everything/month", "budget.set provider=claude/day"];
    let removed = format!("budget.remove {id}");
    let found = actions(&api, &admin);
    assert_eq!(found.iter().filter(|one| one.starts_with("budget.")).take(3).collect::<Vec<_>>(), set);
    assert_eq!(found.last(), Some(&removed));
}

#[test]
fn what_is_changed_at_the_command_line_stands_in_the_audit_log() {
    let api = loaded();
    let admin = api.token("admin");
    let before = actions(&api, &admin).len();
    api.daemon.lines("{\"provider\":\"\",\"cost_usd\":\"0.5\"}\n{\"provider\":\"Anthropic\",\"input_tokens\":-1}\n");
    api.postgres.until("SELECT count(*) FROM dead_letters", "2");
    let run = |arguments: &[&str]| {
        let output = api.daemon.command(arguments).env("USER", "ada").env_remove("SUDO_USER").output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    let said = run(&["budgets", "set", "25", "--for", "user=u-1"]);
    assert!(!said.contains("no call has had"), "{said}");
    let said = run(&["budgets", "set", "30", "--for", "user=u-1"]);
    assert!(said.contains("30.00 USD a day for user=u-1, hard; it replaces one of 25.00 USD, hard"), "{said}");
    let id = api.postgres.psql("SELECT id FROM api_budgets WHERE scope ? 'user'");
    // Deletions need a confirmation: without --yes the command exits with 2, and --dry-run shows the rows.
    let is_confirmed = |arguments: &[&str], says: &str| {
        let so_far = actions(&api, &admin).len();
        let output = api.daemon.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("was not confirmed"), "{arguments:?}: {said}");
        let said = run(&[arguments, &["--dry-run"]].concat());
        assert!(said.contains(says) && said.contains("nothing was changed"), "{arguments:?}: {said}");
        assert_eq!(actions(&api, &admin).len(), so_far, "{arguments:?}");
    };
    is_confirmed(&["budgets", "remove", &id], "30.00 USD a day for user=u-1");
    run(&["budgets", "remove", &id, "--yes"]);
    run(&["prices", "set", "acme", "m", "--from", "2026-01-01", "--rate", "input=3", "--json"]);
    let price = api.postgres.psql("SELECT id FROM api_prices WHERE provider = 'acme'");
    run(&["prices", "alias", "acme", "mm", "m"]);
    is_confirmed(&["prices", "withdraw", &price], &format!("price {price} of acme m"));
    run(&["prices", "withdraw", &price, "--yes"]);
    is_confirmed(&["prices", "alias", "acme", "mm", "--remove"], "would not stand for a model");
    is_confirmed(&["token", "revoke", "1"], "would be revoked: token 1");
    for verb in ["list", "export"] {
        let said = run(&["dead-letters", verb, "--provider", "Clade"]);
        assert!(said.contains("no dead letter has the provider \"clade\"; near names: claude"), "{said}");
        let said = run(&["dead-letters", verb, "--provider", "Anthropic"]);
        assert!(said.contains("range") && !said.contains("no dead letter has"), "{said}");
    }
    run(&["dead-letters", "drop", "--kind", "refused", "--yes"]);
    let said = run(&["budgets", "set", "1", "--for", "model=claude-sonet-4"]);
    assert!(said.contains("no call has had the model \"claude-sonet-4\"; near names: claude-sonnet-4"), "{said}");
    // A name without calls is pointed out where it would give an empty list.
    let march = ["--from", "2026-03-01", "--to", "2026-03-02"];
    for (arguments, says) in [
        (
            vec!["costs", "--provider", "rentcats"],
            "no call of these days has the provider \"rentcats\"; near names: rentcast",
        ),
        (vec!["costs", "--model", "no-such"], "no call of these days has the model \"no-such\"; there are: "),
        (vec!["costs", "--app", "wep"], "no call of these days has the application \"wep\"; near names: web"),
        (vec!["costs", "--user", "u-9"], "no call of these days has the user \"u-9\"; near names: u-1, u-2, u-3"),
        (vec!["costs", "--user", "u-3", "--provider", "claude"], "no call has all of them"),
    ] {
        let said = run(&[&*arguments, &march].concat());
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    for (arguments, says) in [
        (
            vec!["dead-letters", "list", "--code", "missng"],
            "no dead letter has the reason \"missng\"; near names: missing",
        ),
        (vec!["dead-letters", "list", "--producer", "p"], "no dead letter has the sender \"p\""),
        (
            vec!["dead-letters", "export", "--code", "missng", "--provider", "x"],
            "no dead letter has the reason \"missng\"; near names: missing",
        ),
        (vec!["dead-letters", "export", "--provider", "x"], "no dead letter has the provider \"x\"; there are none"),
        (vec!["users", "list", "--search", "nobody"], "no user's id begins with \"nobody\""),
        (
            vec!["prices", "list", "--provider", "claud"],
            "no price of that time is of the provider \"claud\"; near names: claude",
        ),
        (vec!["forecast", "--provider", "acmee"], "the provider \"acmee\"; near names: acme"),
    ] {
        let said = run(&arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let expected = [
        "budget.set user=u-1/day".to_owned(),
        "budget.set user=u-1/day".to_owned(),
        format!("budget.remove {id}"),
        format!("price.add price {price}"),
        "alias.set acme mm".to_owned(),
        format!("price.withdraw price {price}"),
        "dead_letter.drop 2 letters".to_owned(),
        "budget.set model=claude-sonet-4/day".to_owned(),
    ];
    assert_eq!(actions(&api, &admin)[before..], expected);
    let who = "SELECT DISTINCT actor || '|' || address FROM tallyd_audit_log WHERE action NOT LIKE 'token.%'";
    assert_eq!(api.postgres.psql(who), "ada (command line)|");
}

#[test]
fn alerts_are_listed_acknowledged_and_kept() {
    let api = Api::with(&[("TALLYD_ALERTS_INTERVAL_MS", "100")]);
    let (admin, read) = (api.token("admin"), api.token("read"));
    put(&api, "/api/v1/budgets", &admin, &json!({"period": "day", "amount_usd": "1"})).ok();
    api.daemon.lines(r#"{"provider":"acme","cost_usd":"0.900000000000000001"}"#);
    let alerts = |query: &str| api.get(&format!("/api/v1/alerts{query}"), &read).ok();
    let found = until("both thresholds are told", || match alerts("") {
        found if found["new"] == 2 => Ok(found),
        other => Err(other.to_string()),
    });
    let rows = found["alerts"].as_array().unwrap();
    assert_eq!((&rows[0]["kind"], &rows[0]["details"]["percent"]), (&json!("budget"), &json!(80)));
    assert_eq!((&rows[0]["current"], &rows[0]["acknowledged_at"]), (&json!(true), &Value::Null));
    assert!(rows[0]["message"].as_str().unwrap().contains("0.90 of 1.00 USD since "), "{found}");
    let page = alerts("?limit=1");
    assert_eq!((page["alerts"].as_array().unwrap().len(), &page["next"]), (1, &rows[0]["id"]));
    assert_eq!(alerts(&format!("?limit=1&before={}", page["next"]))["alerts"][0]["id"], rows[1]["id"]);

    let path = "/api/v1/alerts/acknowledge";
    let one = json!({"ids": [rows[1]["id"]]}).to_string();
    assert_eq!(api.post(path, &read, &one).status, 403);
    for wrong in ["{}", r#"{"ids":[]}"#, r#"{"ids":[1],"up_to":2}"#] {
        assert_eq!(api.post(path, &admin, wrong).code(), "invalid_body", "{wrong}");
    }
    assert_eq!(api.post(path, &admin, &one).ok()["acknowledged"], 1);
    assert_eq!(api.post(path, &admin, &one).ok()["acknowledged"], 0, "once");
    let left = alerts("?only_new=true");
    assert_eq!((&left["new"], &left["alerts"][0]["id"]), (&json!(1), &rows[0]["id"]));
    // The same at the command line.
    let listed = api.daemon.run(&["alerts", "list"]);
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        said.contains("daily budget (all spend) 90 % used: 0.90 of 1.00 USD") && said.lines().count() == 2,
        "{said}"
    );
    let output = api.daemon.command(&["alerts", "acknowledge", "--all"]).env("USER", "ada").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 alert was acknowledged\n");
    assert_eq!(alerts("?only_new=true")["alerts"], json!([]));
    let kept = alerts("");
    let by = |at: usize| kept["alerts"][at]["acknowledged_by"].as_str().unwrap().to_owned();
    assert_eq!((by(0).as_str(), by(1).starts_with("token:")), ("ada (command line)", true));
    let seen = |entry: &&String| entry.starts_with("alert.acknowledge");
    assert_eq!(actions(&api, &admin).iter().filter(seen).count(), 2);
    // An alert of a period that is over is still there, and not current.
    api.postgres.psql("UPDATE api_alerts SET details = jsonb_set(details, '{period_start}', '\"2020-01-01\"')");
    assert_eq!(alerts("")["alerts"][0]["current"], false);
}

#[test]
fn the_overview_and_the_forecast_agree_with_the_rollups() {
    let api = Api::start();
    let token = api.token("read");
    api.daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm/value","cost_usd":"1.25"}"#);
    api.daemon.lines(r#"{"provider":"acme","model":"new"}"#);
    api.postgres.until_calls(2);
    // Whole days before today, 2 USD each.
    api.postgres.psql(
        "INSERT INTO daily_api_costs (day, provider, model, endpoint, calls, cost_usd) \
         SELECT current_date - n, 'claude', 'm', '', 1, 2 FROM generate_series(1, 30) AS n",
    );
    let overview = api.get("/api/v1/overview", &token).ok();
    assert_eq!(overview["today"]["cost_usd"], "1.25");
    assert_eq!((&overview["today"]["calls"], &overview["today"]["unpriced_calls"]), (&json!(2), &json!(1)));
    assert_eq!(overview["unpriced"][0]["model"], "new");
    assert_eq!(overview["pipeline"]["status"], "ok");
    assert_eq!(overview["movers"], json!([]), "each week came to as much as the one before");
    let month = api
        .postgres
        .psql("SELECT trim_scale(sum(cost_usd)) FROM daily_api_costs WHERE day >= date_trunc('month', current_date)");
    assert_eq!(overview["month_to_date"]["cost_usd"], month);
    let forecast = api.get("/api/v1/forecast", &token).ok();
    assert_eq!(forecast["past"].as_array().unwrap().len(), 31);
    assert_eq!(forecast["past"][30]["cost_usd"], "1.25", "today is the last");
    assert_eq!(forecast["ahead"].as_array().unwrap().len(), 30);
    assert_eq!((&forecast["ahead"][0]["expected_usd"], &forecast["history_days"]), (&json!("2"), &json!(30)));
    assert_eq!(forecast["next_30_days"]["expected_usd"], "60");
    assert_eq!(forecast["next_7_days"]["expected_usd"], "14");
    assert_eq!(forecast["parts"][0], json!({"name": "claude", "next_30_days_usd": "60"}));
    assert_eq!(forecast["unusual_days"], json!([]));
    assert_eq!(overview["forecast"]["month"]["spent_usd"], month);
    let rentcast = api.get("/api/v1/forecast?provider=RentCast", &token).ok();
    assert_eq!((&rentcast["method"], &rentcast["past"][0]["cost_usd"]), (&json!("none"), &json!("1.25")));
    api.postgres.psql("UPDATE daily_api_costs SET cost_usd = 5 WHERE day = current_date - 1 AND model = 'm'");
    let mover = api.get("/api/v1/overview", &token).ok()["movers"][0].clone();
    assert_eq!(mover, json!({"provider": "claude", "model": "m", "cost_usd": "17", "previous_usd": "14"}));
    let spike = api.get("/api/v1/forecast?provider=claude", &token).ok();
    assert_eq!(spike["next_30_days"]["expected_usd"], "60", "a spike of yesterday is set aside, and named");
    let unusual = spike["unusual_days"].as_array().unwrap();
    assert_eq!((unusual.len(), &unusual[0]["cost_usd"], &unusual[0]["counted_usd"]), (1, &json!("5"), &json!("2")));
    assert_eq!(spike["parts"], json!([{"name": "m", "next_30_days_usd": "60"}]), "a provider's parts are its models");
}

#[test]
fn a_price_is_tried_out_added_and_withdrawn() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    api.daemon.lines(r#"{"provider":"acme","model":"new","input_tokens":1000000,"output_tokens":2000000}"#);
    api.postgres.until_calls(1);
    let price = json!({"provider": "acme", "model": "new", "effective_from": "2026-01-01",
        "per_million": {"input": "3", "output": "7.5"}, "note": "from their page"});
    assert_eq!(api.post("/api/v1/prices", &read, &price.to_string()).status, 403);
    let preview = api.post("/api/v1/prices/preview", &admin, &price.to_string()).ok();
    assert_eq!(preview["old_rates"], Value::Null);
    assert_eq!(preview["new_rates"]["per_million_tokens"]["output"], "7.5");
    let calls = &preview["calls"];
    assert_eq!((&calls["changed"], &calls["newly_priced"], &calls["new_usd"]), (&1.into(), &1.into(), &json!("18")));
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_prices WHERE provider = 'acme'"), "0", "it changes nothing");
    let id = api.post("/api/v1/prices", &admin, &price.to_string()).ok()["id"].clone();
    until("the daemon prices by it", || {
        let answer = &api.daemon.lines(r#"{"provider":"acme","model":"new","output_tokens":2}"#)[0];
        if answer["cost_usd"] == "0.000015" { Ok(()) } else { Err(answer.to_string()) }
    });
    let output =
        json!({"provider": "acme", "model": "new", "effective_from": "2026-06-01", "per_million": {"output": "8"}});
    let tried = api.post("/api/v1/prices/preview", &admin, &output.to_string()).ok();
    assert_eq!(
        tried["new_rates"]["per_million_tokens"],
        json!({"input": "3", "output": "8"}),
        "what is not named stays"
    );
    let mut replaced = output;
    replaced["replace"] = true.into();
    let tried = api.post("/api/v1/prices/preview", &admin, &replaced.to_string()).ok();
    assert_eq!(tried["new_rates"]["per_million_tokens"], json!({"output": "8"}));
    assert_eq!(tried["effect"]["lost"], json!([{"rate": "input", "calls": 1}]));
    for (wrong, says) in [
        (json!({"provider": "", "per_million": {"input": "3"}}), "provider"),
        (json!({"provider": "acme", "per_million": {"input": "-3"}}), "-3"),
        (json!({"provider": "acme", "per_million": {"inputs": "3"}}), "inputs"),
        (json!({"provider": "acme", "effective_from": "soon", "per_million": {"input": "3"}}), "effective_from"),
    ] {
        let answer = api.post("/api/v1/prices", &admin, &wrong.to_string());
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
        assert!(answer.text().contains(says), "{wrong}: {}", answer.text());
    }
    let in_force = || api.get("/api/v1/prices?in_force=true&provider=acme", &read).ok()["prices"].clone();
    assert_eq!((in_force()[0]["id"].clone(), in_force()[0]["model"].clone()), (id.clone(), json!("new")));
    assert_eq!(delete(&api, &format!("/api/v1/prices/{id}"), &admin).status, 204);
    assert_eq!(in_force(), json!([]), "withdrawn");
    assert_eq!(delete(&api, &format!("/api/v1/prices/{id}"), &admin).status, 404);
    let changes = api.get("/api/v1/prices/changes", &read).ok()["changes"].clone();
    let found: Vec<_> = changes.as_array().unwrap().iter().map(|change| &change["action"]).collect();
    assert_eq!(found, ["update", "insert"]);
    assert!(changes[1]["actor"].as_str().unwrap().starts_with("token:"));
    let decided = actions(&api, &admin);
    assert_eq!(decided[decided.len() - 2..], [format!("price.add price {id}"), format!("price.withdraw price {id}")]);
    a_name_is_set_listed_and_taken_back(&api, &admin, &read);
}

/// Part of the test above, to reuse its daemon.
fn a_name_is_set_listed_and_taken_back(api: &Api, admin: &str, read: &str) {
    const PATH: &str = "/api/v1/prices/aliases";
    let alias = json!({"provider": "AWS", "name": " My/Deployment:1 ", "model": "us.anthropic.claude-opus-4-6-v1"});
    assert_eq!(put(api, PATH, read, &alias).code(), "forbidden");
    for (field, wrong) in [("model", "no-such-model"), ("model", " "), ("name", ""), ("names", "x")] {
        let mut body = alias.clone();
        body[field] = wrong.into();
        let answer = put(api, PATH, admin, &body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{body}: {}", answer.text());
        let names_it = answer.text().contains(if wrong == "no-such-model" { wrong } else { field });
        assert!(names_it, "{body}: {}", answer.text());
    }
    let set = put(api, PATH, admin, &alias).ok();
    assert_eq!((&set["provider"], &set["name"]), (&json!("bedrock"), &json!("my/deployment:1")));
    assert_eq!(api.get(PATH, read).ok(), json!({"aliases": [set], "configured": []}));
    until("the name is applied", || {
        let line = r#"{"provider":"claude","platform":"bedrock","model":"My/Deployment:1","input_tokens":1000000}"#;
        let answer = &api.daemon.lines(line)[0];
        if answer["cost_usd"] == "5.5" { Ok(()) } else { Err(answer.to_string()) }
    });
    let named = format!("{PATH}?provider=aws.bedrock&name=my%2Fdeployment%3A1");
    assert_eq!(delete(api, &named, read).code(), "forbidden");
    assert_eq!(delete(api, PATH, admin).code(), "invalid_parameter");
    assert_eq!(delete(api, &named, admin).status, 204);
    assert_eq!(delete(api, &named, admin).code(), "not_found");
    assert_eq!(api.get(PATH, read).ok()["aliases"], json!([]));
    let done = actions(api, admin);
    let object = "bedrock my/deployment:1";
    // Without a list to look at there is no proposal.
    assert_eq!(api.get("/api/v1/prices/proposal", read).ok()["proposal"], Value::Null);
    assert_eq!(api.post("/api/v1/prices/proposal/apply", read, "").code(), "forbidden");
    assert_eq!(api.post("/api/v1/prices/proposal/apply", admin, "").code(), "not_found");
    assert_eq!(delete(api, "/api/v1/prices/proposal", admin).code(), "not_found");
    assert_eq!(done[done.len() - 2..], [format!("alias.set {object}"), format!("alias.remove {object}")]);
}

#[test]
fn a_dead_letter_is_looked_at_corrected_and_retried_or_dropped() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    for line in [r#"{"provider":"","cost_usd":"0.5"}"#, r#"{"provider":"x","colour":1}"#] {
        assert_ne!(api.daemon.lines(line)[0]["ok"], true);
    }
    api.postgres.until("SELECT count(*) FROM dead_letters", "2");
    let listed = api.get("/api/v1/dead-letters", &read).ok();
    let ids: Vec<i64> = (0..2).map(|at| listed["dead_letters"][1 - at]["id"].as_i64().unwrap()).collect();
    let path = format!("/api/v1/dead-letters/{}", ids[0]);
    assert_eq!(api.get(&path, &read).ok()["record"], json!({"provider": "", "cost_usd": "0.5"}));
    assert_eq!(api.post(&format!("{path}/retry"), &read, "{}").status, 403);
    let again = api.post(&format!("{path}/retry"), &admin, "{}").ok();
    assert_eq!(again["retried"], false);
    assert!(again["reason"].as_str().unwrap().contains("provider"), "{again}");
    assert_eq!(api.post(&format!("{path}/retry"), &admin, r#"{"set":{"colour":"red"}}"#).code(), "invalid_body");
    let retried = api.post(&format!("{path}/retry"), &admin, r#"{"set":{"provider":"acme"}}"#).ok();
    assert_eq!(retried["retried"], true, "{retried}");
    let record = retried["record_id"].as_str().unwrap();
    assert_eq!(
        api.postgres.psql(&format!("SELECT provider, trim_scale(cost_usd) FROM api_usage_log WHERE id = '{record}'")),
        "acme|0.5"
    );
    assert_eq!(api.post(&format!("{path}/retry"), &admin, "{}").ok()["retried"], false, "once");
    let other = format!("/api/v1/dead-letters/{}", ids[1]);
    assert_eq!(api.post(&format!("{other}/drop"), &admin, "").status, 204);
    assert_eq!(api.post(&format!("{other}/drop"), &admin, "").code(), "not_found");
    assert_eq!(api.get("/api/v1/dead-letters/999", &read).code(), "not_found");
    let (found, decided) = (actions(&api, &admin), format!("dead_letter.retry {}", ids[0]));
    assert_eq!(found[found.len() - 2..], [decided, format!("dead_letter.drop {}", ids[1])]);
    api.daemon.assert_reconciled();
}

#[test]
fn units_are_replaced_and_stand_beside_their_costs() {
    let api = Api::start();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let call = |day: u32, app: &str| {
        let call = json!({"provider": "acme", "cost_usd": "1", "app": app, "occurred_at": format!("2026-03-{day:02}T12:00:00Z")});
        format!("{call}\n")
    };
    api.daemon.lines(&[call(1, "web"), call(2, "web"), call(2, "shop"), call(2, "")].concat());
    api.postgres.until_calls(4);
    let path = "/api/v1/units";
    let state = |units: Value| put(&api, path, &admin, &json!({"units": units}));
    let unit = |day: u32, app: &str, quantity: &str, revenue: Value| {
        let day = format!("2026-03-{day:02}");
        json!({"day": day, "dimension": "app", "value": app, "unit": "order", "quantity": quantity, "revenue_usd": revenue})
    };
    let units =
        json!([unit(1, "web", "4", json!("3")), unit(2, "web", "2", json!(0.5)), unit(2, "idle", "7", Value::Null)]);
    assert_eq!(state(units.clone()).ok(), json!({"added": 3, "replaced": 0, "unchanged": 0}));
    assert_eq!(state(units).ok(), json!({"added": 0, "replaced": 0, "unchanged": 3}));
    assert_eq!(
        state(json!([unit(2, "web", "2.000", json!("1.5"))])).ok(),
        json!({"added": 0, "replaced": 1, "unchanged": 0})
    );
    let audit = "SELECT action || ' ' || (old_value #>> '{0,revenue_usd}') || ' ' || (new_value #>> '{0,revenue_usd}') FROM tallyd_audit_log \
        WHERE action LIKE 'units.%' ORDER BY id DESC LIMIT 1";
    assert_eq!(api.postgres.psql(audit), "units.state 0.5 1.5");
    let file = tempfile::NamedTempFile::new().unwrap();
    let import = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let output = api.daemon.run(&["units", "import", file.path().to_str().unwrap()]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let csv = "unit,day,quantity\norder,2026-03-02,10\n";
    assert_eq!(import(csv), (true, "1 added, 0 replaced, 0 unchanged\n".to_owned()));
    for (text, says) in [
        ("unit,day,quantity\norder,2026-03-03,1\norder,2026-03-03,-1\n", "line 3: quantity: negative"),
        ("unit,day,quantity,colour\n", "no column \"colour\""),
        ("unit,day\n", "the column quantity is missing"),
        ("unit,day,quantity,dimension\norder,2026-03-03,1,user\n", "expected app or tag:NAME"),
        ("unit,day,quantity,value\norder,2026-03-03,1,x\n", "it needs a dimension"),
    ] {
        let (taken, said) = import(text);
        assert!(!taken && said.contains(says), "{text}: {said}");
    }
    assert_eq!(state(json!([unit(3, "web", "1", Value::Null), unit(3, "web", "-1", Value::Null)])).status, 400);
    assert_eq!(api.postgres.psql("SELECT count(*) FROM tallyd_units WHERE day = '2026-03-03'"), "0");
    let get = |query: &str| api.get(&format!("/api/v1/units?from=2026-03-01&to=2026-03-02{query}"), &read);
    let rows = get("&group_by=app").ok()["rows"].clone();
    let web = json!({"value": "web", "unit": "order", "quantity": "6", "revenue_usd": "4.5", "cost_usd": "2", "calls": 2, "unpriced_calls": 0,
        "cost_per_unit_usd": "0.333333333333333333", "margin_usd": "2.5", "margin_percent": "55.56"});
    assert_eq!(rows[0], web);
    let short: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["value"], row["unit"], row["cost_usd"]))
        .collect();
    assert_eq!(short, [r#""web" "order" "2""#, r#""" null "1""#, r#""shop" null "1""#, r#""idle" "order" "0""#]);
    let all = get("&bucket=day&unit=order").ok()["rows"].clone();
    assert_eq!(
        (&all[0]["bucket"], &all[0]["cost_per_unit_usd"], &all[0]["margin_usd"]),
        (&json!("2026-03-02"), &json!("0.3"), &Value::Null)
    );
    for query in ["&group_by=user", "&group_by=app,tag:team", "&bucket=hour", "&limit=0"] {
        assert_eq!(get(query).status, 400, "{query}");
    }
    assert_eq!(put(&api, path, &read, &json!({"units": []})).status, 403);
    let output = api.daemon.run(&["units", "list", "--by", "app", "--json"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_call_is_amended_and_voided_by_admins_alone_and_the_search_says_why() {
    let api = loaded();
    let (admin, read) = (api.token("admin"), api.token("read"));
    let row = api.postgres.psql(
        "SELECT id || ' ' || to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM api_usage_log \
         WHERE cost_usd > 0 ORDER BY occurred_at DESC LIMIT 1",
    );
    let (id, at) = row.split_once(' ').unwrap();
    let post = |token: &str, verb: &str, body: &Value| {
        let headers = [("authorization", token), ("content-type", "application/json")];
        api.send("POST", &format!("/api/v1/calls/{id}/{verb}"), &headers, body.to_string().as_bytes())
    };
    let void = json!({"occurred_at": at, "reason": "a test of ours"});
    assert_eq!(post(&read, "void", &void).code(), "forbidden");
    for (verb, body, code) in [
        ("void", json!({"occurred_at": at}), "invalid_body"),
        ("void", json!({"occurred_at": at, "reason": ""}), "invalid_body"),
        ("void", json!({"occurred_at": at, "reason": "r", "cost_usd": "1"}), "invalid_body"),
        ("void", json!({"occurred_at": "2001-01-01", "reason": "r"}), "not_found"),
        ("amend", json!({"occurred_at": at, "reason": "r"}), "unchanged"),
        ("amend", json!({"occurred_at": at, "reason": "r", "input_tokens": -1}), "invalid_body"),
        ("amend", json!({"occurred_at": at, "reason": "r", "requests": 1_000_000_000_001_u64}), "invalid_body"),
    ] {
        let answer = post(&admin, verb, &body);
        assert_eq!(answer.code(), code, "{verb} {body}: {}", answer.text());
    }
    let amended = post(&admin, "amend", &json!({"occurred_at": at, "cost_usd": 0.25, "reason": "a discount"})).ok();
    assert_eq!((&amended["kind"], &amended["after"]["cost_usd"]), (&json!("amended"), &json!("0.25")), "{amended:#}");
    assert_eq!(post(&admin, "void", &void).ok()["before"], amended["after"]);
    let day = &at[..10];
    let found = api.get(&format!("/api/v1/records?id={id}&from={day}&to={day}T23:59:59.999999Z"), &read).ok();
    assert_eq!(
        (&found["records"][0]["cost_source"], &found["records"][0]["cost_usd"]),
        (&json!("voided"), &json!("0"))
    );
    assert_eq!(found["amendments"].as_array().map(Vec::len), Some(1), "{found:#}");
    assert_eq!(found["amendments"][0]["reason"], "a test of ours");
    let restored = post(&admin, "amend", &json!({"occurred_at": at, "reason": "it was real"})).ok();
    api.daemon.assert_reconciled();
    let noted = actions(&api, &admin);
    let told = ["amend", "void", "amend"].map(|act| format!("call.{act} {id}"));
    assert_eq!(noted[noted.len() - 3..], told);
    // All changes, oldest first, in parts.
    let history = |query: &str| api.get(&format!("/api/v1/calls/{id}/amendments{query}"), &read);
    let all = history("").ok();
    let steps = all["amendments"].as_array().unwrap();
    let reasons: Vec<_> = steps.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["a discount", "a test of ours", "it was real"], "{all:#}");
    assert_eq!((&steps[0]["before"], &steps[0]["actor"]), (&amended["before"], &amended["actor"]));
    assert_eq!((&steps[2], &all["next"]), (&restored, &Value::Null));
    let first = history("?limit=2").ok();
    assert_eq!((&first["amendments"], &first["next"]), (&json!(steps[..2]), &steps[1]["id"]));
    let rest = history(&format!("?limit=2&after={}", first["next"])).ok();
    assert_eq!(rest, json!({"amendments": [steps[2]], "next": null}));
    assert_eq!(
        api.get(&format!("/api/v1/calls/{}/amendments", uuid::Uuid::nil()), &read).ok()["amendments"],
        json!([])
    );
    assert_eq!(history("?limit=1001").code(), "invalid_parameter");
    assert_eq!(history("?after=-1").code(), "invalid_parameter");
    assert_eq!(api.get("/api/v1/calls/first/amendments", &read).code(), "invalid_parameter");
}
