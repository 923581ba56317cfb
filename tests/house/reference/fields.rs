//! The record's fields, from their list: the table of the wire specification, and the lists of the clients that are not in
//! Rust.

use serde_json::{Value, json};
use tallyd_protocol::{Record, for_each_field};

use super::holds;
use crate::read;

struct Field {
    name: &'static str,
    doc: String,
    kind: &'static str,
    default: Value,
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        fn fields() -> Vec<Field> {
            let default = Record::default();
            vec![$(Field {
                name: stringify!($name),
                doc: [$($doc.trim()),*].join(" "),
                kind: stringify!($kind),
                default: json!(default.$name),
            }),*]
        }
    };
}

for_each_field!(fields);

/// Type, default and bound of a field in the wire specification.
fn specified(field: &Field) -> (&'static str, String, &'static str) {
    let none = || "none".to_owned();
    match field.kind {
        "id" => (
            "bin of 16 bytes or UUID text: stated; bin of 17 bytes, 1 and then the 16: made by the client's library (§4.1)",
            "made by the daemon (version 7)".to_owned(),
            "",
        ),
        "time" => (
            "integer microseconds since 1970 UTC, or RFC 3339 text with a zone",
            "the daemon's time".to_owned(),
            "2015-01-01 … 5 minutes ahead",
        ),
        "required" => ("text", "**required**".to_owned(), "1–512 bytes"),
        "text" => ("text", format!("`'{}'`", field.default.as_str().unwrap()), "512 bytes"),
        "count" => ("integer", field.default.to_string(), "0 … 10^9"),
        "units" => {
            ("map of text to quantity: decimal text or integer", none(), "32 entries; quantities from 0 on, 9 decimals")
        }
        "status" => ("integer", field.default.to_string(), "0 … 999"),
        "latency" => ("integer", none(), "0 … 2^31 − 1"),
        "decimal" => (
            "decimal text or integer",
            "none: priced from the catalog".to_owned(),
            "±10^9, 18 decimals; by default 0 … 10,000 (`limits.stated_costs`)",
        ),
        "json" => ("map, or text that holds a JSON object", none(), "16 KiB as JSON"),
        "tags" => {
            ("map of text to text; a number is its text", none(), "16 entries; names of 1–64 bytes, values of 256")
        }
        kind => panic!("{}: say here what the wire specification says of the kind {kind}", field.name),
    }
}

#[test]
fn the_fields_of_the_wire_specification_are_the_list() {
    let file = "protocol/README.md";
    let is = read(file);
    let mut table = "| # | field | type | default | bound | meaning |\n|---|---|---|---|---|---|\n".to_owned();
    for (place, field) in (1..).zip(fields()) {
        let (kind, default, bound) = specified(&field);
        table.push_str(&format!("| {place} | `{}` | {kind} | {default} | {bound} | {} |\n", field.name, field.doc));
    }
    let (before, rest) = is.split_once("| # | field |").expect("the specification has a table of the fields");
    let after = &rest[rest.find("\n\n").expect("a table ends")..];
    holds(file, &format!("{before}{}{after}", table.trim_end()));
}

#[test]
fn the_fields_of_the_typescript_client_are_the_list() {
    let mut text = "// Written from protocol/src/fields.rs by `make snapshots`. Change the source, not this file.\n\n\
        /** A quantity or an amount: decimal text keeps every digit; an integer is taken as it is. */\n\
        export type Decimal = string | bigint | number;\n\n\
        /** One paid API call. Only `provider` is needed. */\n\
        export interface UsageRecord {\n"
        .to_owned();
    for Field { name, doc, kind, .. } in fields() {
        let (optional, kind) = match kind {
            "id" => ("?", "string | Uint8Array"),
            "time" => ("?", "number | Date"),
            "required" => ("", "string"),
            "text" => ("?", "string"),
            "count" | "status" | "latency" => ("?", "number"),
            "units" => ("?", "Record<string, Decimal>"),
            "tags" => ("?", "Record<string, string | number>"),
            "decimal" => ("?", "Decimal"),
            "json" => ("?", "Record<string, unknown> | string"),
            kind => panic!("{name}: say here what TypeScript has for the kind {kind}"),
        };
        text.push_str(&format!("  /** {doc} */\n  {name}{optional}: {kind};\n"));
    }
    text.push_str(
        "}\n\n/** Each field's name, kind and default, in the order of the protocol; null: nothing is said. */\n\
         export const FIELDS = [\n",
    );
    for Field { name, kind, default, .. } in fields() {
        let default = if matches!(kind, "required" | "units" | "tags") { Value::Null } else { default };
        text.push_str(&format!("  [{name:?}, {kind:?}, {default}],\n"));
    }
    text.push_str("] as const;\n");
    holds("clients/typescript/src/fields.ts", &text);
}

#[test]
fn the_fields_of_the_python_client_are_the_list() {
    let mut text =
        "\"\"\"Written from protocol/src/fields.rs by `make snapshots`. Change the source, not this file.\"\"\"\n\n\
        from typing import Any, Tuple\n\n\
        FIELDS: Tuple[Tuple[str, Any], ...] = (\n"
            .to_owned();
    for Field { name, kind, default, .. } in fields() {
        let default = match (kind, default) {
            ("units" | "tags", _) => "{}".to_owned(),
            ("required", _) | (_, Value::Null) => "None".to_owned(),
            (_, default) => default.to_string(),
        };
        text.push_str(&format!("    ({name:?}, {default}),\n"));
    }
    text.push_str(
        ")\n\"\"\"Each field's name and default, in the order of the protocol; None: nothing is said.\"\"\"\n",
    );
    holds("clients/python/tallyd/_fields.py", &text);
}
