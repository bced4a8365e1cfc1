//! Live updates as server-sent events. Each open page holds one stream; streams are few enough to be
//! counted, end after an hour (the browser opens the next one), end at once when the process stops, and
//! end when the session they were opened with does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use store::Subscription;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::visitor::Visitor;
use crate::App;

/// Open streams of this process.
const MAX_STREAMS: usize = 1024;
static STREAMS: Semaphore = Semaphore::const_new(MAX_STREAMS);
/// Longest life of a stream.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// The session is looked at again this often.
const RECHECK: Duration = Duration::from_secs(15);

/// What a page follows.
pub(super) trait Source: Send + 'static {
    /// Waits for the next events. `Ok(None)`: nothing more will come.
    fn next(&mut self) -> impl Future<Output = store::Result<Option<Vec<Event>>>> + Send;
}

/// When a source looks: at once, then at each wake-up, but not too often, and now and then without one.
pub(super) struct Glances {
    wake: Subscription,
    /// Changes within this time are sent together.
    pace: Duration,
    /// Looked at again without a wake-up.
    idle: Duration,
    last: Option<Instant>,
}

impl Glances {
    /// `wake` must have been subscribed before the source's first look.
    pub(super) fn new(wake: Subscription, pace: Duration, idle: Duration) -> Self {
        Self { wake, pace, idle, last: None }
    }

    /// Waits until it is time to look.
    pub(super) async fn due(&mut self) {
        if let Some(last) = self.last {
            // A wake-up, or time to look anyway; both are fine.
            drop(tokio::time::timeout(self.idle, self.wake.changed()).await);
            tokio::time::sleep_until(last + self.pace).await;
        }
        self.at_once();
    }

    /// It looks without waiting: there was more than one look took.
    pub(super) fn at_once(&mut self) {
        self.last = Some(Instant::now());
    }
}

struct Follower<S> {
    app: Arc<App>,
    visitor: Visitor,
    source: S,
    born: Instant,
    checked: Instant,
    _permit: SemaphorePermit<'static>,
}

/// Answers a request with the events of `source`.
pub(super) fn respond(app: Arc<App>, visitor: Visitor, source: impl Source) -> Response {
    let Ok(permit) = STREAMS.try_acquire() else {
        let retry = [(header::RETRY_AFTER, HeaderValue::from_static("30"))];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "too many live pages are open")
            .into_response();
    };
    let now = Instant::now();
    let follower = Follower { app, visitor, source, born: now, checked: now, _permit: permit };
    let events = stream::unfold(follower, |mut follower| async move {
        let events = follower.events().await?;
        Some((stream::iter(events.into_iter().map(Ok::<_, std::convert::Infallible>)), follower))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    let mut response = Sse::new(events.flatten()).keep_alive(keep_alive).into_response();
    // Proxies that buffer would make live pages lag.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<S: Source> Follower<S> {
    async fn events(&mut self) -> Option<Vec<Event>> {
        // Waiting goes on while the session is checked: the source must never be stopped half way.
        let next = self.source.next();
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = self.app.closing.cancelled() => return None,
                () = tokio::time::sleep_until(self.checked + RECHECK) => {
                    self.checked = Instant::now();
                    if self.born.elapsed() > MAX_AGE || !self.visitor.is_still_valid(&self.app).await {
                        return None;
                    }
                }
                events = &mut next => {
                    return events.unwrap_or_else(|error| {
                        tracing::warn!(%error, "live updates ended");
                        None
                    });
                }
            }
        }
    }
}
