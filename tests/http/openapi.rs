//! The document of the API: whole, open, and true.

use crate::client::Api;

#[test]
fn the_document_names_every_route_and_what_it_says_of_access_is_so() {
    let api = Api::start();
    let document = api.get("/api/openapi.json", "").ok();
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = api.send(&method.to_uppercase(), &path.replace("{id}", "x"), &[], b"");
            let open = operation["security"] == serde_json::json!([{}]);
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
}
