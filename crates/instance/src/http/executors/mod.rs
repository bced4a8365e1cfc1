//! The executor protocol under `/.executors/`.

pub mod dispatch;

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes of the executor protocol.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
