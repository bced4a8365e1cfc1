//! The OpenAPI document, made from the handlers' annotations.

use std::sync::LazyLock;

use axum::Json;
use serde_json::{Value, json};

use super::{PREFIX, routes_and_document};

/// The document. A snapshot is in `docs/openapi.json`; a test keeps it current, so that its diff is
/// the review of a change to the API.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(build);
    &DOCUMENT
}

/// This document. Needs no log-in.
#[utoipa::path(get, path = "/openapi.json", tag = "instance", security(()),
    responses((status = 200, description = "OpenAPI document")))]
pub(super) async fn openapi() -> Json<Value> {
    Json(document().clone())
}

fn build() -> Value {
    let document = routes_and_document().into_openapi();
    let mut document = serde_json::to_value(document).expect("the document has string keys only");
    document["info"] = json!({
        "title": "Executors",
        "version": "1",
        "description": "Every error has the body `ErrorBody`. See docs/api.md.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["servers"] = json!([{ "url": PREFIX }]);
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Access token; `Authorization: token exec_…` works as well.",
        },
        "session": { "type": "apiKey", "in": "cookie", "name": "executors_session" },
    });
    // Templates of OpenAPI have no wildcard.
    if let Some(paths) = document["paths"].as_object_mut() {
        let names: Vec<String> = paths.keys().filter(|name| name.contains("{*")).cloned().collect();
        for name in names {
            let item = paths.remove(&name).unwrap_or_default();
            paths.insert(name.replace("{*", "{"), item);
        }
    }
    document["security"] = json!([{ "token": [] }, { "session": [] }]);
    document
}
