//! Calls of one job, with its token.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use protocol::ext::AppendResponse;
use protocol::{LogEntryRequest, MarkRequest, PhaseReport, headers, routes};
use reqwest::{Body, RequestBuilder, Response};
use url::Url;

use super::http_call::{self, Attempts, read_limited};
use super::{ANSWER_TIMEOUT, Client, ClientError};
use crate::config::Secret;

/// Which end a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// All steps succeeded.
    Complete,
    /// It failed and may be tried again.
    Errored,
    /// It failed for good, or was cancelled.
    Failed,
}

impl MarkKind {
    fn verb(self) -> &'static str {
        match self {
            Self::Complete => "markComplete",
            Self::Errored => "markErrored",
            Self::Failed => "markFailed",
        }
    }
}

/// The last call of an appended log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryEnd {
    /// Exit code, -1 = killed.
    pub exit_code: i64,
    /// Milliseconds.
    pub duration_ms: i64,
}

/// Where the instance's copy of a log ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The bytes are stored.
    Stored(u64),
    /// The instance misses bytes before the offset and wants them from here.
    Gap(u64),
}

/// Calls of one job. Cheap to clone.
#[derive(Clone)]
pub struct JobClient {
    client: Client,
    queue: Arc<str>,
    id: i64,
    authorization: Secret,
}

impl JobClient {
    /// Jobs of old instances have no token; the protocol falls back to the shared secret then.
    pub(super) fn new(client: Client, queue: &str, id: i64, token: &str) -> Self {
        let authorization = if token.is_empty() {
            client.shared_authorization()
        } else {
            format!("{} {token}", headers::SCHEME_JOB)
        };
        Self { client, queue: queue.into(), id, authorization: Secret::new(authorization) }
    }

    /// The job's id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The job's queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The executor's name, for bodies.
    pub fn executor_name(&self) -> &str {
        self.client.executor_name()
    }

    /// The client of the executor itself.
    pub fn instance(&self) -> &Client {
        &self.client
    }

    /// The value of the `Authorization` header, for the image store and for git.
    pub fn authorization(&self) -> &Secret {
        &self.authorization
    }

    /// Adds the headers of a job-scoped request.
    pub fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header(http::header::AUTHORIZATION, self.authorization.expose())
            .header(headers::JOB_ID, self.id)
            .header(headers::EXECUTOR_NAME, self.client.executor_name())
    }

    pub(super) fn post(&self, route: &str) -> RequestBuilder {
        self.authorize(self.client.http.post(self.client.url(route))).timeout(ANSWER_TIMEOUT)
    }

    fn queue_verb(&self, verb: &str) -> String {
        format!("{}/{}/{verb}", routes::QUEUE, self.queue)
    }

    /// Creates a log entry; the answer is its id.
    ///
    /// # Errors
    /// Any failure.
    pub async fn add_entry(&self, entry: &LogEntryRequest) -> Result<i64, ClientError> {
        let endpoint = "addExecutionLogEntry";
        let route = self.queue_verb(endpoint);
        let response =
            http_call::send(endpoint, Attempts::TRANSPORT, || self.post(&route).json(entry))
                .await?;
        let body = read_limited(endpoint, response, 4096).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer {
            endpoint: endpoint.to_owned(),
            reason: format!("the id of the entry is not an integer: {error}"),
        })
    }

    /// Replaces a log entry.
    ///
    /// # Errors
    /// Any failure.
    pub async fn update_entry(
        &self,
        entry: &LogEntryRequest,
        attempts: Attempts,
    ) -> Result<(), ClientError> {
        let endpoint = "updateExecutionLogEntry";
        let route = self.queue_verb(endpoint);
        http_call::send(endpoint, attempts, || self.post(&route).json(entry)).await.map(drop)
    }

    /// Appends output to an entry at an offset (extension `append-logs`); safe to repeat.
    ///
    /// # Errors
    /// Any failure but a gap.
    pub async fn append_log(
        &self,
        entry: i64,
        offset: u64,
        output: bytes::Bytes,
        end: Option<EntryEnd>,
    ) -> Result<Appended, ClientError> {
        let endpoint = "append log";
        let mut url = self.client.url(&routes::log_append(&self.queue, self.id, entry));
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("offset", &offset.to_string());
            if let Some(end) = end {
                query.append_pair("exitCode", &end.exit_code.to_string());
                query.append_pair("durationMs", &end.duration_ms.to_string());
            }
        }
        let build = || {
            self.authorize(self.client.http.post(url.clone()))
                .timeout(ANSWER_TIMEOUT)
                .header(http::header::CONTENT_TYPE, "application/octet-stream")
                .body(output.clone())
        };
        match http_call::send(endpoint, Attempts::One, build).await {
            Ok(response) => {
                let body = read_limited(endpoint, response, 4096).await?;
                Ok(Appended::Stored(append_offset(&body)?))
            }
            Err(ClientError::Status { status: StatusCode::CONFLICT, body, .. }) => {
                Ok(Appended::Gap(append_offset(body.as_bytes())?))
            }
            Err(error) => Err(error),
        }
    }

    /// Reports the end of the job; tried once, the caller repeats until it is acknowledged.
    ///
    /// # Errors
    /// Any failure.
    pub async fn mark(&self, kind: MarkKind, body: &MarkRequest) -> Result<(), ClientError> {
        let route = self.queue_verb(kind.verb());
        http_call::send(kind.verb(), Attempts::One, || self.post(&route).json(body)).await.map(drop)
    }

    /// Reports that a phase begins (extension `phases`).
    ///
    /// # Errors
    /// Any failure; the report is for people and may be lost.
    pub async fn phase(&self, report: &PhaseReport) -> Result<(), ClientError> {
        let route = routes::phases(&self.queue, self.id);
        http_call::send("phases", Attempts::UpTo(3), || self.post(&route).json(report))
            .await
            .map(drop)
    }

    /// Downloads a workspace file.
    ///
    /// # Errors
    /// Any failure.
    pub async fn file(&self, bucket: &str, key: &str) -> Result<Response, ClientError> {
        let mut url = self.client.url(routes::FILES);
        push_segments(&mut url, bucket);
        push_segments(&mut url, key);
        let build = || {
            self.authorize(self.client.http.get(url.clone()))
                .timeout(Duration::from_secs(600))
                .header(http::header::CONTENT_TYPE, "application/json")
        };
        http_call::send("files", Attempts::TRANSPORT, build).await
    }

    /// Uploads an artifact as it streams out of the guest (extension `results`).
    ///
    /// # Errors
    /// Any failure; a stream cannot be repeated.
    pub async fn put_artifact(&self, path: &str, body: Body) -> Result<(), ClientError> {
        let url = self.artifact_url(path);
        let request = self.authorize(self.client.http.put(url)).body(body);
        http_call::send_one("artifacts", request).await.map(drop)
    }

    /// URL of an artifact; the path is encoded segment by segment.
    pub fn artifact_url(&self, path: &str) -> Url {
        let mut url =
            self.client.url(routes::artifact(&self.queue, self.id, "").trim_end_matches('/'));
        push_segments(&mut url, path);
        url
    }

    /// URL of the results route.
    pub fn results_url(&self) -> Url {
        self.client.url(&routes::results(&self.queue, self.id))
    }

    /// The plain HTTP client, for the gateway.
    pub fn http(&self) -> &reqwest::Client {
        &self.client.http
    }
}

fn push_segments(url: &mut Url, path: &str) {
    let mut segments = url.path_segments_mut().expect("an http URL has a path");
    for segment in path.split('/') {
        segments.push(segment);
    }
}

pub(super) fn append_offset(body: &[u8]) -> Result<u64, ClientError> {
    serde_json::from_slice::<AppendResponse>(body).map(|answer| answer.offset).map_err(|error| {
        ClientError::Answer { endpoint: "append log".to_owned(), reason: error.to_string() }
    })
}
