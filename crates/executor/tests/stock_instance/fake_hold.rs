//! The scripted instance's side of a held machine.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::fake::{Fake, Inner, job_of};

/// A hold, as the test wants it and as the executor told it.
#[derive(Default)]
pub struct FakeHold {
    /// `holds` of heartbeat answers; null = the field is left out.
    pub wishes: Value,
    pub remaining_ms: u64,
    pub release: bool,
    pub terminals: BTreeMap<i64, FakeTerminal>,
    /// What the executor's last call said.
    pub ended: Option<String>,
    /// Questions about the hold so far.
    pub polls: usize,
}

#[derive(Clone, Debug, Default)]
pub struct FakeTerminal {
    pub cols: u16,
    pub rows: u16,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub exit_code: Option<i64>,
    pub closed: bool,
}

impl FakeTerminal {
    pub fn new() -> Self {
        Self { cols: 91, rows: 37, ..Self::default() }
    }

    fn is_open(&self) -> bool {
        !self.closed && self.exit_code.is_none()
    }
}

impl FakeHold {
    /// A person types.
    pub fn types(&mut self, terminal: i64, keys: &str) {
        self.terminals.get_mut(&terminal).unwrap().input.extend_from_slice(keys.as_bytes());
    }

    /// What a terminal shows.
    pub fn shown(&self, terminal: i64) -> String {
        String::from_utf8_lossy(&self.terminals[&terminal].output).into_owned()
    }
}

pub fn routes() -> Router<Fake> {
    let job = "/.executors/queue/{queue}/jobs/{job}/hold";
    Router::new()
        .route(job, post(poll))
        .route(&format!("{job}/terminals/{{terminal}}/input"), post(input))
        .route(&format!("{job}/terminals/{{terminal}}/output"), post(output))
}

/// Refuses what does not come from the executor of a job that was marked as held.
fn check(fake: &Fake, headers: &HeaderMap, job: i64) -> Result<(), Box<Response>> {
    if job_of(fake, headers) != Some(job) {
        fake.wrong("a hold without the headers of its job".to_owned());
        return Err(Box::new(StatusCode::UNAUTHORIZED.into_response()));
    }
    let inner = fake.lock();
    let mut marks = inner.marks.iter();
    let held = marks.any(|(id, _, body)| *id == job && body["holdSeconds"].as_u64() > Some(0));
    match held && inner.held.ended.is_none() {
        true => Ok(()),
        false => Err(Box::new(StatusCode::GONE.into_response())),
    }
}

/// Answers when `look` has news, or the time that the executor wants to wait is over.
async fn held_open(
    fake: &Fake,
    headers: &HeaderMap,
    look: impl Fn(&mut Inner) -> (bool, Response),
) -> Response {
    let wait = headers.get("prefer").and_then(|value| value.to_str().ok()?.strip_prefix("wait="));
    let wait = Duration::from_secs(wait.expect("it wants to wait").parse().unwrap());
    let mut changed = fake.subscribe();
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let (news, answer) = look(&mut fake.lock());
        if news || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            return answer;
        }
    }
}

async fn poll(
    State(fake): State<Fake>,
    Path((_queue, job)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = check(&fake, &headers, job) {
        return *refused;
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    if let Some(end) = request["ended"].as_str().filter(|end| !end.is_empty()) {
        fake.lock().held.ended = Some(end.to_owned());
        return json!({"remainingMs": 0, "release": true, "terminals": []})
            .to_string()
            .into_response();
    }
    fake.change(|inner| inner.held.polls += 1);
    held_open(&fake, &headers, |inner| {
        let held = &inner.held;
        let open = held.terminals.iter().filter(|(_, terminal)| terminal.is_open());
        let ids: Vec<i64> = open.clone().map(|(id, _)| *id).collect();
        let terminals: Vec<Value> = open
            .map(|(id, terminal)| json!({"id": id, "cols": terminal.cols, "rows": terminal.rows}))
            .collect();
        let news =
            held.release || held.remaining_ms == 0 || json!(ids) != request["knownTerminals"];
        let answer = json!({"remainingMs": held.remaining_ms, "release": held.release,
            "terminals": terminals});
        (news, answer.to_string().into_response())
    })
    .await
}

async fn input(
    State(fake): State<Fake>,
    Path((_queue, job, id)): Path<(String, i64, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = check(&fake, &headers, job) {
        return *refused;
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let offset = usize::try_from(request["offset"].as_u64().unwrap()).unwrap();
    held_open(&fake, &headers, |inner| {
        let terminal = &inner.held.terminals[&id];
        let data = &terminal.input[offset..];
        let size = (request["cols"].as_u64().unwrap(), request["rows"].as_u64().unwrap());
        let news = !data.is_empty()
            || !terminal.is_open()
            || size != (terminal.cols.into(), terminal.rows.into());
        let answer = json!({"offset": offset, "data": BASE64.encode(data), "cols": terminal.cols,
            "rows": terminal.rows, "closed": !terminal.is_open()});
        (news, answer.to_string().into_response())
    })
    .await
}

async fn output(
    State(fake): State<Fake>,
    Path((_queue, job, id)): Path<(String, i64, i64)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = check(&fake, &headers, job) {
        return *refused;
    }
    let mut inner = fake.lock();
    let terminal = inner.held.terminals.get_mut(&id).unwrap();
    let offset: usize = query["offset"].parse().unwrap();
    if offset > terminal.output.len() {
        let answer = json!({"offset": terminal.output.len()}).to_string();
        return (StatusCode::CONFLICT, answer).into_response();
    }
    if terminal.closed {
        return StatusCode::GONE.into_response();
    }
    let known = (terminal.output.len() - offset).min(body.len());
    terminal.output.extend_from_slice(&body[known..]);
    if let Some(code) = query.get("exitCode") {
        terminal.exit_code = Some(code.parse().unwrap());
    }
    json!({"offset": terminal.output.len()}).to_string().into_response()
}
