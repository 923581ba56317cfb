//! The documentation's site, whole or, where the daemon was built without it, the page that says so.

use crate::client::Api;

#[test]
fn the_documentation_is_served_with_each_of_its_parts_or_its_absence_is_explained() {
    let api = Api::start();
    let version = String::from_utf8(api.daemon.run(&["--version"]).stdout).unwrap();
    let get = |path: &str| api.send("GET", path, &[("accept-encoding", "gzip")], b"");
    let bare = get("/docs");
    assert_eq!((bare.status, bare.header("location")), (307, Some("docs/")));
    if !version.contains("documentation") {
        let answer = api.get("/docs/guide/install.html", "");
        assert!(answer.status == 200 && answer.text().contains("make book build"), "{}", answer.text());
        return;
    }
    for path in ["/docs/", "/docs/guide/install.html", "/docs/decisions/"] {
        let answer = get(path);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let page = unpacked(&answer.body);
        assert!(page.contains("<main>"), "{page}");
        let up = if path == "/docs/" { "/docs/" } else { "/docs/x/" };
        let parts = page.split("<script src=\"").skip(1).chain(page.split("rel=\"stylesheet\" href=\"").skip(1));
        let mut checked = 0;
        for part in parts.map(|rest| rest.split('"').next().unwrap()) {
            let part = part.strip_prefix("../").map_or(format!("{up}{part}"), |part| format!("/docs/{part}"));
            assert_eq!(get(&part).status, 200, "{path} needs {part}");
            checked += 1;
        }
        assert!(checked >= 10, "{path} has only {checked} scripts and styles");
    }
    assert_eq!(api.get("/docs/", "").code(), "not_acceptable");
    assert_eq!(get("/docs/none.html").status, 404);
}

fn unpacked(body: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(body)).unwrap()
}
