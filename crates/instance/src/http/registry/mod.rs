//! A read-only OCI registry under `/v2/`.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes of the registry.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
