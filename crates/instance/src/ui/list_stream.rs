//! Live lists: the rendered fragment is sent again whenever it has changed.

use std::future::Future;
use std::time::Duration;

use axum::response::sse::Event;
use http::HeaderMap;
use store::Subscription;

use super::format;
use super::sse::{Glances, Source};

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
    glances: Glances,
    /// [`format::mark`] of what the page shows.
    shown: String,
}

impl<F: Fragment> ListSource<F> {
    /// `wake` must have been subscribed for what the fragment shows; `shown` is the [`format::mark`] of
    /// what the page has, from its address or the last event.
    pub(super) fn new(fragment: F, wake: Subscription, shown: &str) -> Self {
        Self { fragment, glances: Glances::new(wake, PACE, IDLE), shown: shown.to_owned() }
    }
}

impl<F: Fragment + Sync> Source for ListSource<F> {
    async fn next(&mut self) -> store::Result<Option<Vec<Event>>> {
        loop {
            self.glances.due().await;
            let html = self.fragment.render().await?;
            let mark = format::mark(&html);
            if self.shown != mark {
                let event = Event::default().event("list").id(&mark).data(html);
                self.shown = mark;
                return Ok(Some(vec![event]));
            }
        }
    }
}

/// What the page has: the last event's id when a connection is taken up again, by the browser (header) or
/// by the page's script (`resume`), else `have` of the page.
pub(super) fn shown<'a>(headers: &'a HeaderMap, resume: &'a str, have: &'a str) -> &'a str {
    let given = if resume.is_empty() { have } else { resume };
    headers.get("last-event-id").and_then(|value| value.to_str().ok()).unwrap_or(given)
}
