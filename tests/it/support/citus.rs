//! Citus's rules for distributed tables, as checks of statements. A plain PostgreSQL logs the statements, so that the tests run everywhere.

use std::collections::BTreeSet;

use tallyd_store::citus::SPREAD;

use super::postgres::Postgres;

/// Functions that each node would evaluate for itself, so that Citus refuses them in an UPDATE or DELETE.
const VOLATILE: [&str; 3] = ["clock_timestamp(", "random(", "gen_random_uuid("];

/// Views of the users' sums: unions, which Citus does not join with a table of the coordinator.
const VIEWS: [&str; 4] =
    ["tallyd_user_day_parts", "tallyd_user_total_parts", "daily_user_api_costs", "user_api_totals"];

/// A PostgreSQL that logs each statement.
pub fn written_down() -> Postgres {
    let mut postgres =
        Postgres::stopped().with_setting("log_statement", "all").with_setting("log_line_prefix", "@@@ %a @@@ ");
    postgres.up();
    postgres
}

/// All statements of tallyd in that server's log. Fails if Citus would refuse one of them.
#[track_caller]
pub fn taken(postgres: &Postgres) -> BTreeSet<String> {
    let sent = statements(&postgres.whole_log());
    let faults: Vec<_> = sent.iter().filter_map(|statement| fault(statement).map(|fault| (fault, statement))).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    sent
}

/// The fault of a statement on distributed tables, if it has one.
pub fn fault(statement: &str) -> Option<&'static str> {
    let sql = statement.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    // A cast to a table's row type, and a table's name as text, do not read the table.
    let sql = sql.replace("null::public.", "type ").replace("'public.", "'");
    let is_named = |table: &&str| sql.contains(&format!("public.{table}")) || sql.contains(&format!(" {table} "));
    let named: Vec<&str> = SPREAD.into_iter().chain(VIEWS).filter(is_named).collect();
    if named.is_empty() {
        return None;
    }
    let is_changed = |verb: &str| named.iter().any(|table| sql.contains(&format!("{verb} public.{table}")));
    let updated = sql.split_once("do update set").map(|(_, updated)| updated);
    let changed = if is_changed("update") { Some(sql.as_str()) } else { updated };
    if changed.is_some_and(|changed| VOLATILE.iter().any(|function| changed.contains(function))) {
        return Some("a volatile function in an UPDATE");
    }
    if let Some((_, conflict)) = sql.split_once("on conflict (")
        && is_changed("insert into")
        && !conflict.split(')').next().unwrap_or_default().contains("user_id")
    {
        return Some("ON CONFLICT without the distribution column");
    }
    let read = named.iter().fold(sql.clone(), |sql, table| sql.replace(&format!("insert into public.{table} "), ""));
    if sql.contains("pg_temp.") && named.iter().any(|table| read.contains(&format!("public.{table} "))) {
        return Some("a temporary table beside one that is spread");
    }
    if sql.contains("tableoid") {
        return Some("tableoid, which is a shard's");
    }
    if named.iter().any(|table| sql.contains(&format!("(select from public.{table}"))) {
        return Some("a subquery without a column");
    }
    let whole = |table: &&str| {
        let begin = format!("exists (select 1 from public.{table}");
        let mut each = sql.split(&begin).skip(1).filter_map(|rest| rest.split(')').next());
        each.any(|rest| !rest.contains("limit") && !rest.contains("user_id = t.user_id"))
    };
    if named.iter().any(whole) {
        return Some("EXISTS without LIMIT: the coordinator collects every row");
    }
    let mut beside = sql.split("join public.").skip(1).filter_map(|joined| joined.split([' ', ')']).next());
    if VIEWS.iter().any(|view| named.contains(view)) && beside.any(|joined| !named.contains(&joined)) {
        return Some("a view of spread tables joined with a table of the coordinator");
    }
    let is_looked_up = |view: &&str| sql.contains(&format!("exists (select 1 from public.{view}"));
    if VIEWS.iter().filter(|view| named.contains(view)).count() > 1 && VIEWS.iter().any(is_looked_up) {
        return Some("a view of spread tables in a subquery beside another view of them");
    }
    if sql.contains("ctid = ") && !sql.contains("l.id = ") {
        return Some("a place without the id, which tells the shard");
    }
    if named.len() > 1 && sql.contains("for update") && !sql.contains("user_id =") {
        return Some("row locks on several nodes");
    }
    None
}

/// tallyd's statements in a server's log whose lines begin with `@@@ application @@@`.
fn statements(log: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in log.split("@@@ tallyd").skip(1) {
        let entry = entry.split("@@@ ").nth(1).unwrap_or_default();
        let text = entry.strip_prefix("LOG:  statement: ").or_else(|| {
            entry.strip_prefix("LOG:  execute ").and_then(|text| text.split_once(": ").map(|(_, text)| text))
        });
        // Functions of the schema run on the coordinator, statement by statement.
        for statement in
            text.filter(|text| !text.contains("CREATE FUNCTION")).into_iter().flat_map(|text| text.split(';'))
        {
            found.insert(statement.trim().to_owned());
        }
    }
    found
}
