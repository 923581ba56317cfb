//! The views for BI tools: their columns have comments, and dbt's sources file names them.

use std::path::Path;

use crate::support::{data_dir, migrated};

const COLUMNS: &str = "SELECT c.relname::text, obj_description(c.oid), a.attname::text, format_type(a.atttypid, a.atttypmod), \
    col_description(c.oid, a.attnum) \
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname LIKE 'tallyd\\_view\\_%' ORDER BY c.oid, a.attnum";

const HEAD: &str = "# The sources of tallyd for dbt. Written from the views' comments in migrations/ by
# `TALLYD_WRITE_DOCS=1 cargo test --test database views`. Change the comments, not this file.
version: 2

sources:
  - name: tallyd
    description: Paid API calls and their costs, as tallyd records them.
    schema: public
    tables:
";

/// A text as YAML.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_file_of_dbt_has_every_view_and_column_as_they_are() {
    let folder = data_dir();
    let database = migrated(folder.path()).await;
    let client = database.connect("views").await.unwrap();
    let (mut text, mut last) = (HEAD.to_owned(), String::new());
    for row in client.query(COLUMNS, &[]).await.unwrap() {
        let [view, says, column, kind, meaning]: [Option<String>; 5] = std::array::from_fn(|at| row.get(at));
        let (view, column) = (view.unwrap(), column.unwrap());
        let meaning = meaning.unwrap_or_else(|| panic!("{view}.{column} has no comment"));
        if view != last {
            let name = view.strip_prefix("tallyd_view_").unwrap();
            let says = quoted(&says.unwrap_or_else(|| panic!("{view} has no comment")));
            text.push_str(&format!(
                "      - name: {name}\n        identifier: {view}\n        description: {says}\n        columns:\n"
            ));
            last = view;
        }
        let kind = kind.unwrap();
        text.push_str(&format!(
            "          - name: {column}\n            data_type: {kind}\n            description: {}\n",
            quoted(&meaning)
        ));
    }
    database.close().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/dbt/tallyd_sources.yml");
    if std::env::var_os("TALLYD_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap();
    assert!(is == text, "TALLYD_WRITE_DOCS=1 cargo test --test database views writes {} anew", path.display());
}
