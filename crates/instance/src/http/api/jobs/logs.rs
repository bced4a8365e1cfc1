//! `GET /jobs/{id}/logs`: as text, or as an event stream.

use std::sync::Arc;

use async_stream::try_stream;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{events, find_own};
use crate::App;
use crate::http::api::extract::{Path, Query};
use crate::http::api::types::{ErrorBody, LogEvent};
use crate::http::auth::User;
use crate::http::error::Error;
use crate::http::registry::range::{self, Part};

/// Bytes read from the database at a time.
const PIECE: usize = 256 << 10;

/// Query of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::api) struct Params {
    /// Only this log entry, from 1.
    entry: Option<i64>,
    /// Of this attempt; the current or last one when absent.
    attempt: Option<i64>,
}

/// The output of a job.
///
/// As text: the bytes as stored, of all log entries in order or of one; `Range: bytes=…` gives a
/// part. The text of a running job is what there is now.
///
/// With `Accept: text/event-stream`: everything that happened and will happen, until the job has
/// ended. Events are `log`, `entry`, `phase`, `state`, `rewind` (forget the output of an entry, it
/// follows anew) and last `end`. Reconnect with `Last-Event-ID`: nothing is repeated or left out.
#[utoipa::path(get, path = "/jobs/{id}/logs", tag = "jobs",
    params(("id" = i64, Path), Params, ("Range" = Option<String>, Header), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content((String = "text/plain"), (LogEvent = "text/event-stream"))),
        (status = 206, description = "the part asked for"), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 416, description = "the range is past the end")))]
pub(in crate::http::api) async fn logs(
    user: User,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let job = find_own(&app, &user, id).await?;
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        let after = headers.get("last-event-id").map(|value| value.to_str().map(str::parse::<i64>));
        let after = match after {
            None => 0,
            Some(Ok(Ok(seq))) if seq >= 0 => seq,
            Some(_) => return Err(Error::invalid("Last-Event-ID", "must be the id of an event")),
        };
        return Ok(events::stream(app, id, after));
    }
    let attempt = params.attempt.unwrap_or(job.attempt);
    let parts: Vec<(i64, u64)> = app
        .store
        .log_entries(id, attempt)
        .await?
        .iter()
        .filter(|entry| params.entry.is_none_or(|wanted| wanted == entry.entry_id))
        .map(|entry| (entry.entry_id, entry.stored))
        .collect();
    if parts.is_empty() && params.entry.is_some() {
        return Err(Error::NotFound("log entry"));
    }
    let size = parts.iter().map(|(_, size)| size).sum();
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let (status, from, length) = match range::part(range, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Some(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        Part::Unsatisfiable => {
            let range = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let mut response = Response::new(text(app, (id, attempt), parts, from, length));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{size}", from + length - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits only"));
    }
    Ok(response)
}

/// `length` bytes from `from` of all parts one after the other, read as the client takes them.
fn text(
    app: Arc<App>,
    (job, attempt): (i64, i64),
    parts: Vec<(i64, u64)>,
    mut from: u64,
    mut length: u64,
) -> Body {
    Body::from_stream(try_stream! {
        for (entry, size) in parts {
            if from >= size {
                from -= size;
                continue;
            }
            while from < size && length > 0 {
                let want = PIECE.min(usize::try_from((size - from).min(length)).unwrap_or(PIECE));
                let piece = app.store.read_log(job, attempt, entry, from, want).await?;
                if piece.is_empty() {
                    // The entry was rewritten meanwhile and is shorter: end instead of lying.
                    Err(store::Error::Gap { stored: from })?;
                }
                from += piece.len() as u64;
                length -= piece.len() as u64;
                yield Bytes::from(piece);
            }
            from = 0;
        }
    }
    .map_error())
}

/// Names the error type of a `try_stream`.
trait MapError: futures_util::Stream<Item = Result<Bytes, store::Error>> + Sized {
    fn map_error(self) -> Self {
        self
    }
}

impl<S: futures_util::Stream<Item = Result<Bytes, store::Error>>> MapError for S {}
