//! The event stream of a job, from the feed in the database.
//!
//! The id of an event is its number in the feed, so a client that lost the connection continues
//! exactly behind what it has, on any replica. The feed is read in pieces as fast as the client takes
//! them; nothing piles up here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use store::{FeedChange, FeedItem, JobState, Topic};

use super::utf8;
use crate::App;
use crate::http::api::types::{EndEvent, EntryEvent, LogEvent, PhaseEvent, StateEvent, time};

/// A comment is sent when nothing else was for so long, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events are looked for so often even if nobody woke us.
const LOOK: Duration = Duration::from_secs(30);
/// Items and output bytes read at a time.
const BATCH: (i64, usize) = (256, 256 << 10);

/// Everything that happened to the job after feed number `after`, and what will, until it has ended.
pub(super) fn stream(app: Arc<App>, job_id: i64, after: i64) -> Response {
    let closing = app.closing.clone();
    let events = stream! {
        let mut follower = Follower { app, job_id, after, carried: HashMap::new() };
        if after == 0 && let Ok(Some(event)) = follower.now().await {
            yield Ok::<Event, Infallible>(event);
        }
        loop {
            // Subscribed before reading, so that no change falls between.
            let mut changes = follower.app.store.subscribe([Topic::Job(job_id)]);
            match follower.batch().await {
                Ok(Batch::Events(events)) => {
                    for event in events {
                        yield Ok(event);
                    }
                    continue;
                }
                Ok(Batch::Ended(event)) => {
                    yield Ok(event);
                    return;
                }
                Ok(Batch::Nothing) => {}
                // The client reconnects and continues where it was.
                Err(error) => {
                    tracing::warn!(job.id = job_id, %error, "event stream breaks off");
                    return;
                }
            }
            tokio::select! {
                _ = tokio::time::timeout(LOOK, changes.changed()) => {}
                () = closing.cancelled() => return,
            }
        }
    };
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = sse.into_response();
    // Reverse proxies collect answers by default, which would delay every line.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Follower {
    app: Arc<App>,
    job_id: i64,
    after: i64,
    /// Bytes of a character whose end has not come, and where they begin, by attempt and entry.
    carried: HashMap<(i64, i64), (u64, Vec<u8>)>,
}

enum Batch {
    Events(Vec<Event>),
    Ended(Event),
    Nothing,
}

impl Follower {
    /// The state now, for a client that just came; a job that waits has no feed yet.
    async fn now(&self) -> store::Result<Option<Event>> {
        let Some(job) = self.app.store.job(self.job_id).await? else { return Ok(None) };
        let waits = job.state == JobState::Queued && job.attempt == 0;
        Ok(waits.then(|| {
            let (attempt, at) = (job.attempt, time(job.queued_at));
            event("state", &StateEvent { attempt, state: job.state.as_str().to_owned(), at })
        }))
    }

    async fn batch(&mut self) -> store::Result<Batch> {
        // Read before the feed: if it is over by then, the feed holds everything.
        let job = self.app.store.job(self.job_id).await?;
        let items = self.app.store.feed(self.job_id, self.after, BATCH.0, BATCH.1).await?;
        if items.is_empty() {
            return Ok(match job {
                Some(job) if !job.state.is_final() => Batch::Nothing,
                Some(job) => Batch::Ended(event("end", &end(&job))),
                None => Batch::Ended(event("end", &EndEvent::default())),
            });
        }
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            self.after = item.seq;
            let seq = item.seq.to_string();
            events.extend(self.event(item).await?.map(|event| event.id(seq)));
        }
        Ok(Batch::Events(events))
    }

    async fn event(&mut self, item: FeedItem) -> store::Result<Option<Event>> {
        let FeedItem { attempt, at, change, .. } = item;
        Ok(match change {
            FeedChange::State { state, .. } => {
                let state = state.as_str().to_owned();
                Some(event("state", &StateEvent { attempt, state, at: time(at) }))
            }
            FeedChange::Phase(phase) => {
                let phase = phase.as_str().to_owned();
                Some(event("phase", &PhaseEvent { attempt, phase, started_at: time(at) }))
            }
            FeedChange::Entry(entry) => Some(event("entry", &entry_event(attempt, entry))),
            FeedChange::Output { entry_id, offset, data } => {
                let log = self.log(attempt, entry_id, offset, data).await?;
                log.map(|log| event("log", &log))
            }
            FeedChange::Rewound { entry_id } => {
                self.carried.remove(&(attempt, entry_id));
                Some(event("rewind", &json!({ "attempt": attempt, "entry": entry_id })))
            }
            FeedChange::Result { .. } | FeedChange::Artifact { .. } => None,
        })
    }

    /// Output as text that begins and ends with whole characters.
    async fn log(
        &mut self,
        attempt: i64,
        entry: i64,
        offset: u64,
        data: Vec<u8>,
    ) -> store::Result<Option<LogEvent>> {
        let (start, mut bytes) = match self.carried.remove(&(attempt, entry)) {
            Some((start, carried)) if start + carried.len() as u64 == offset => (start, carried),
            _ => self.before(attempt, entry, offset).await?,
        };
        bytes.extend_from_slice(&data);
        let rest = bytes.split_off(utf8::whole(&bytes));
        if !rest.is_empty() {
            self.carried.insert((attempt, entry), (start + bytes.len() as u64, rest));
        }
        let offset = i64::try_from(start).unwrap_or(i64::MAX);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((!text.is_empty()).then_some(LogEvent { attempt, entry, offset, text }))
    }

    /// The unfinished character before `offset`, as the stream would have carried it had it not
    /// begun here.
    async fn before(&self, attempt: i64, entry: i64, offset: u64) -> store::Result<(u64, Vec<u8>)> {
        let start = offset.saturating_sub(3);
        let max = usize::try_from(offset - start).unwrap_or(0);
        if max == 0 {
            return Ok((offset, Vec::new()));
        }
        let mut bytes = self.app.store.read_log(self.job_id, attempt, entry, start, max).await?;
        let rest = bytes.split_off(utf8::whole(&bytes));
        Ok((offset - rest.len() as u64, rest))
    }
}

fn entry_event(attempt: i64, entry: store::LogEntry) -> EntryEvent {
    EntryEvent {
        attempt,
        entry: entry.entry_id,
        key: entry.key,
        command: entry.command.unwrap_or_default(),
        exit_code: entry.exit_code,
        duration_ms: entry.duration_ms,
    }
}

fn end(job: &store::Job) -> EndEvent {
    EndEvent {
        state: job.state.as_str().to_owned(),
        reason: job.reason.map(|reason| reason.as_str().to_owned()),
        message: job.message.clone(),
        exit_code: job.exit_code,
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("event types have string keys only");
    Event::default().event(name).data(data)
}
