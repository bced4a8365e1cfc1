//! The pages.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes of the pages and their assets.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
