//! What only our own executors report while a job runs: phases and results.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use protocol::PhaseReport;
use protocol::ext::ResultReport;

use super::answer::{handler_error, no_content, store_error, text};
use super::{QueueName, auth, lease, limit};
use crate::App;

/// Longest kind or name of a result.
const MAX_NAME: usize = 300;

/// `POST …/jobs/{job}/phases`. A repeated report changes nothing.
pub(super) async fn phase(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path(job): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (caller, report) =
            lease::open::<PhaseReport>(&app, queue, &headers, body, limit::SMALL).await?;
        let Some(lease) = lease::of(&caller, queue, job, &report.executor_name) else {
            return Ok(handler_error("unknown job"));
        };
        let now = app.clock.now_ms();
        let begun = app.store.begin_phase(&lease, report.phase, report.elapsed_ms, now).await;
        Ok(match begun {
            Ok(()) => no_content(),
            Err(store::Error::UnknownJob) => handler_error("unknown job"),
            Err(error) => store_error("BeginPhase", &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// `POST …/jobs/{job}/results`. A result of the same kind and name replaces the former one.
pub(super) async fn result(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path(job): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (caller, report) =
            lease::open::<ResultReport>(&app, queue, &headers, body, limit::CHUNK).await?;
        let named = |text: &str| !text.is_empty() && text.len() <= MAX_NAME;
        if !named(&report.kind) || !named(&report.name) {
            let message = format!("kind and name must be 1 to {MAX_NAME} bytes");
            return Ok(text(StatusCode::BAD_REQUEST, &message));
        }
        let executor = lease::executor_of(&caller, &headers);
        let Some(lease) = lease::of(&caller, queue, job, &executor) else {
            return Ok(handler_error("unknown job"));
        };
        let now = app.clock.now_ms();
        let put =
            app.store.put_result(&lease, &report.kind, &report.name, &report.value, now).await;
        Ok(match put {
            Ok(()) => no_content(),
            Err(store::Error::UnknownJob) => handler_error("unknown job"),
            Err(error) => store_error("PutResult", &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}
