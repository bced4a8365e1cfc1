//! For monitoring: alive, ready, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::http::auth::{Rejection, SiteAdmin};
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

/// `/metrics` on the main address: for site admins, because it names executors and tells how busy they
/// are.
pub(super) async fn guarded_metrics(
    app: State<Arc<App>>,
    admin: Result<SiteAdmin, Rejection>,
) -> Result<Response, Error> {
    match admin {
        Ok(SiteAdmin(_)) => metrics(app).await,
        Err(Rejection::Error(error)) => Err(error),
        // A scraper can do nothing with the log-in page.
        Err(Rejection::LogIn { .. }) => Err(Error::Unauthorized(
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
