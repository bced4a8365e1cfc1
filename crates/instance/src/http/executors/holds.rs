//! The executor's side of a hold: it asks what to do, fetches what was typed, appends what was printed.
//!
//! Each route may be repeated, and any replica may answer it: there is nothing here but the database.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use protocol::ext::{AppendResponse, Extensions};
use protocol::hold::{
    HeldTerminal, HoldEnd, HoldRequest, HoldResponse, InputRequest, InputResponse, MAX_CHUNK,
    MAX_WAIT_SECONDS,
};
use serde::Deserialize;
use store::{Appended, Hold, Stream, Terminal, TerminalAppend, Topic};
use tokio::time::Instant;

use super::answer::{bytes, json, read, store_error, text};
use super::{QueueName, auth, extensions, limit};
use crate::App;

/// A held request looks at least this often: a replica's wake-up may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// `POST …/jobs/{job}/hold`: how long still, and which terminals. With `ended` the last call.
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path(job): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let hold = auth::hold(&app, &headers, queue, job).await?;
        let request: HoldRequest = read(body, limit::SMALL).await?;
        same_executor(&hold, &request.executor_name)?;
        if let Some(end) = request.ended {
            return end_hold(&app, &hold, end).await;
        }
        let now = app.clock.now_ms();
        app.store.hold_seen(hold.job_id, hold.attempt, now).await.map_err(failed("HoldSeen"))?;
        let mut held = Wait::new(&app, &headers, Topic::Hold(job));
        loop {
            let (news, answer) = state(&app, &hold, &request.known_terminals).await?;
            let patience = Duration::from_millis(answer.remaining_ms);
            if news || !held.again(&app, patience).await {
                return Ok(held.applied(json(StatusCode::OK, &answer)));
            }
        }
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

async fn end_hold(app: &App, hold: &Hold, end: HoldEnd) -> Result<Response, auth::Refused> {
    if end == HoldEnd::ExecutorLost {
        let message = "ended: executor_lost is for the instance to say";
        return Err(Box::new(text(StatusCode::BAD_REQUEST, message)));
    }
    let now = app.clock.now_ms();
    let ended = app.store.end_hold(hold.job_id, hold.attempt, end, now).await;
    ended.map_err(failed("EndHold"))?;
    tracing::info!(
        job.id = hold.job_id,
        executor = hold.executor,
        reason = end.as_str(),
        "hold ended"
    );
    Ok(json(StatusCode::OK, &HoldResponse { release: true, ..HoldResponse::default() }))
}

/// What the executor is told now, and whether it must be told at once.
async fn state(
    app: &App,
    hold: &Hold,
    known: &[i64],
) -> Result<(bool, HoldResponse), auth::Refused> {
    let now = app.clock.now_ms();
    let hold = app.store.hold(hold.job_id, hold.attempt).await.map_err(failed("Hold"))?;
    let Some(hold) = hold.filter(Hold::is_open) else { return gone("the machine of this job") };
    let all = app.store.terminals(hold.job_id).await.map_err(failed("Terminals"))?;
    let open = |terminal: &Terminal| terminal.is_open() && terminal.attempt == hold.attempt;
    let terminals: Vec<HeldTerminal> = all
        .into_iter()
        .filter(open)
        .map(|t| HeldTerminal { id: t.id, cols: t.cols, rows: t.rows })
        .collect();
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    let release = !hold.released_by.is_empty();
    let remaining_ms = hold.remaining_ms(now);
    let news = release || remaining_ms == 0 || !terminals.iter().map(|t| t.id).eq(known);
    Ok((news, HoldResponse { remaining_ms, release, terminals }))
}

/// `POST …/hold/terminals/{terminal}/input`: what was typed from an offset on, the size, and whether the
/// terminal is closed.
pub(super) async fn input(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path((job, id)): Path<(i64, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let hold = auth::hold(&app, &headers, queue, job).await?;
        let request: InputRequest = read(body, limit::SMALL).await?;
        same_executor(&hold, &request.executor_name)?;
        let mut held = Wait::new(&app, &headers, Topic::Terminal(id));
        loop {
            let terminal = terminal(&app, &hold, id).await?;
            let (offset, size) = (request.offset, terminal.input_size);
            if offset > size {
                return Ok(json(StatusCode::CONFLICT, &AppendResponse { offset: size }));
            }
            let data = if offset < size {
                let read = app.store.read_terminal(id, Stream::Input, offset, MAX_CHUNK).await;
                read.map_err(failed("ReadTerminal"))?
            } else {
                Vec::new()
            };
            let resized = (request.cols, request.rows) != (terminal.cols, terminal.rows);
            let news = !data.is_empty() || resized || !terminal.is_open();
            if news || !held.again(&app, Duration::MAX).await {
                let Terminal { cols, rows, .. } = terminal;
                let closed = !terminal.is_open();
                let answer = InputResponse { offset, data, cols, rows, closed };
                return Ok(held.applied(json(StatusCode::OK, &answer)));
            }
            // The hold may be over by now, and with it every right to look.
            auth::hold(&app, &headers, queue, job).await?;
        }
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// Query of an append.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    offset: u64,
    exit_code: Option<i64>,
}

/// `POST …/hold/terminals/{terminal}/output?offset=`: 200 with the bytes stored; 409 when the offset leaves
/// a gap; 410 when the terminal is closed.
pub(super) async fn output(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path((job, id)): Path<(i64, i64)>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = async {
        let hold = auth::hold(&app, &headers, queue, job).await?;
        let body = bytes(body, MAX_CHUNK).await?;
        terminal(&app, &hold, id).await?;
        let (stream, offset, exit_code) = (Stream::Output, place.offset, place.exit_code);
        let append = TerminalAppend { stream, offset, data: &body, exit_code };
        match app.store.append_terminal(id, &append, app.clock.now_ms()).await {
            Ok(Appended::Stored(offset)) => Ok(json(StatusCode::OK, &AppendResponse { offset })),
            Ok(Appended::Conflict(offset)) | Err(store::Error::Gap { stored: offset }) => {
                Ok(json(StatusCode::CONFLICT, &AppendResponse { offset }))
            }
            Ok(Appended::Closed(end)) => {
                let message = format!("terminal {id} is closed: {}", end.as_str());
                Ok(text(StatusCode::GONE, &message))
            }
            Err(error) => Ok(store_error("AppendTerminal", &error)),
        }
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// A terminal of this hold and no other.
async fn terminal(app: &App, hold: &Hold, id: i64) -> Result<Terminal, auth::Refused> {
    let terminal = app.store.terminal(id).await.map_err(failed("Terminal"))?;
    let theirs = |t: &Terminal| t.job_id == hold.job_id && t.attempt == hold.attempt;
    terminal
        .filter(theirs)
        .ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, "terminal does not exist")))
}

fn same_executor(hold: &Hold, name: &str) -> Result<(), auth::Refused> {
    if hold.executor == name { Ok(()) } else { auth::invalid_token() }
}

fn gone<T>(what: &str) -> Result<T, auth::Refused> {
    Err(Box::new(text(StatusCode::GONE, &format!("{what} is not kept"))))
}

fn failed(operation: &'static str) -> impl Fn(store::Error) -> auth::Refused {
    move |error| Box::new(store_error(operation, &error))
}

/// A request that is held open. Registered before the first look.
struct Wait {
    held: Option<Duration>,
    deadline: Instant,
    wake: store::Subscription,
}

impl Wait {
    fn new(app: &App, headers: &HeaderMap, topic: Topic) -> Self {
        // Only a peer that knows holds comes here; it need not say what else it knows.
        let max = Duration::from_secs(MAX_WAIT_SECONDS);
        let held = extensions::wait(headers, Extensions::ALL, max);
        let deadline = Instant::now() + held.unwrap_or_default();
        Self { held, deadline, wake: app.store.subscribe([topic]) }
    }

    /// Waits for the next look, at most for `patience`; false when it is time to answer.
    async fn again(&mut self, app: &App, patience: Duration) -> bool {
        if self.held.is_none() || Instant::now() >= self.deadline {
            return false;
        }
        tokio::select! {
            () = self.wake.changed() => true,
            () = tokio::time::sleep(patience.min(LOOK_AGAIN)) => true,
            () = tokio::time::sleep_until(self.deadline) => false,
            () = app.closing.cancelled() => false,
        }
    }

    fn applied(&self, mut response: Response) -> Response {
        extensions::applied(&mut response, self.held);
        response
    }
}
