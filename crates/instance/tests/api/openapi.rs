//! The OpenAPI document, and its snapshot in `docs/openapi.json`.

use reqwest::Method;

use crate::support::Instance;

/// Run with `UPDATE_DOCS=1` to write the snapshot; its diff is the review of a change to the API.
#[test]
fn the_snapshot_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let document = serde_json::to_string_pretty(instance::http::api::document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let snapshot = std::fs::read_to_string(path).unwrap();
    assert!(
        snapshot == document,
        "docs/openapi.json is old: UPDATE_DOCS=1 cargo test -p instance --test api snapshot"
    );
}

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let instance = Instance::start().await;
    let answer = instance.call(Method::GET, "/api/v1/openapi.json", &[], "").await;
    assert_eq!(answer.json(), *instance::http::api::document());
    let version = instance.call(Method::GET, "/api/v1/version", &[], "").await;
    assert_eq!(version.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_operation_is_described() {
    for (path, item) in instance::http::api::document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = operation["summary"].as_str().or(operation["description"].as_str());
            assert!(text.is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
}
