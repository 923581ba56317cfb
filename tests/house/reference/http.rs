//! The HTTP API, from its OpenAPI document.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{head, holds};

/// A schema's name: that of a schema below, or a JSON type.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return format!("`{}`", name.rsplit('/').next().unwrap_or_default());
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(schemas) = schema[several].as_array() {
            let mut kinds: Vec<String> = schemas.iter().map(kind).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
    }
    let one = |name: &str| match name {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object with values {}", kind(&schema["additionalProperties"]))
        }
        name => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}

/// Text for a cell of a table.
fn cell(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// Statuses, with their meaning, that most operations have.
fn common(document: &Value) -> BTreeMap<(String, String), usize> {
    let mut answers = BTreeMap::new();
    let operations: Vec<&Value> =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values()).collect();
    for operation in &operations {
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            *answers.entry((status.clone(), cell(&answer["description"]))).or_default() += 1;
        }
    }
    answers.retain(|_, times| *times > operations.len() / 2);
    answers
}

/// An operation: its summary, parameters and body, and the answers that only it has.
fn operation(method: &str, path: &str, operation: &Value, common: &BTreeMap<(String, String), usize>) -> String {
    let said = |key: &str| operation[key].as_str().unwrap_or_default().trim().to_owned();
    let mut text = format!("\n### `{} {path}`\n", method.to_uppercase());
    for part in [said("summary"), said("description")] {
        if !part.is_empty() {
            text.push_str(&format!("\n{part}\n"));
        }
    }
    if let Some(parameters) = operation["parameters"].as_array().filter(|parameters| !parameters.is_empty()) {
        text.push_str("\n| parameter | in | type | meaning |\n|---|---|---|---|\n");
        for parameter in parameters {
            let name = parameter["name"].as_str().unwrap_or_default();
            let required = if parameter["required"] == true { ", required" } else { "" };
            let kind = kind(&parameter["schema"]);
            let place = cell(&parameter["in"]);
            text.push_str(&format!(
                "| `{name}` | {place}{required} | {kind} | {} |\n",
                cell(&parameter["description"])
            ));
        }
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let bodies: Vec<String> =
            content.iter().map(|(media, body)| format!("{} as `{media}`", kind(&body["schema"]))).collect();
        text.push_str(&format!("\nBody: {}.\n", bodies.join(", or ")));
    }
    text.push_str("\n| status | body | meaning |\n|---|---|---|\n");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        if common.contains_key(&(status.clone(), cell(&answer["description"]))) {
            continue;
        }
        let bodies: Vec<String> = answer["content"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(media, body)| match media.as_str() {
                "application/json" => kind(&body["schema"]),
                media => format!("`{media}`"),
            })
            .collect();
        text.push_str(&format!("| {status} | {} | {} |\n", bodies.join(" or "), cell(&answer["description"])));
    }
    text
}

/// A schema's fields.
fn schema(name: &str, schema: &Value) -> String {
    let mut text = format!("\n### `{name}`\n");
    let description = schema["description"].as_str().unwrap_or_default().trim();
    if !description.is_empty() {
        text.push_str(&format!("\n{description}\n"));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        text.push_str(&format!("\nOne of {}.\n", values.join(", ")));
    }
    let Some(fields) = schema["properties"].as_object() else {
        if schema["enum"].is_null() {
            text.push_str(&format!("\nJSON: {}.\n", kind(schema)));
        }
        return text;
    };
    text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for (field, schema) in fields {
        text.push_str(&format!("| `{field}` | {} | {} |\n", kind(schema), cell(&schema["description"])));
    }
    text
}

#[test]
fn the_page_of_the_http_api_is_its_openapi_document() {
    let document = serde_json::to_value(tallyd::document()).unwrap();
    let mut text = head("HTTP API", "the OpenAPI document");
    text.push_str(
        "The daemon serves this document at `/api/openapi.json`. A request shows a token as `Authorization: Bearer …`; `tallyd token create`\n\
         makes one. A failed request has a body `{\"error\": {\"code\", \"message\"}}`.\n\
         Amounts of money are text with all decimals, but for the numbers of `/api/admin`.\n",
    );
    let common = common(&document);
    assert!(common.len() >= 3, "{common:?}");
    text.push_str("\nMost requests can also be answered with:\n\n| status | meaning |\n|---|---|\n");
    text.extend(common.keys().map(|(status, says)| format!("| {status} | {says} |\n")));
    let mut tags: Vec<String> = Vec::new();
    let mut operations: Vec<(String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, found) in methods.as_object().unwrap() {
            let tag = found["tags"][0].as_str().unwrap_or("other").to_owned();
            operations.push((tag.clone(), operation(method, path, found, &common)));
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    tags.sort_unstable();
    for tag in tags {
        text.push_str(&format!("\n## {tag}\n"));
        text.extend(operations.iter().filter(|(of, _)| *of == tag).map(|(_, text)| text.as_str()));
    }
    text.push_str("\n## Schemas\n");
    for (name, found) in document["components"]["schemas"].as_object().unwrap() {
        text.push_str(&schema(name, found));
    }
    holds("docs/reference/http.md", &text);
}
