//! `http://instance.internal` inside a job: HTTP from the guest, checked against the few routes that
//! belong to the job, sent on with the job token, which the guest never sees.

mod route;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::Job;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::client::JobClient;

/// Requests of one job that are under way at the same time.
const CONCURRENT: usize = 16;
/// Time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a request in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// Headers of a request that go on; everything else stays behind.
const REQUEST_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
/// Headers of an answer that go back.
const ANSWER_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::RETRY_AFTER];

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The gateway of one job. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    job: Arc<Job>,
    client: JobClient,
    slots: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway with the job's own rights.
    pub fn new(job: Arc<Job>, client: JobClient) -> Self {
        Self { job, client, slots: Arc::new(Semaphore::new(CONCURRENT)) }
    }

    /// Serves one connection until it ends.
    pub async fn serve(self, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| {
            let gateway = self.clone();
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(connection), service)
            .await;
        if let Err(error) = served {
            // What a hostile job sends is not our error.
            tracing::debug!(%error, "a connection to the gateway ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let target = (head.uri.path(), head.uri.query());
        let passage =
            match route::passage(&head.method, target.0, target.1, &self.job, &self.client) {
                Ok(passage) => passage,
                Err(refusal) => return text(refusal.status, refusal.text),
            };
        let Ok(_slot) = self.slots.acquire().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the job has ended");
        };
        let limit = usize::try_from(passage.body_limit).unwrap_or(usize::MAX);
        let announced = head.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > passage.body_limit) {
            let message = format!("the body is longer than {limit} bytes");
            return text(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        let mut onward =
            self.client.http().request(head.method, passage.url).timeout(REQUEST_TIMEOUT);
        for name in REQUEST_HEADERS {
            if let Some(value) = head.headers.get(&name) {
                onward = onward.header(name, value);
            }
        }
        // A stream, so that nothing of it is kept in memory; without Content-Length it is chunked.
        let stream = Limited::new(body, limit).into_data_stream();
        let has_body = announced.is_some_and(|length| length > 0)
            || head.headers.contains_key(header::TRANSFER_ENCODING);
        if has_body {
            onward = onward.body(reqwest::Body::wrap_stream(stream));
        }
        match self.client.authorize(onward).send().await {
            Ok(answer) => pass_back(answer),
            Err(error) => {
                tracing::warn!(job = self.client.id(), error = %error.without_url(), "the gateway got no answer");
                text(StatusCode::BAD_GATEWAY, "the instance did not answer")
            }
        }
    }
}

fn pass_back(answer: reqwest::Response) -> Response<Body> {
    let mut response = Response::builder().status(answer.status());
    for name in ANSWER_HEADERS {
        if let Some(value) = answer.headers().get(&name) {
            response = response.header(name, value);
        }
    }
    let stream = answer.bytes_stream().map_ok(Frame::data).map_err(Into::into);
    response
        .body(StreamBody::new(stream).boxed_unsync())
        .unwrap_or_else(|_| text(StatusCode::BAD_GATEWAY, "the answer could not be passed on"))
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(message.into() + "\n")).map_err(Into::into).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
