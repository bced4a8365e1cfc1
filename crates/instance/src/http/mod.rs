//! Every route of the instance on one page, and what wraps them all.

pub mod api;
pub mod auth;
pub mod error;
pub mod executors;
mod idle;
mod observe;
mod probes;
pub mod registry;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;

use crate::App;

/// All routes.
///
/// | who | where | authority |
/// |---|---|---|
/// | executors | [`executors`] | shared access token, or the token of one job |
/// | image pulls | [`registry`] | token of a job, or an access token |
/// | users' programs | [`api`] | access token |
/// | browsers | [`crate::ui`] | session |
/// | monitoring | here | none; `/metrics`: a site admin's access token |
pub fn router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::guarded_metrics))
        .merge(executors::router())
        .merge(registry::router())
        .merge(api::router())
        .merge(crate::ui::router());
    finish(routes, app)
}

/// `/metrics` alone, for an address that only monitoring reaches.
pub fn metrics_router(app: Arc<App>) -> Router {
    finish(Router::new().route("/metrics", get(probes::metrics)), app)
}

fn finish(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .layer(CatchPanicLayer::new())
        .layer(from_fn(idle::limit))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}
