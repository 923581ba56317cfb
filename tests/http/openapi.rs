//! The API's document: complete, served without a token, and true.

use tallyd_base::registry;

use crate::client::Api;

#[test]
fn the_document_names_every_route_and_what_it_says_of_access_is_so() {
    let api = Api::start();
    let document = api.get("/api/openapi.json", "").ok();
    // The snapshot in tests/snapshots/.
    assert_eq!(document, serde_json::to_value(tallyd::document()).unwrap());
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = api.send(&method.to_uppercase(), &path.replace("{id}", "x"), &[], b"");
            // `{}` among the alternatives means that a token is optional.
            let open = operation["security"].as_array().is_some_and(|ways| ways.contains(&serde_json::json!({})));
            let expected = if open { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
            assert!(operation["responses"][expected.to_string()].is_object(), "{method} {path}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
            operations += 1;
        }
    }
    assert!(operations >= 20, "{operations}");
    let page = api.get("/api/docs", "");
    assert_eq!(page.status, 200);
    let text = page.text();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(text.contains(path.as_str()), "{path}");
    }
    assert!(!text.contains("<script") && !text.contains("//"), "nothing is fetched from elsewhere");
    series_have_the_labels_of_the_registry(&api.send("GET", "/metrics", &[], b"").text());
}

/// The metrics equal their registry: a series has the documented labels, and no other.
fn series_have_the_labels_of_the_registry(metrics: &str) {
    let mut found = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // The process's own metrics have Prometheus's standard names, without labels.
        if name.starts_with("process_") {
            continue;
        }
        let metric = registry::ALL.iter().find(|metric| {
            let rest = name.strip_prefix(metric.name);
            rest == Some("") || metric.kind == "histogram" && matches!(rest, Some("_bucket" | "_sum" | "_count"))
        });
        let metric =
            metric.unwrap_or_else(|| panic!("crates/base/src/registry.rs does not have the metric of: {line}"));
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
        let names: Vec<_> = names.filter(|name| !(metric.kind == "histogram" && *name == "le")).collect();
        assert_eq!(names, metric.labels, "labels of the call site and of crates/base/src/registry.rs: {line}");
        found += 1;
    }
    assert!(found > 50, "only {found} series");
}
