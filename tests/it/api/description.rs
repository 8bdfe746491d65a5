//! The description of the API and the page that shows it, as they are served.

use super::mesh;
use crate::harness::http;

#[tokio::test]
async fn the_description_and_its_page_are_served_and_load_nothing_from_elsewhere() {
    let mesh = mesh(1).await;
    let node = &mesh.nodes[0];
    let answer = http::get(node.addr, "/v1/openapi.json").await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let send = &document["paths"]["/v1/send"]["post"];
    assert_eq!(send["requestBody"]["content"]["application/json"]["schema"]["additionalProperties"], false);
    let page = http::get(node.addr, "/v1/docs").await.unwrap();
    let policy = page.header("content-security-policy").unwrap();
    assert!(page.status == 200 && policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    let script = http::get(node.addr, "/v1/docs.mjs").await.unwrap();
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    for text in [&page.body, &script.body] {
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
    }
}
