//! Request bodies of slow clients.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A body must bring its next bytes within this time.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// Gives up a request whose body does not come.
pub(super) async fn limit(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(IdleBody::new(body, MAX_IDLE)))).await
}

/// A body that fails when nothing of it comes for a while.
struct IdleBody {
    body: Body,
    limit: Duration,
    /// Runs while we wait for bytes. Most bodies are here at once and never need it.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl IdleBody {
    fn new(body: Body, limit: Duration) -> Self {
        Self { body, limit, timer: None, waiting: false }
    }
}

impl HttpBody for IdleBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let begins = !std::mem::replace(&mut self.waiting, true);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if begins {
            timer.as_mut().reset(Instant::now() + limit);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the client sends nothing".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_body_that_stops_coming_is_given_up() {
        let first = futures_util::stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"some"))]);
        let stream = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        let body = IdleBody::new(Body::from_stream(stream), Duration::from_millis(20));
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.to_string(), "the client sends nothing");
    }

    #[tokio::test]
    async fn a_body_that_is_here_passes_with_its_size() {
        let body = IdleBody::new(Body::from("whole"), Duration::from_millis(20));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }
}
