//! An executor asks for a job, and may wait for one.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use protocol::ext::Extensions;
use protocol::{DequeueRequest, FailureReason, JobVersion};
use store::policy::{QUEUES, QueueShare};
use store::{Claim, ClaimRequest, Topic};
use tokio::time::Instant;

use super::answer::{self, handler_error, no_content, store_error};
use super::version::{InvalidVersion, job_version};
use super::{QueueName, auth, extensions, limit, transform};
use crate::App;
use crate::metrics::QueueLabels;
use crate::site_config::{Multiqueue, QueueShare as Share};

/// Longest hold of a dequeue.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A held dequeue looks at least this often, because wake-ups are hints: a job may become due by time
/// alone, and a replica's hint may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `POST /.executors/queue/{queue}/dequeue`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let (request, peer) = open(&app, &headers, body).await?;
        Ok(serve(&app, vec![queue.to_owned()], false, request, peer).await)
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// `POST /.executors/queue/dequeue`
pub(super) async fn multi(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let result = async {
        let (mut request, peer) = open(&app, &headers, body).await?;
        let queues = std::mem::take(&mut request.queues);
        let unknown: Vec<&str> =
            queues.iter().map(String::as_str).filter(|q| !QUEUES.contains(q)).collect();
        if !unknown.is_empty() {
            return Err(Box::new(handler_error(&format!(
                "Invalid queue name(s) '{}' found. Supported queue names are '{}'.",
                unknown.join(", "),
                QUEUES.join(", "),
            ))));
        }
        if queues.is_empty() {
            tracing::info!(executor = request.executor_name, "dequeue without queue names");
            return Ok(peer.granted(no_content()));
        }
        Ok(serve(&app, queues, true, request, peer).await)
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// What the two sides agreed on for this request.
struct Peer {
    extensions: Extensions,
    version: JobVersion,
    wait: Option<Duration>,
}

impl Peer {
    /// Adds the headers that say what was granted.
    fn granted(&self, mut response: Response) -> Response {
        extensions::grant(&mut response, self.extensions);
        extensions::applied(&mut response, self.wait);
        response
    }
}

async fn open(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(DequeueRequest, Peer), auth::Refused> {
    auth::executor(app, headers)?;
    let request: DequeueRequest = answer::read(body, limit::SMALL).await?;
    extensions::check_name(&request.executor_name)?;
    let extensions = extensions::requested(headers);
    // Our own executors read every format, whatever their version is.
    let version = if extensions.is_empty() {
        job_version(&request.version).map_err(|InvalidVersion| {
            let version = &request.version;
            let message = format!("failed to check version {version:?}: Invalid Semantic Version");
            Box::new(handler_error(&message))
        })?
    } else {
        JobVersion::V2
    };
    let wait = extensions::wait(headers, extensions, MAX_WAIT);
    Ok((request, Peer { extensions, version, wait }))
}

async fn serve(
    app: &Arc<App>,
    queues: Vec<String>,
    multi: bool,
    request: DequeueRequest,
    peer: Peer,
) -> Response {
    let executor = &request.executor_name;
    let mut topics: Vec<Topic> = queues.iter().cloned().map(Topic::Queue).collect();
    topics.push(Topic::Executor(executor.clone()));
    let deadline = Instant::now() + peer.wait.unwrap_or_default();
    // Register before you look.
    let mut wake = peer.wait.map(|_| app.store.subscribe(topics));
    let _waiting = peer.wait.map(|_| Waiting::new(app));
    loop {
        match take(app, &queues, multi, executor).await {
            Ok(Some(claim)) => {
                return peer.granted(hand_out(app, claim, &request, multi, &peer).await);
            }
            Ok(None) => {}
            Err(error) => return store_error("Dequeue", &error),
        }
        let Some(wake) = wake.as_mut().filter(|_| Instant::now() < deadline) else {
            return peer.granted(no_content());
        };
        tokio::select! {
            () = wake.changed() => {}
            () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)) => {}
            () = app.closing.cancelled() => return peer.granted(no_content()),
        }
    }
}

/// Claims in a task of its own: if the client leaves in the middle, the job goes back at once instead
/// of waiting for the reset of stalled jobs.
async fn take(
    app: &Arc<App>,
    queues: &[String],
    multi: bool,
    executor: &str,
) -> store::Result<Option<Claim>> {
    if app.store.executor(executor).await?.is_some_and(|row| row.drain_requested) {
        return Ok(None);
    }
    let (send, receive) = tokio::sync::oneshot::channel();
    let (app, queues, executor) = (Arc::clone(app), queues.to_vec(), executor.to_owned());
    tokio::spawn(async move {
        let shares = multi.then(|| shares(&app.config.current().multiqueue));
        let now = app.clock.now_ms();
        let request =
            ClaimRequest { queues: &queues, executor: &executor, shares: shares.as_deref(), now };
        let claimed = app.store.claim(&request).await;
        if let Err(Ok(Some(claim))) = send.send(claimed) {
            tracing::info!(job.id = claim.job.id, executor, "executor left, job goes back");
            if let Err(error) = app.store.requeue(claim.job.id, None, now).await {
                tracing::warn!(job.id = claim.job.id, %error, "the job did not go back");
            }
        }
    });
    // The sender is lost only when the claim panicked; the row is then reset as stalled.
    receive.await.unwrap_or(Ok(None))
}

async fn hand_out(
    app: &App,
    claim: Claim,
    request: &DequeueRequest,
    multi: bool,
    peer: &Peer,
) -> Response {
    let (id, queue) = (claim.job.id, claim.job.queue.clone());
    let config = app.config.current();
    match transform::document(claim, request, multi, peer.version, peer.extensions, &config) {
        Ok(document) => {
            app.metrics.dequeues.get_or_create(&QueueLabels { queue }).inc();
            answer::json(StatusCode::OK, &document)
        }
        Err(error) => {
            let message = format!("failed to transform record: {error}");
            let (reason, now) = (FailureReason::InvalidJob, app.clock.now_ms());
            if let Err(error) = app.store.fail_claimed(id, reason, &message, now).await {
                tracing::warn!(job.id = id, %error, "the job was not failed");
            }
            let queue = if multi { format!(" {queue}") } else { String::new() };
            handler_error(&format!("RecordTransformer{queue}: {error}"))
        }
    }
}

fn shares(config: &Multiqueue) -> Vec<QueueShare> {
    let share = |queue: &str, share: Share| QueueShare {
        queue: queue.to_owned(),
        limit: share.limit.into(),
        weight: share.weight.into(),
    };
    vec![
        share(store::policy::BATCHES, config.batches),
        share(store::policy::CODEINTEL, config.codeintel),
        share(store::policy::JOBS, config.jobs),
    ]
}

/// Counts a held dequeue for as long as it lives.
struct Waiting(Arc<App>);

impl Waiting {
    fn new(app: &Arc<App>) -> Self {
        app.metrics.waiting_dequeues.inc();
        Self(Arc::clone(app))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.metrics.waiting_dequeues.dec();
    }
}
