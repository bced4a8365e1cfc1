//! A scripted instance over real HTTP: the base protocol, held in memory, with faults on demand.
//!
//! It checks every request the way a stock instance does and remembers what was wrong; with
//! `append_logs` it also grants that extension.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt as _;
use url::Url;

use crate::fake_hold::{self, FakeHold};

pub const SECRET: &str = "s3cret-s3cret-s3cret-01";

/// What goes wrong with a request whose path contains a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes before the request is looked at.
    Cut,
    /// The request is carried out, then the connection closes without an answer.
    CutAnswer,
    /// The request is answered with this status and not carried out.
    Status(u16),
}

/// How ids are written in answers to heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// `"7"`, or `"7-jobs"` on the multi-queue route.
    #[default]
    Strings,
    /// Numbers and strings, under `knownIDs`.
    Mixed,
    /// Something that is no answer at all.
    Garbage,
}

#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub key: String,
    pub command: Value,
    pub out: String,
    pub exit_code: Option<i64>,
    pub updates: usize,
}

#[derive(Default)]
pub struct Inner {
    pub jobs: VecDeque<Value>,
    /// id → executor name.
    pub processing: BTreeMap<i64, String>,
    pub cancel: Vec<i64>,
    pub entries: BTreeMap<i64, Vec<Entry>>,
    /// (id, verb, body)
    pub marks: Vec<(i64, String, Value)>,
    pub heartbeats: Vec<Value>,
    pub dequeues: Vec<Value>,
    pub faults: Vec<(String, Fault)>,
    pub ids: Ids,
    pub append_logs: bool,
    /// Grants the extension `hold`.
    pub hold: bool,
    /// Of the one job that is held.
    pub held: FakeHold,
    pub wrong: Vec<String>,
    /// Files below `/.executors/files/`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Below `/v2/`: content type and body.
    pub registry: BTreeMap<String, (String, Vec<u8>)>,
    pub repository: Option<std::path::PathBuf>,
}

#[derive(Clone)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
    pub url: Url,
}

impl Fake {
    pub async fn start() -> Self {
        // Idempotent: another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let fake = Self { inner: Arc::default(), changed: Arc::new(watch::Sender::new(0)), url };
        let router = router(fake.clone());
        let server = fake.clone();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (router, fake) = (router.clone(), server.clone());
                let service = hyper::service::service_fn(move |request| {
                    let (router, fake) = (router.clone(), fake.clone());
                    async move { fake.serve(router, request).await }
                });
                tokio::spawn(
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(connection), service)
                        .into_owned(),
                );
            }
        });
        fake
    }

    /// Carries out a request, or fails it as scripted.
    async fn serve(
        &self,
        router: Router,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<Response, &'static str> {
        let path = request.uri().path().to_owned();
        let fault = {
            let mut inner = self.lock();
            let found = inner.faults.iter().position(|(part, _)| path.contains(part));
            found.map(|index| inner.faults.remove(index).1)
        };
        match fault {
            Some(Fault::Cut) => Err("scripted cut"),
            Some(Fault::Status(status)) => {
                Ok(StatusCode::from_u16(status).unwrap().into_response())
            }
            fault => {
                let answer = router.oneshot(request.map(Body::new)).await;
                let answer = answer.unwrap_or_else(|never: Infallible| match never {});
                self.changed.send_modify(|count| *count += 1);
                if fault == Some(Fault::CutAnswer) { Err("scripted cut") } else { Ok(answer) }
            }
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn fault(&self, path_part: &str, fault: Fault) {
        self.lock().faults.push((path_part.to_owned(), fault));
    }

    /// Queues a job document.
    pub fn enqueue(&self, job: Value) {
        self.lock().jobs.push_back(job);
    }

    /// Waits until `check` answers something, with a deadline.
    pub async fn wait_for<T>(&self, what: &str, check: impl Fn(&mut Inner) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = check(&mut self.lock()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; wrong so far: {:?}", self.lock().wrong),
        }
    }

    /// Waits for the end of a job: verb and body of the first mark.
    pub async fn ended(&self, id: i64) -> (String, Value) {
        self.wait_for(&format!("the end of job {id}"), |inner| {
            let found = inner.marks.iter().find(|(job, _, _)| *job == id)?;
            Some((found.1.clone(), found.2.clone()))
        })
        .await
    }

    pub fn entry(&self, id: i64, key: &str) -> Entry {
        let inner = self.lock();
        let entries = &inner.entries[&id];
        let found: Vec<_> = entries.iter().filter(|entry| entry.key == key).collect();
        assert_eq!(found.len(), 1, "{key}: {entries:?}");
        found[0].clone()
    }

    pub fn assert_nothing_wrong(&self) {
        let wrong = self.lock().wrong.clone();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Changes something, and wakes whoever waits for a change.
    pub fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells when something changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn wrong(&self, text: String) {
        self.lock().wrong.push(text);
    }
}

fn router(fake: Fake) -> Router {
    Router::new()
        .route("/.executors/test/auth", get(test_auth))
        .route("/.executors/queue/dequeue", post(dequeue_many))
        .route("/.executors/queue/heartbeat", post(heartbeat_many))
        .route("/.executors/queue/{queue}/dequeue", post(dequeue_one))
        .route("/.executors/queue/{queue}/heartbeat", post(heartbeat_one))
        .route("/.executors/queue/{queue}/{verb}", post(job_verb))
        .route("/.executors/queue/{queue}/jobs/{job}/log/{entry}", post(append))
        .merge(fake_hold::routes())
        .route("/.executors/files/{*path}", get(file))
        .route("/.executors/git/{*path}", get(git).post(git))
        .route("/v2/{*path}", get(registry))
        .fallback(unexpected)
        .with_state(fake)
}

async fn unexpected(State(fake): State<Fake>, request: Request) -> StatusCode {
    fake.wrong(format!("a stock instance has no {} {}", request.method(), request.uri()));
    StatusCode::NOT_FOUND
}

fn has_shared(fake: &Fake, headers: &HeaderMap) -> bool {
    let ok = headers.get("authorization").is_some_and(|v| v == &format!("token-executor {SECRET}"));
    if !ok {
        fake.wrong("an executor route without the shared secret".to_owned());
    }
    ok
}

/// The job of a request, if its headers are those of the protocol.
pub fn job_of(fake: &Fake, headers: &HeaderMap) -> Option<i64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id: i64 = text("x-sourcegraph-job-id")?.parse().ok()?;
    let name = text("x-sourcegraph-executor-name")?;
    let authorized = text("authorization") == Some(&format!("Bearer token-{id}"));
    let known = !fake.lock().heartbeats.is_empty();
    (authorized && known && !name.is_empty()).then_some(id)
}

async fn test_auth(State(fake): State<Fake>, headers: HeaderMap) -> Response {
    match has_shared(&fake, &headers) {
        true => "ok".into_response(),
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn dequeue_one(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    dequeue(&fake, &headers, &body)
}

async fn dequeue_many(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    dequeue(&fake, &headers, &body)
}

fn dequeue(fake: &Fake, headers: &HeaderMap, body: &[u8]) -> Response {
    if !has_shared(fake, headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let request: Value = serde_json::from_slice(body).unwrap();
    let mut inner = fake.lock();
    if !inner.append_logs && headers.contains_key("prefer") {
        inner.wrong.push("long poll was not offered".to_owned());
    }
    let name = request["executorName"].as_str().unwrap().to_owned();
    inner.dequeues.push(request);
    let Some(job) = inner.jobs.pop_front() else { return StatusCode::NO_CONTENT.into_response() };
    inner.processing.insert(job["id"].as_i64().unwrap(), name);
    granted(&inner, job.to_string().into_response())
}

/// Adds the header of the extensions that are granted.
fn granted(inner: &Inner, mut answer: Response) -> Response {
    if inner.append_logs {
        let names = if inner.hold { "append-logs, reasons, hold" } else { "append-logs, reasons" };
        answer.headers_mut().insert("x-executor-extensions", names.parse().unwrap());
    }
    answer
}

async fn heartbeat_one(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    heartbeat(&fake, &headers, &body, false)
}

async fn heartbeat_many(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    heartbeat(&fake, &headers, &body, true)
}

fn heartbeat(fake: &Fake, headers: &HeaderMap, body: &[u8], many: bool) -> Response {
    if !has_shared(fake, headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let request: Value = serde_json::from_slice(body).unwrap();
    let mut inner = fake.lock();
    if !inner.append_logs && request.get("agent").is_some() {
        inner.wrong.push("a field that was not negotiated".to_owned());
    }
    let reported = reported(&request, many);
    inner.heartbeats.push(request);
    let text = |(id, queue): &(i64, String)| match many {
        true => json!(format!("{id}-{queue}")),
        false => json!(id.to_string()),
    };
    let known: Vec<_> =
        reported.iter().filter(|(id, _)| inner.processing.contains_key(id)).collect();
    let cancel: Vec<_> =
        known.iter().filter(|(id, _)| inner.cancel.contains(id)).map(|job| text(job)).collect();
    let null_if_empty = |ids: Vec<Value>| if ids.is_empty() { Value::Null } else { json!(ids) };
    let answer = match inner.ids {
        Ids::Garbage => json!({"knownIds": ["what", "ever"], "cancelIds": 7}),
        Ids::Mixed => {
            let known = known.iter().enumerate().map(|(index, job)| match index % 2 {
                0 => json!(job.0),
                _ => text(job),
            });
            json!({"knownIDs": null_if_empty(known.collect()), "cancelIDs": null_if_empty(cancel)})
        }
        Ids::Strings => {
            let known = known.iter().map(|job| text(job)).collect();
            let mut answer =
                json!({"knownIds": null_if_empty(known), "cancelIds": null_if_empty(cancel)});
            if !inner.held.wishes.is_null() {
                answer["holds"] = inner.held.wishes.clone();
            }
            answer
        }
    };
    granted(&inner, answer.to_string().into_response())
}

fn reported(request: &Value, many: bool) -> Vec<(i64, String)> {
    if !many {
        let ids = request["jobIds"].as_array().cloned().unwrap_or_default();
        return ids.iter().map(|id| (id.as_i64().unwrap(), String::new())).collect();
    }
    let queues = request["jobIdsByQueue"].as_array().cloned().unwrap_or_default();
    queues
        .iter()
        .flat_map(|queue| {
            let name = queue["queueName"].as_str().unwrap().to_owned();
            let ids = queue["jobIds"].as_array().unwrap().clone();
            ids.into_iter().map(move |id| (id.as_str().unwrap().parse().unwrap(), name.clone()))
        })
        .collect()
}

async fn job_verb(
    State(fake): State<Fake>,
    Path((_queue, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(id) = job_of(&fake, &headers) else {
        fake.wrong(format!("{verb} without the headers of a job"));
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["jobId"], id);
    let mut inner = fake.lock();
    let owned = inner.processing.get(&id).is_some_and(|owner| body["executorName"] == **owner);
    match verb.as_str() {
        "addExecutionLogEntry" | "updateExecutionLogEntry" if !owned => {
            let error = json!({"error": "unknown job"}).to_string();
            (StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
        }
        "addExecutionLogEntry" => {
            let expected = body["entryId"].as_i64();
            let entries = inner.entries.entry(id).or_default();
            if let Some(expected) = expected.filter(|expected| *expected <= entries.len() as i64) {
                return expected.to_string().into_response();
            }
            entries.push(entry(&body));
            entries.len().to_string().into_response()
        }
        "updateExecutionLogEntry" => {
            let number = usize::try_from(body["entryId"].as_i64().unwrap()).unwrap();
            let slot = &mut inner.entries.get_mut(&id).unwrap()[number - 1];
            *slot = Entry { updates: slot.updates + 1, ..entry(&body) };
            StatusCode::NO_CONTENT.into_response()
        }
        "markComplete" | "markErrored" | "markFailed" => {
            inner.marks.push((id, verb, body));
            match inner.processing.remove(&id) {
                Some(_) => StatusCode::NO_CONTENT.into_response(),
                None => (StatusCode::NOT_FOUND, "null").into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn entry(body: &Value) -> Entry {
    Entry {
        key: body["key"].as_str().unwrap().to_owned(),
        command: body["command"].clone(),
        out: body["out"].as_str().unwrap_or_default().to_owned(),
        exit_code: body["exitCode"].as_i64(),
        updates: 0,
    }
}

/// Extension `append-logs`.
async fn append(
    State(fake): State<Fake>,
    Path((_queue, job, number)): Path<(String, i64, usize)>,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let mut inner = fake.lock();
    assert!(inner.append_logs, "the extension was not granted");
    let entry = &mut inner.entries.get_mut(&job).unwrap()[number - 1];
    let offset: usize = query["offset"].parse().unwrap();
    if offset > entry.out.len() {
        let answer = json!({"offset": entry.out.len()}).to_string();
        return (StatusCode::CONFLICT, answer).into_response();
    }
    let known = (entry.out.len() - offset).min(body.len());
    entry.out.push_str(std::str::from_utf8(&body[known..]).unwrap());
    entry.exit_code = query.get("exitCode").map(|code| code.parse().unwrap()).or(entry.exit_code);
    entry.updates += 1;
    json!({"offset": entry.out.len()}).to_string().into_response()
}

async fn file(State(fake): State<Fake>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if job_of(&fake, &headers).is_none() {
        fake.wrong("a file was asked for without the headers of a job".to_owned());
    }
    match fake.lock().files.get(&path) {
        Some(content) => content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn registry(State(fake): State<Fake>, Path(path): Path<String>) -> Response {
    if path.starts_with("endless/") {
        std::future::pending::<()>().await;
    }
    match fake.lock().registry.get(&path) {
        Some((kind, body)) => ([("content-type", kind.clone())], body.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Git smart HTTP, by the git program's own CGI.
async fn git(State(fake): State<Fake>, Path(path): Path<String>, request: Request) -> Response {
    use tokio::io::AsyncWriteExt as _;
    let (head, body) = request.into_parts();
    if job_of(&fake, &head.headers).is_none() {
        fake.wrong("git without the headers of a job".to_owned());
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let root = fake.lock().repository.clone().expect("the test gave a repository");
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut cgi = tokio::process::Command::new("git");
    cgi.arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{path}"))
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", if head.method == Method::POST { "POST" } else { "GET" })
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut child = cgi.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap().stdout;
    let split = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&output[..split]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        answer = match name {
            "Status" => answer.status(value[..3].parse::<u16>().unwrap()),
            _ => answer.header(name, value),
        };
    }
    answer.body(Body::from(output[split + 4..].to_vec())).unwrap()
}
