//! Live updates of the job page: its upper and right part when they change, new and ended log entries, and
//! output as it comes. The page's cursor ([`Position`]) is all that is remembered, and the page keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::response::sse::Event;
use http::HeaderMap;
use serde::Deserialize;
use store::{Job, LogEntry, Topic};

use super::position::Position;
use super::{find, held, log, show};
use crate::App;
use crate::http::error::Error;
use crate::ui::ansi::Renderer;
use crate::ui::sse::{self, Glances, Source};
use crate::ui::visitor::Visitor;
use crate::ui::{format, list_stream};

/// Changes within this time are sent together.
const PACE: Duration = Duration::from_millis(100);
/// Looked at again without a wake-up.
const IDLE: Duration = Duration::from_secs(2);
/// Output sent at a time, for each entry.
const PIECE: usize = 64 * 1024;
/// An entry that is further behind starts again with its end: the page does not want megabytes.
const MAX_BEHIND: u64 = 1024 * 1024;

/// Where the page is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::ui) struct At {
    at: String,
    head: String,
    side: String,
    /// Instead of `at`, when a connection is taken up again.
    resume: String,
}

/// `GET /jobs/{id}/stream?at=POSITION`: as the page itself.
pub(in crate::ui) async fn stream(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<i64>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let at_text = list_stream::shown(&headers, &at.resume, &at.at);
    let position: Position =
        at_text.parse().map_err(|()| Error::BadRequest("at: no position in a log".to_owned()))?;
    let wake = app.store.subscribe([Topic::Job(id)]);
    let job = find(&app, id).await?;
    let source = JobSource {
        yours: visitor.user.owns(&job),
        app: Arc::clone(&app),
        visitor: visitor.clone(),
        id,
        glances: Glances::new(wake, PACE, IDLE),
        position,
        renderers: BTreeMap::new(),
        summaries: BTreeMap::new(),
        head: at.head,
        side: at.side,
        more: false,
        ended: false,
    };
    Ok(sse::respond(app, visitor, source))
}

struct JobSource {
    app: Arc<App>,
    visitor: Visitor,
    id: i64,
    yours: bool,
    glances: Glances,
    position: Position,
    renderers: BTreeMap<i64, Renderer>,
    summaries: BTreeMap<i64, String>,
    /// [`format::mark`] of the upper part that the page shows.
    head: String,
    /// The same of the right part.
    side: String,
    /// There was more output than one look took.
    more: bool,
    ended: bool,
}

impl Source for JobSource {
    async fn next(&mut self) -> store::Result<Option<Vec<Event>>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.more {
                true => self.glances.at_once(),
                false => self.glances.due().await,
            }
            let events = self.look().await?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

impl JobSource {
    async fn look(&mut self) -> store::Result<Vec<Event>> {
        self.more = false;
        let Some(job) = self.app.store.job(self.id).await? else {
            self.ended = true;
            return Ok(vec![Event::default().event("end").data("gone")]);
        };
        if job.attempt != self.position.attempt && self.position.attempt > 0 {
            // Another run has begun: the page shows the wrong log altogether.
            self.ended = true;
            return Ok(vec![Event::default().event("reload").data("attempt")]);
        }
        self.position.attempt = job.attempt;
        let mut events = Vec::new();
        if self.yours {
            for entry in self.app.store.log_entries(self.id, job.attempt).await? {
                self.entry(&job, &entry, &mut events).await?;
            }
        }
        self.parts(&job, &mut events).await?;
        let over = job.state.is_final() && !self.more;
        if over && !held::is_held(&self.app, self.id).await? {
            self.ended = true;
            events.push(Event::default().event("end").data(job.state.as_str()));
        }
        Ok(events)
    }

    /// Upper and right part, if they changed.
    async fn parts(&mut self, job: &Job, events: &mut Vec<Event>) -> store::Result<()> {
        let now = self.app.clock.now_ms();
        let head = render(&show::head(&self.app, &self.visitor, job, now).await?);
        let side = render(&show::side(&self.app, &self.visitor, job, job.attempt, now).await?);
        let parts = [("head", head, &mut self.head), ("side", side, &mut self.side)];
        for (name, html, shown) in parts {
            let mark = format::mark(&html);
            if *shown != mark {
                *shown = mark;
                events.push(Event::default().event(name).data(html));
            }
        }
        Ok(())
    }

    async fn entry(
        &mut self,
        job: &Job,
        entry: &LogEntry,
        events: &mut Vec<Event>,
    ) -> store::Result<()> {
        let (id, now, live) = (entry.entry_id, self.app.clock.now_ms(), !job.state.is_final());
        if !self.position.shown.contains_key(&id) {
            let view = log::view(&self.app.store, self.id, entry, now).await?;
            self.position.shown.insert(id, view.end);
            self.summaries.insert(id, format::mark(&render(&log::summary(entry, live, now, true))));
            let group = log::group(&entry.key);
            let html =
                format!("<div hx-swap-oob=\"beforeend:#group-{group}\">{}</div>", render(&view));
            events.push(self.event("entries").data(html));
            return Ok(());
        }
        self.output(entry, events).await?;
        let summary = render(&log::summary(entry, live, now, true));
        let mark = format::mark(&summary);
        if self.summaries.get(&id) != Some(&mark) {
            self.summaries.insert(id, mark);
            events.push(self.event("entries").data(summary));
        }
        Ok(())
    }

    async fn output(&mut self, entry: &LogEntry, events: &mut Vec<Event>) -> store::Result<()> {
        let id = entry.entry_id;
        let shown = self.position.shown.get(&id).copied().unwrap_or(0);
        let behind = entry.stored.saturating_sub(shown);
        if entry.stored < shown || behind > MAX_BEHIND {
            return self.restart(entry, events).await;
        }
        let store = &self.app.store;
        if !self.renderers.contains_key(&id) {
            let inside = match shown.checked_sub(1) {
                None => false,
                Some(last) => store.read_log(self.id, entry.attempt, id, last, 1).await? != b"\n",
            };
            self.renderers.insert(id, Renderer::new(shown, inside));
        }
        let renderer = self.renderers.get_mut(&id).expect("it was put there if missing");
        let from = renderer.taken();
        if from >= entry.stored {
            return Ok(());
        }
        let bytes = store.read_log(self.id, entry.attempt, id, from, PIECE).await?;
        let lines = renderer.feed(&bytes);
        self.more |= renderer.taken() < entry.stored;
        self.position.shown.insert(id, renderer.end());
        let lines: Vec<_> = lines.iter().map(crate::ui::ansi::Line::json).collect();
        if !lines.is_empty() {
            let data = serde_json::json!({ "entry": id, "lines": lines });
            events.push(self.event("log").data(data.to_string()));
        }
        Ok(())
    }

    /// Forgets what the page has of an entry and gives it the end anew.
    async fn restart(&mut self, entry: &LogEntry, events: &mut Vec<Event>) -> store::Result<()> {
        self.renderers.remove(&entry.entry_id);
        let piece = log::before(&self.app.store, self.id, entry, entry.stored).await?;
        self.position.shown.insert(entry.entry_id, piece.end);
        let lines: Vec<_> = piece.lines.iter().map(crate::ui::ansi::Line::json).collect();
        let data = serde_json::json!({ "entry": entry.entry_id, "restart": true, "lines": lines });
        events.push(self.event("log").data(data.to_string()));
        let earlier = log::earlier(self.id, entry, piece.start, true);
        events.push(self.event("entries").data(render(&earlier)));
        Ok(())
    }

    /// An event that moves the page's cursor.
    fn event(&self, name: &str) -> Event {
        Event::default().event(name).id(self.position.to_string())
    }
}

/// A fragment; a template that fails to render says nothing rather than ending the page.
fn render(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "fragment failed");
        String::new()
    })
}
