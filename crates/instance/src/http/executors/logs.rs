//! Log entries of a job: added and replaced whole by stock executors, appended to by ours.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use protocol::LogEntryRequest;
use protocol::ext::AppendResponse;
use serde::Deserialize;
use store::{Append, Lease, NewLogEntry};

use super::answer::{bytes, handler_error, json, no_content, store_error, text};
use super::{QueueName, auth, lease, limit};
use crate::App;

/// Most entries of one attempt.
const MAX_ENTRIES: u64 = 10_000;
/// Longest log key and start time.
const MAX_KEY: usize = 1000;
/// Longest command in all.
const MAX_COMMAND: usize = 1 << 20;

/// `POST …/addExecutionLogEntry`: 200 with the entry's id.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (caller, request) =
            lease::open::<LogEntryRequest>(&app, queue, &headers, body, limit::LOG).await?;
        let Some(lease) = lease::of(&caller, queue, request.job_id, &request.executor_name) else {
            return Ok(handler_error("unknown job"));
        };
        check(&request)?;
        room(&app, &lease, &caller, None, request.out.len()).await?;
        let now = app.clock.now_ms();
        let added = app.store.add_log_entry(&lease, &entry(&request), request.entry_id, now).await;
        Ok(match added {
            Ok(id) => json(StatusCode::OK, &id),
            Err(error) => refused("AddExecutionLogEntry", &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// `POST …/updateExecutionLogEntry`: 204.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (caller, request) =
            lease::open::<LogEntryRequest>(&app, queue, &headers, body, limit::LOG).await?;
        let Some(lease) = lease::of(&caller, queue, request.job_id, &request.executor_name) else {
            return Ok(handler_error("unknown job"));
        };
        check(&request)?;
        let id = request.entry_id.unwrap_or_default();
        room(&app, &lease, &caller, Some(id), request.out.len()).await?;
        let now = app.clock.now_ms();
        let replaced = app.store.replace_log_entry(&lease, id, &entry(&request), now).await;
        Ok(match replaced {
            Ok(()) => no_content(),
            Err(error) => refused("UpdateExecutionLogEntry", &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// Query of an append.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    offset: u64,
    exit_code: Option<i64>,
    duration_ms: Option<i64>,
}

/// `POST …/jobs/{job}/log/{entry}?offset=`: 200 with the bytes stored; 409 when the offset leaves a gap.
pub(super) async fn append(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path((job, entry_id)): Path<(i64, i64)>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let caller = auth::job(&app, &headers).await?;
        auth::bound_to_queue(&caller, queue)?;
        let executor = lease::executor_of(&caller, &headers);
        let Some(lease) = lease::of(&caller, queue, job, &executor) else {
            return Ok(handler_error("unknown job"));
        };
        let body = bytes(body, limit::CHUNK).await?;
        let end = usize::try_from(place.offset).unwrap_or(usize::MAX).saturating_add(body.len());
        room(&app, &lease, &caller, Some(entry_id), end).await?;
        let append = Append {
            entry_id,
            offset: place.offset,
            data: &body,
            exit_code: place.exit_code,
            duration_ms: place.duration_ms,
        };
        Ok(match app.store.append_log(&lease, &append, app.clock.now_ms()).await {
            Ok(offset) => json(StatusCode::OK, &AppendResponse { offset }),
            Err(store::Error::Gap { stored }) => {
                json(StatusCode::CONFLICT, &AppendResponse { offset: stored })
            }
            Err(store::Error::NotFound { .. }) => {
                text(StatusCode::NOT_FOUND, "log entry does not exist")
            }
            Err(error) => refused("AppendExecutionLogEntry", &error),
        })
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

fn entry(request: &LogEntryRequest) -> NewLogEntry<'_> {
    NewLogEntry {
        key: &request.key,
        command: request.command.as_deref(),
        start_time: &request.start_time,
        exit_code: request.exit_code,
        duration_ms: request.duration_ms,
        out: request.out.as_bytes(),
    }
}

fn refused(operation: &str, error: &store::Error) -> Response {
    match error {
        store::Error::UnknownJob => handler_error("unknown job"),
        store::Error::EntryOrder { .. } => text(StatusCode::CONFLICT, &error.to_string()),
        store::Error::NotFound { .. } => {
            handler_error(&format!("dbworkerstore.{operation}: {error}"))
        }
        _ => store_error(operation, error),
    }
}

fn check(request: &LogEntryRequest) -> Result<(), auth::Refused> {
    let command: usize = request.command.iter().flatten().map(String::len).sum();
    if request.key.len() > MAX_KEY || request.start_time.len() > MAX_KEY || command > MAX_COMMAND {
        let message =
            format!("key and startTime are at most {MAX_KEY} bytes, command {MAX_COMMAND}");
        return Err(Box::new(text(StatusCode::BAD_REQUEST, &message)));
    }
    Ok(())
}

/// Refuses output over `limits.logSize` for the whole job: `end` bytes in one entry, plus the others.
async fn room(
    app: &App,
    lease: &Lease<'_>,
    caller: &auth::JobCaller,
    entry: Option<i64>,
    end: usize,
) -> Result<(), auth::Refused> {
    let limit = app.config.current().max_log.0;
    // A caller with the shared token names no attempt; its log is bounded entry by entry.
    let (entries, others) = match caller {
        auth::JobCaller::Job(token) => app
            .store
            .log_size(lease.job_id, token.attempt, entry)
            .await
            .map_err(|error| Box::new(store_error("LogSize", &error)))?,
        auth::JobCaller::Shared => (0, 0),
    };
    if entry.is_none() && entries >= MAX_ENTRIES {
        let message = format!("a job has at most {MAX_ENTRIES} log entries");
        return Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &message)));
    }
    if others.saturating_add(end as u64) > limit {
        let message = format!("the job's log is limited to {limit} bytes (limits.logSize)");
        return Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &message)));
    }
    Ok(())
}
