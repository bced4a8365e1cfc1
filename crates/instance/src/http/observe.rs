//! One log line and one count for each request. Never a header, query or body: they hold secrets.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::App;

pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = std::time::Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched".to_owned(), |m| m.as_str().to_owned());
    let response = next.run(request).await;
    let took = started.elapsed();
    let status = response.status();
    // Methods are free text; only the usual ones become label values.
    let known = matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE");
    let label = if known { method.as_str() } else { "other" };
    app.metrics.request(label, &route, status.as_u16(), took);
    let (status, ms) = (status.as_u16(), took.as_millis());
    if status >= 500 {
        tracing::warn!(%method, path, status, ms, "request");
    } else {
        tracing::debug!(%method, path, status, ms, "request");
    }
    response
}
