//! The configuration, from the doc comments of its structs (`crates/config/src/`) and their defaults.

use std::collections::BTreeMap;

use syn::{Attribute, Expr, ExprLit, Field, Fields, Item, Lit, Meta, Type};
use tallyd_config::{Config, env};

use super::{head, holds};
use crate::{root, walk};

const FILE_HEAD: &str = "\
# tallyd's configuration. Every key is listed with its default, commented out: as shipped, this file changes nothing.
#
# Stronger than this file are environment variables (TALLYD_<SECTION>_<KEY>, such as TALLYD_WAL_MAX_BYTES; also
# DATABASE_URL and PORT), and flags. `tallyd config check` shows what is in force, and where each value comes from.
# Unknown keys are errors. Written by `make snapshots` from the documentation in crates/config/src/.
";

const PAGE_INTRO: &str = "\
tallyd runs without configuration. Each key below can be set in a TOML file, which `tallyd --config` names; without it `config.toml` in
the working directory is read, if it is there. [config.toml](../../config.toml) lists every key with its default.

An environment variable is stronger than the file: `TALLYD_`, the section, `_`, the key. Elements of lists are separated by commas.
`TALLYD_SOCKET` and `TALLYD_LOG` stand for `listen.socket` and `log.filter`, `DATABASE_URL` for `database.url`, and `PORT` for
`http.listen` as `0.0.0.0:PORT`, unless the full name is set too. Flags of the command line are stronger than variables.

`tallyd config check --show` prints the effective values, and where each comes from. An unknown key or `TALLYD_` variable and a value
that is out of range are errors: the daemon does not start, and names all of them at once.
";

/// A key: its name in its section, the value as TOML, and the lines of its documentation.
struct Key {
    name: String,
    value: String,
    docs: Vec<String>,
}

/// A section with its documentation. The first has no name.
struct Section {
    name: String,
    docs: Vec<String>,
    keys: Vec<Key>,
}

/// The lines of the doc comments, without the space before each.
fn docs(attributes: &[Attribute]) -> Vec<String> {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                let text = text.value();
                Some(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned())
            }
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect()
}

/// The name that a field has in TOML.
fn name(field: &Field) -> String {
    let mut name = field.ident.as_ref().unwrap().to_string();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute
            .parse_nested_meta(|meta| {
                if meta.input.peek(syn::Token![=]) {
                    let value: Lit = meta.value()?.parse()?;
                    if let (true, Lit::Str(text)) = (meta.path.is_ident("rename"), value) {
                        name = text.value();
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    name
}

/// The name of a field's type.
fn type_name(field: &Field) -> String {
    match &field.ty {
        Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
        _ => String::new(),
    }
}

/// The fields of the structs that can be configured, by the struct's name.
fn structs() -> BTreeMap<String, Vec<Field>> {
    let mut found = BTreeMap::new();
    for folder in ["src", "crates"] {
        let Ok(folder) = root().join(folder).canonicalize() else { continue };
        walk(&folder, &mut |path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            // Structs elsewhere have the same names.
            let is_searched =
                path.starts_with(root().join("crates/config/src")) || text.contains("pub struct PricingOptions ");
            if !is_searched || path.extension().is_none_or(|kind| kind != "rs") {
                return;
            }
            for item in syn::parse_file(&text).unwrap().items {
                if let Item::Struct(item) = item
                    && let Fields::Named(fields) = item.fields
                {
                    found.insert(item.ident.to_string(), fields.named.into_iter().collect());
                }
            }
        });
    }
    found
}

fn key(table: &toml::Table, field: &Field) -> Key {
    let name = name(field);
    let value = table.get(&name).unwrap_or_else(|| panic!("{name} has no default")).to_string();
    Key { docs: docs(&field.attrs), name, value }
}

/// Adds a section, and then the sections in it.
fn add_section(
    sections: &mut Vec<Section>,
    structs: &BTreeMap<String, Vec<Field>>,
    section: String,
    field: &Field,
    table: &toml::Table,
) {
    let (inner, plain): (Vec<_>, Vec<_>) =
        structs[&type_name(field)].iter().partition(|field| table.get(&name(field)).is_some_and(toml::Value::is_table));
    let keys = plain.into_iter().map(|field| key(table, field)).collect();
    sections.push(Section { name: section.clone(), docs: docs(&field.attrs), keys });
    for field in inner {
        let name = name(field);
        let table = table[&name].as_table().unwrap();
        add_section(sections, structs, format!("{section}.{name}"), field, table);
    }
}

/// All keys in the order of the structs.
fn sections() -> Vec<Section> {
    let structs = structs();
    let defaults: toml::Table = toml::from_str(&toml::to_string(&Config::default()).unwrap()).unwrap();
    let mut sections = vec![Section { name: String::new(), docs: Vec::new(), keys: Vec::new() }];
    for field in &structs["Config"] {
        let name = name(field);
        match defaults.get(&name) {
            // Not a setting.
            None => {}
            Some(toml::Value::Table(table)) => add_section(&mut sections, &structs, name, field, table),
            Some(_) => sections[0].keys.push(key(&defaults, field)),
        }
    }
    let full = |section: &Section| -> Vec<String> {
        section.keys.iter().map(|key| format!("{}.{}", section.name, key.name).trim_matches('.').to_owned()).collect()
    };
    let mut named: Vec<String> = sections.iter().flat_map(full).collect();
    named.sort_unstable();
    let mut keys = Config::keys();
    keys.sort_unstable();
    assert_eq!(named, keys, "keys of the structs, and keys that can be set");
    for section in &sections {
        assert!(section.name.is_empty() || !section.docs.is_empty(), "[{}] has no documentation", section.name);
        for key in &section.keys {
            assert!(!key.docs.is_empty(), "{}.{} has no documentation", section.name, key.name);
            let states_default = key.docs.iter().any(|line| line.contains("Default "));
            assert!(!states_default, "{}.{}: the default is in the file beside the text", section.name, key.name);
        }
    }
    sections
}

/// Documentation as comments of TOML: code is indented, and blank lines are left out.
fn comment(docs: &[String]) -> String {
    let mut text = String::new();
    let mut is_code = false;
    for line in docs {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !line.is_empty() {
            let indent = if is_code { "  " } else { "" };
            // A value in quotes needs no backticks here.
            let line = line.replace("`\"", "\"").replace("\"`", "\"");
            text.push_str(&format!("# {indent}{line}\n"));
        }
    }
    text
}

#[test]
fn the_shipped_file_is_the_documentation_of_the_structs() {
    let mut text = FILE_HEAD.to_owned();
    for section in sections() {
        text.push('\n');
        if !section.name.is_empty() {
            text.push_str(&format!("{}[{}]\n", comment(&section.docs), section.name));
        }
        for key in section.keys {
            text.push_str(&format!("{}# {} = {}\n", comment(&key.docs), key.name, key.value));
        }
    }
    holds("config.toml", &text);
}

#[test]
fn the_page_of_the_configuration_is_the_documentation_of_the_structs() {
    let mut text = head("Configuration", "the structs of `crates/config/src/`");
    text.push_str(PAGE_INTRO);
    for section in sections() {
        if !section.name.is_empty() {
            text.push_str(&format!("\n## `[{}]`\n\n{}\n", section.name, section.docs.join("\n")));
        }
        for Key { name, value, docs } in section.keys {
            let key = format!("{}.{name}", section.name);
            let variable = env::variable(key.trim_matches('.'));
            let docs = docs.join("\n");
            text.push_str(&format!("\n### `{name}`\n\nDefault `{value}` · `{variable}`\n\n{docs}\n"));
        }
    }
    holds("docs/reference/config.md", &text);
}
