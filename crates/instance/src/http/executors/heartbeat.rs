//! An executor says that it lives and which jobs it runs; it hears which of them to drop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use protocol::ext::Extensions;
use protocol::hold::HoldWish;
use protocol::{HeartbeatRequest, HeartbeatResponse, WireId};
use store::{Beat, Topic};
use tokio::time::Instant;

use super::answer::{self, handler_error, json, store_error};
use super::{QueueName, auth, extensions, limit};
use crate::App;

/// Longest hold of a heartbeat; well below the 25 s after which a silent executor is lost.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// `POST /.executors/queue/{queue}/heartbeat`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (request, peer) = open(&app, &headers, body).await?;
        let sent = request.job_ids.clone().flatten().unwrap_or_default();
        let mut claims = Claims::default();
        for id in &sent {
            claims.add(id, queue);
        }
        let none_sent = sent.is_empty();
        let queues = [queue.to_owned()];
        Ok(serve(&app, request, &queues, false, claims, peer, |news| {
            let text = |id: &i64| WireId::Text(id.to_string());
            HeartbeatResponse {
                known_ids: list(news.known.iter().map(|(id, _)| text(id)), none_sent),
                cancel_ids: list(news.cancel.iter().map(|(id, _)| text(id)), none_sent),
                drain: news.drain,
                holds: news.holds(|(id, _)| text(id)),
            }
        })
        .await)
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// `POST /.executors/queue/heartbeat`
pub(super) async fn multi(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let result = async {
        let (request, peer) = open(&app, &headers, body).await?;
        let queues = request.queue_names.clone();
        if queues.is_empty() {
            let message = "queueNames must be set for multi-queue heartbeats";
            return Ok(handler_error(message));
        }
        let by_queue = &request.job_ids_by_queue;
        let foreign: Vec<&str> = by_queue
            .iter()
            .map(|jobs| jobs.queue_name.as_str())
            .filter(|name| !queues.iter().any(|q| q == name))
            .collect();
        if !foreign.is_empty() {
            return Ok(handler_error(&format!(
                "unsupported queue name(s) '{}' submitted in queueJobIds, \
                 executor is configured for queues '{}'",
                foreign.join(", "),
                queues.join(", "),
            )));
        }
        let mut claims = Claims::default();
        for jobs in by_queue {
            for id in &jobs.job_ids {
                claims.add(id, &jobs.queue_name);
            }
        }
        Ok(serve(&app, request, &queues, true, claims, peer, |news| {
            let text = |(id, queue): &(i64, String)| WireId::Text(format!("{id}-{queue}"));
            HeartbeatResponse {
                known_ids: list(news.known.iter().map(text), false),
                cancel_ids: list(news.cancel.iter().map(text), false),
                drain: news.drain,
                holds: news.holds(text),
            }
        })
        .await)
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

struct Peer {
    extensions: Extensions,
    wait: Option<Duration>,
}

async fn open(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(HeartbeatRequest, Peer), auth::Refused> {
    auth::executor(app, headers)?;
    let request: HeartbeatRequest = answer::read(body, limit::HEARTBEAT).await?;
    extensions::check_name(&request.executor_name)?;
    let extensions = extensions::requested(headers);
    let wait = extensions::wait(headers, extensions, MAX_WAIT);
    Ok((request, Peer { extensions, wait }))
}

/// `null` for none, as the original; but `[]` on the one-queue route when no ids were sent.
fn list(ids: impl Iterator<Item = WireId>, none_sent: bool) -> Option<Vec<WireId>> {
    let ids: Vec<WireId> = ids.collect();
    (none_sent || !ids.is_empty()).then_some(ids)
}

/// The jobs an executor says it runs. An id that is no number names no job of ours.
#[derive(Debug, Default)]
struct Claims(BTreeSet<(i64, String)>);

impl Claims {
    fn add(&mut self, id: &WireId, queue: &str) {
        if let Some((id, _)) = id.split() {
            self.0.insert((id, queue.to_owned()));
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.0.iter().map(|(id, _)| *id).collect()
    }
}

/// What the executor must hear.
#[derive(Debug, Default)]
struct News {
    known: Vec<(i64, String)>,
    cancel: Vec<(i64, String)>,
    unknown: bool,
    drain: bool,
    /// Seconds that the job's machine shall be kept if it fails.
    holds: Vec<((i64, String), u64)>,
    /// One of them was said so lately that the executor may not know it.
    new_hold: bool,
}

impl News {
    fn new(claims: &Claims, beats: Vec<Beat>, drain: bool, now: i64) -> Self {
        let mut news = Self { drain, ..Self::default() };
        for beat in beats {
            let job = (beat.job_id, beat.queue);
            if claims.0.contains(&job) {
                if beat.cancel {
                    news.cancel.push(job.clone());
                }
                if let Some(hold) = beat.hold {
                    news.holds.push((job.clone(), hold.seconds));
                    news.new_hold |= now - hold.at < MAX_WAIT.as_millis() as i64;
                }
                news.known.push(job);
            }
        }
        news.unknown = news.known.len() < claims.0.len();
        news
    }

    /// What the executor hears of holds: nothing, unless it knows what they are.
    fn limit_holds(&mut self, granted: Extensions, max_seconds: u64) {
        if !granted.hold {
            self.holds.clear();
            self.new_hold = false;
        }
        for (_, seconds) in &mut self.holds {
            *seconds = (*seconds).min(max_seconds);
        }
    }

    fn holds(&self, id: impl Fn(&(i64, String)) -> WireId) -> Vec<HoldWish> {
        let wish = |(job, seconds): &(_, u64)| HoldWish { id: id(job), seconds: *seconds };
        self.holds.iter().map(wish).collect()
    }
}

async fn serve(
    app: &Arc<App>,
    request: HeartbeatRequest,
    queues: &[String],
    multi: bool,
    claims: Claims,
    peer: Peer,
    answer: impl Fn(News) -> HeartbeatResponse,
) -> Response {
    let executor = &request.executor_name;
    let knows_drain = request.agent.as_ref().is_some_and(|agent| agent.draining);
    let deadline = Instant::now() + peer.wait.unwrap_or_default();
    // Register before you look.
    let mut wake = peer.wait.map(|_| app.store.subscribe([Topic::Executor(executor.clone())]));
    // The registry and its metrics are worth less than the jobs: a failure there is only logged.
    let now = app.clock.now_ms();
    let registered = app.store.executor_heartbeat(&request, queues, multi, now).await;
    let mut drain = registered.unwrap_or_else(|error| {
        tracing::error!(%error, executor, "executor registry");
        false
    });
    loop {
        let now = app.clock.now_ms();
        let beats = match app.store.heartbeat(executor, &claims.ids(), now).await {
            Ok(beats) => beats,
            Err(error) if multi => {
                tracing::error!(%error, "heartbeat");
                return handler_error("multiqueue.UpsertHeartbeat: database error");
            }
            Err(error) => return store_error("UpsertHeartbeat", &error),
        };
        // A stock executor knows nothing of draining and would stumble over the field.
        let mut news = News::new(&claims, beats, drain && !peer.extensions.is_empty(), now);
        news.limit_holds(peer.extensions, app.config.current().max_hold.0);
        if news.unknown {
            let known: Vec<i64> = news.known.iter().map(|(id, _)| *id).collect();
            tracing::info!(executor, ?known, sent = ?claims.ids(), "heartbeat lost a job");
        }
        let quiet =
            news.cancel.is_empty() && !news.unknown && !news.new_hold && drain == knows_drain;
        let Some(wake) = wake.as_mut().filter(|_| quiet && Instant::now() < deadline) else {
            return finish(answer(news), &peer);
        };
        tokio::select! {
            () = wake.changed() => {}
            () = tokio::time::sleep_until(deadline) => return finish(answer(news), &peer),
            () = app.closing.cancelled() => return finish(answer(news), &peer),
        }
        if let Ok(Some(row)) = app.store.executor(executor).await {
            drain = row.drain_requested;
        }
    }
}

fn finish(answer: HeartbeatResponse, peer: &Peer) -> Response {
    let mut response = json(StatusCode::OK, &answer);
    extensions::grant(&mut response, peer.extensions);
    extensions::applied(&mut response, peer.wait);
    response
}
