//! Live lists: the rendered fragment is sent again whenever it has changed.

use std::future::Future;
use std::time::Duration;

use axum::response::sse::Event;
use store::Subscription;
use tokio::time::Instant;

use super::format;
use super::sse::Source;

/// Changes within this time are sent as one.
const PACE: Duration = Duration::from_millis(500);
/// Looked at again without a wake-up: time alone makes an executor inactive.
const IDLE: Duration = Duration::from_secs(5);

/// Renders the fragment as it is now.
pub(super) trait Fragment: Send + 'static {
    /// The HTML.
    fn render(&self) -> impl Future<Output = store::Result<String>> + Send;
}

/// Follows a list.
pub(super) struct ListSource<F> {
    fragment: F,
    wake: Subscription,
    shown: Option<String>,
    sent: Option<Instant>,
}

impl<F: Fragment> ListSource<F> {
    /// `wake` must have been subscribed for what the fragment shows.
    pub(super) fn new(fragment: F, wake: Subscription) -> Self {
        Self { fragment, wake, shown: None, sent: None }
    }
}

impl<F: Fragment + Sync> Source for ListSource<F> {
    async fn next(&mut self) -> store::Result<Option<Vec<Event>>> {
        loop {
            if let Some(sent) = self.sent {
                // A wake-up, or time to look anyway; both are fine.
                drop(tokio::time::timeout(IDLE, self.wake.changed()).await);
                tokio::time::sleep_until(sent + PACE).await;
            }
            self.sent = Some(Instant::now());
            let html = self.fragment.render().await?;
            let lasting = format::without_ticks(&html);
            if self.shown.as_ref() != Some(&lasting) {
                let event = Event::default().event("list").data(html);
                self.shown = Some(lasting);
                return Ok(Some(vec![event]));
            }
        }
    }
}
