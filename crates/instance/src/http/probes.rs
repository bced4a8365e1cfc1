//! For monitoring: alive, ready, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use store::Role;

use crate::App;
use crate::http::error::Error;
use crate::metrics::exposition::{self, Merged};

/// Executors that did not send metrics for this long are left out.
const FRESH_MS: i64 = 30_000;

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The process can work: the database answers.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Error> {
    app.store.ping().await.map_err(|error| {
        tracing::warn!(%error, "not ready");
        Error::Unavailable("the database does not answer".to_owned())
    })?;
    Ok("ok\n")
}

/// `/metrics` on the main address: for the access token of a site admin, because it names executors
/// and tells how busy they are.
pub(super) async fn guarded_metrics(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = header.and_then(|h| h.strip_prefix("Bearer ").or(h.strip_prefix("token ")));
    let user = match token {
        Some(token) => app
            .store
            .user_by_access_token(token.trim(), app.clock.now_ms())
            .await
            .map_err(Error::internal)?,
        None => None,
    };
    match user {
        Some((_, user)) if user.role == Role::SiteAdmin => metrics(State(app)).await,
        Some(_) => Err(Error::Forbidden("metrics are for site admins".to_owned())),
        None => Err(Error::Unauthorized(
            "metrics need the access token of a site admin, or --metrics-listen".to_owned(),
        )),
    }
}

/// This process' metrics, and those of the executors seen in the last 30 s.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Error> {
    let mut text = exposition::classic(&app.metrics.encode());
    let mut merged = Merged::default();
    let since = app.clock.now_ms() - FRESH_MS;
    let executors = app.store.executor_metrics(since).await.map_err(Error::internal)?;
    for (executor, metrics) in executors {
        merged.add(&executor, &metrics);
    }
    for own in exposition::declared(&text) {
        merged.remove(own);
    }
    if merged.skipped() > 0 {
        tracing::debug!(skipped = merged.skipped(), "metrics of executors were left out");
    }
    merged.write(&mut text);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
