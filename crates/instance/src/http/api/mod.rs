//! The user API under `/api/v1`.

pub mod types;

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes of the user API.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
