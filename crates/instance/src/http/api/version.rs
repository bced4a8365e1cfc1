//! `GET /version`.

use axum::Json;

use super::types::Version;

/// Version of the instance. Needs no log-in.
#[utoipa::path(get, path = "/version", tag = "instance", security(()),
    responses((status = 200, body = Version)))]
pub(super) async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").to_owned() })
}
