//! For monitoring: alive, ready, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::http::error::Error;

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The process can work: the database answers, and it is not going down.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Error> {
    if app.closing.is_cancelled() {
        return Err(Error::Unavailable("shutting down".to_owned()));
    }
    Ok("ok\n")
}

/// This process' metrics, and those of the executors seen in the last 30 s.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.encode();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
