//! One HTTP call: send, try again where that is safe, and turn anything but success into an error.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{RequestBuilder, Response};

use super::{Backoff, ClientError};

/// How often a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempts {
    /// Once; the caller has its own loop.
    One,
    /// Up to this many times on transient failures.
    UpTo(u32),
}

impl Attempts {
    /// As the transport of stock executors.
    pub const TRANSPORT: Self = Self::UpTo(20);

    fn limit(self) -> u32 {
        match self {
            Self::One => 1,
            Self::UpTo(limit) => limit,
        }
    }
}

/// Error texts keep this much of a body.
const EXCERPT: usize = 4096;
/// Longest pause that a `Retry-After` header can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3);

/// Sends what `build` makes until it succeeds, fails for good, or was tried often enough.
pub(super) async fn send(
    endpoint: &str,
    attempts: Attempts,
    build: impl Fn() -> RequestBuilder,
) -> Result<Response, ClientError> {
    let mut backoff = Backoff::transport();
    loop {
        let (error, retry_after) = match send_once(endpoint, build()).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let delay = backoff.next_delay();
        if !error.is_transient() || backoff.attempts() >= attempts.limit() {
            return Err(error);
        }
        tokio::time::sleep(retry_after.unwrap_or(delay)).await;
    }
}

/// Sends a request whose body cannot be sent twice.
pub(super) async fn send_one(
    endpoint: &str,
    request: RequestBuilder,
) -> Result<Response, ClientError> {
    send_once(endpoint, request).await.map_err(|(error, _)| error)
}

async fn send_once(
    endpoint: &str,
    request: RequestBuilder,
) -> Result<Response, (ClientError, Option<Duration>)> {
    let response = request.send().await.map_err(|source| {
        (ClientError::Transport { endpoint: endpoint.to_owned(), source }, None)
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let body = read_limited(endpoint, response, EXCERPT).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).into_owned();
    Err((ClientError::Status { endpoint: endpoint.to_owned(), status, body }, retry_after))
}

/// Reads a body up to a limit; one byte more is an error, except that the excerpt of an error is cut.
pub(super) async fn read_limited(
    endpoint: &str,
    mut response: Response,
    limit: usize,
) -> Result<Bytes, ClientError> {
    let cut = !response.status().is_success();
    let mut body = Vec::new();
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|source| ClientError::Transport { endpoint: endpoint.to_owned(), source })?;
        let Some(chunk) = chunk else { return Ok(body.into()) };
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            if cut {
                return Ok(body.into());
            }
            let reason = format!("longer than {limit} bytes");
            return Err(ClientError::Answer { endpoint: endpoint.to_owned(), reason });
        }
    }
}
