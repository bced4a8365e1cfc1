//! An executor reports the end of a job.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use protocol::{FailureReason, MarkRequest};
use store::{Finish, Outcome};

use super::answer::{no_content, not_found_null, store_error};
use super::{QueueName, auth, lease, limit};
use crate::App;
use crate::metrics::OutcomeLabels;

/// Longest message that is kept; the rest is cut off.
const MAX_MESSAGE: usize = 64 << 10;

/// `POST …/markComplete`
pub(super) async fn complete(
    app: State<Arc<App>>,
    queue: Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    mark(app, queue, headers, body, Outcome::Complete, "MarkComplete").await
}

/// `POST …/markErrored`
pub(super) async fn errored(
    app: State<Arc<App>>,
    queue: Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    mark(app, queue, headers, body, Outcome::Errored, "MarkErrored").await
}

/// `POST …/markFailed`
pub(super) async fn failed(
    app: State<Arc<App>>,
    queue: Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    mark(app, queue, headers, body, Outcome::Failed, "MarkFailed").await
}

async fn mark(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
    outcome: Outcome,
    operation: &'static str,
) -> Response {
    let result = async {
        let (caller, mut request) =
            lease::open::<MarkRequest>(&app, queue, &headers, body, limit::CHUNK).await?;
        let Some(lease) = lease::of(&caller, queue, request.job_id, &request.executor_name) else {
            return Ok(not_found_null());
        };
        let message = cut(std::mem::take(&mut request.error_message));
        // A stock executor gives no reason; the queue's page then shows its message alone.
        let reason = request.reason.filter(|_| outcome != Outcome::Complete);
        let max_hold = app.config.current().max_hold.0;
        let hold_ms = request.hold_seconds.map(|seconds| seconds.min(max_hold) as i64 * 1000);
        let finish = Finish {
            lease,
            outcome,
            reason,
            message,
            exit_code: request.exit_code,
            usage: request.usage,
            hold_ms,
        };
        Ok(match app.store.finish(&finish, app.clock.now_ms()).await {
            Ok(Some(finished)) => {
                count(&app, queue, finished.state.as_str(), reason);
                no_content()
            }
            Ok(None) => not_found_null(),
            Err(error) => store_error(operation, &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

fn count(app: &App, queue: &str, outcome: &str, reason: Option<FailureReason>) {
    let labels = OutcomeLabels {
        queue: queue.to_owned(),
        outcome: outcome.to_owned(),
        reason: reason.map_or(String::new(), |r| r.as_str().to_owned()),
    };
    app.metrics.outcomes.get_or_create(&labels).inc();
}

fn cut(mut message: String) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message.truncate(end);
    message
}
