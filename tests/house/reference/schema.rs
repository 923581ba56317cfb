//! The tables and views, from the migrations: columns with the comments above them.

use std::collections::BTreeMap;

use super::{head, holds};
use crate::{read, root};

#[derive(Default)]
struct Table {
    /// From `COMMENT ON TABLE`, or else the comment above it.
    says: String,
    /// Name, type, the comment above it.
    columns: Vec<[String; 3]>,
    key: String,
    /// The table whose columns it has.
    like: Option<String>,
    is_view: bool,
}

/// The migrations' text, in their order.
fn migrations() -> String {
    let names = std::fs::read_dir(root().join("migrations")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let number: u32 = name.strip_prefix('V')?.split_once("__")?.0.parse().ok()?;
        Some((number, name))
    });
    let names: BTreeMap<u32, String> = names.collect();
    names.values().map(|name| read(&format!("migrations/{name}"))).collect()
}

/// The word after `public.` of a statement that begins with these words.
fn named<'t>(line: &'t str, begins: &str) -> Option<&'t str> {
    let name = line.strip_prefix(begins)?.strip_prefix("public.")?;
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

/// Reads one line within `CREATE TABLE … ( … )`.
fn column(line: &str, above: &mut Vec<String>, table: &mut Table) {
    let text = line.trim().trim_end_matches(',');
    if let Some(comment) = text.strip_prefix("--") {
        above.push(comment.trim().to_owned());
        return;
    }
    let comment = std::mem::take(above).join(" ");
    if let Some(like) = text.strip_prefix("LIKE public.") {
        table.like = like.split(' ').next().map(str::to_owned);
    } else if let Some(key) = text.strip_prefix("PRIMARY KEY (") {
        table.key = key.trim_end_matches(')').to_owned();
    } else if let Some((name, kind)) = text.split_once(' ').filter(|(name, _)| *name == name.to_ascii_lowercase()) {
        // Continued lines of a constraint are indented further.
        if line.starts_with("    ") && !line.starts_with("     ") {
            let kind = kind.split(" CHECK ").next().unwrap_or(kind).split_whitespace().collect::<Vec<_>>().join(" ");
            if kind.contains("PRIMARY KEY") {
                table.key = name.to_owned();
            }
            table.columns.push([name.to_owned(), kind.replace(" PRIMARY KEY", ""), comment]);
        }
    }
}

fn tables() -> (Vec<String>, BTreeMap<String, Table>) {
    let (mut order, mut tables) = (Vec::new(), BTreeMap::<String, Table>::new());
    let (mut within, mut above): (Option<String>, Vec<String>) = (None, Vec::new());
    let text = migrations().replace("\n    (LIKE", " (LIKE").replace(" IS\n    '", " IS '");
    for line in text.lines() {
        if let Some(name) = named(line, "CREATE TABLE ") {
            order.push(name.to_owned());
            let table = tables.entry(name.to_owned()).or_default();
            table.says = std::mem::take(&mut above).join(" ");
            let like = line.split_once("(LIKE public.").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
            within = like.is_none().then(|| name.to_owned());
            table.like = like;
        } else if line.starts_with(')') {
            within = None;
        } else if let Some(name) = &within {
            column(line, &mut above, tables.get_mut(name).unwrap());
        } else if let Some(name) = named(line, "CREATE VIEW ") {
            order.push(name.to_owned());
            tables.insert(name.to_owned(), Table { is_view: true, ..Table::default() });
        } else if let Some(name) = named(line, "DROP TABLE ") {
            tables.remove(name).expect("a table that is dropped is there");
            order.retain(|known| known != name);
        } else if let Some((old, new)) = named(line, "ALTER TABLE ").zip(line.split_once(" RENAME TO ")) {
            let new = new.1.trim_end_matches(';');
            let table = tables.remove(old).expect("a table that is renamed is there");
            tables.insert(new.to_owned(), table);
            let renamed = |name: &mut String| *name = if name == old { new.to_owned() } else { std::mem::take(name) };
            order.iter_mut().chain(tables.values_mut().filter_map(|table| table.like.as_mut())).for_each(renamed);
        } else if let Some((name, says)) =
            named(line, "COMMENT ON TABLE ").or(named(line, "COMMENT ON VIEW ")).zip(line.split_once(" IS '"))
        {
            let says = says.1.trim_end_matches("';").replace("''", "'");
            tables.get_mut(name).expect("a comment is on a table that is there").says = says;
        } else if let Some((name, added)) = named(line, "ALTER TABLE ").zip(line.split_once(" ADD COLUMN ")) {
            let line = format!("    {}", added.1.trim_end_matches(';'));
            column(&line, &mut above, tables.get_mut(name).unwrap());
        } else if let Some(comment) = line.strip_prefix("-- ") {
            above.push(comment.to_owned());
        } else {
            above.clear();
        }
    }
    (order, tables)
}

#[test]
fn the_page_of_the_schema_is_the_migrations() {
    let mut text = head("Schema", "`migrations/`");
    text.push_str(
        "Tables and views of tallyd in their order of creation; [migrations/](../../migrations/README.md) has indexes, functions and access rules.\n\
         Each table has row level security: admins read. Amounts are USD as `numeric`. Columns without a text mean the same as the\n\
         [record's field](../../protocol/README.md#4-records) of their name.\n",
    );
    let (order, tables) = tables();
    for name in &order {
        let Table { says, columns, key, like, is_view } = &tables[name];
        assert!(!says.is_empty(), "migrations/: nothing says what public.{name} is; write COMMENT ON TABLE");
        text.push_str(&format!("\n## `{name}`\n\n{says}\n"));
        if *is_view {
            text.push_str(match name.starts_with("tallyd_view_") {
                true => "\nA view [for BI tools and dbt](../guide/exports.md#views).\n",
                false => "\nA view: [base and deltas](../internals/deltas.md).\n",
            });
            continue;
        }
        if let Some(like) = like {
            let more = if columns.is_empty() { "Columns and key are" } else { "Columns are, with those below," };
            text.push_str(&format!("\n{more} those of [`{like}`](#{like}).\n"));
            if columns.is_empty() {
                continue;
            }
        }
        if !key.is_empty() {
            text.push_str(&format!("\nKey: `{key}`.\n"));
        }
        text.push_str("\n| column | type | meaning |\n|---|---|---|\n");
        for [name, kind, says] in columns {
            let kind = kind.replace('|', "\\|");
            text.push_str(&format!("| `{name}` | `{kind}` | {} |\n", says.replace('|', "\\|").replace('<', "\\<")));
        }
        assert!(!columns.is_empty(), "{name}: how a table is written in migrations/");
    }
    assert!(order.len() >= 25, "only {order:?} were found");
    holds("docs/reference/schema.md", &text);
}
