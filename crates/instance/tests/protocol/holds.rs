//! Extension `hold`: an executor keeps a failed job's machine and serves terminals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use instance::loops::holds;
use protocol::hold::{LOST_AFTER_MS, MAX_CHUNK};
use protocol::routes;
use reqwest::Method;
use serde_json::{Value, json};
use store::{NewTerminal, Opened, Stream, TerminalAppend, TerminalEnd};

use crate::scripted::{EMPTY, Held, NAME, OURS, new_job};
use crate::support::{Answer, Instance, SHARED, until};

const GONE: &str = "the machine of this job is not kept\n";

/// A job that has failed and whose machine is kept for `seconds`.
async fn failed(instance: &Instance, seconds: i64) -> Held {
    let held = instance.held("jobs", "acme/app").await;
    let body = format!(
        r#"{{"executorName":"{NAME}","jobId":{},"reason":"step_failed","holdSeconds":{seconds}}}"#,
        held.id
    );
    instance.job(&held, "markFailed", &body).await.is(204, "");
    held
}

async fn open(instance: &Instance, job: i64) -> i64 {
    let new = NewTerminal { user_id: 1, user_name: "ada", cols: 80, rows: 24 };
    let now = instance.clock.now_ms();
    match instance.app.store.open_terminal(job, 1, &new, now).await.unwrap() {
        Opened::Terminal(terminal) => terminal.id,
        refused => panic!("{refused:?}"),
    }
}

async fn typed(instance: &Instance, terminal: i64, offset: u64, data: &[u8]) {
    let append = TerminalAppend { stream: Stream::Input, offset, data, exit_code: None };
    let now = instance.clock.now_ms();
    instance.app.store.append_terminal(terminal, &append, now).await.unwrap();
}

impl Instance {
    async fn poll(&self, held: &Held, body: Value, wait: &str) -> Answer {
        self.on_hold(held, &routes::hold(held.queue, held.id), body.to_string(), wait).await
    }

    async fn on_hold(&self, held: &Held, path: &str, body: String, wait: &str) -> Answer {
        let (authorization, id) = (format!("Bearer {}", held.token), held.id.to_string());
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-sourcegraph-job-id", &id),
            ("x-sourcegraph-executor-name", NAME),
            ("prefer", wait),
        ];
        self.call(Method::POST, path, &headers, body).await
    }
}

fn ask(known: &[i64]) -> Value {
    json!({ "executorName": NAME, "knownTerminals": known, "ended": "" })
}

#[tokio::test]
async fn a_failed_jobs_token_opens_its_hold_and_nothing_else() {
    let instance = Instance::start().await;
    let held = failed(&instance, 600).await;
    assert_eq!(instance.state(held.id).await, "failed");
    let answer = instance.poll(&held, ask(&[]), "").await;
    let wanted = json!({ "remainingMs": 600_000, "release": false, "terminals": [] });
    assert_eq!((answer.status, answer.json()), (200, wanted));
    instance.clock.advance_ms(1_500);
    let terminal = open(&instance, held.id).await;
    let wanted = json!({ "remainingMs": 598_500, "release": false,
        "terminals": [{ "id": terminal, "cols": 80, "rows": 24 }] });
    assert_eq!(instance.poll(&held, ask(&[]), "").await.json(), wanted);

    for verb in ["addExecutionLogEntry", "updateExecutionLogEntry", "markComplete"] {
        instance.job(&held, verb, "{}").await.is(401, "invalid token\n");
    }
    for (method, path) in [
        (Method::GET, "/.executors/git/acme/app/info/refs".to_owned()),
        (Method::POST, routes::phases("jobs", held.id)),
        (Method::PUT, routes::artifact("jobs", held.id, "a")),
        (Method::POST, "/.executors/scip/upload?repository=acme/app".to_owned()),
    ] {
        instance.with_token(method, &held, &path, "x").await.is(401, "invalid token\n");
    }
    let registry = instance.with_token(Method::GET, &held, "/v2/", "").await;
    assert_eq!(registry.status, 401);
}

#[tokio::test]
async fn who_may_not_call_a_hold_is_told_so() {
    let instance = Instance::start_with(&format!(
        r#"{{ "executors.accessToken": "{SHARED}",
             "executors.allowSharedTokenOnJobRoutes": true }}"#
    ))
    .await;
    let (held, other) = (failed(&instance, 600).await, failed(&instance, 600).await);
    let terminal = open(&instance, held.id).await;
    let paths = |queue: &str, job: i64| {
        [
            routes::hold(queue, job),
            routes::terminal_input(queue, job, terminal),
            routes::terminal_output(queue, job, terminal) + "?offset=0",
        ]
    };
    let running = instance.held("jobs", "").await;
    let unknown = Held { token: "0".repeat(40), ..failed(&instance, 600).await };
    let shared = format!("token-executor {SHARED}");
    for (own, foreign) in paths("jobs", held.id).iter().zip(paths("jobs", other.id)) {
        let body = ask(&[]).to_string();
        // The shared token never opens a hold, whatever the site allows to old executors.
        let headers = [("authorization", shared.as_str())];
        instance.call(Method::POST, own, &headers, body.clone()).await.is(403, "");
        assert_eq!(instance.call(Method::POST, own, &[], body.clone()).await.status, 401);
        instance.on_hold(&unknown, own, body.clone(), "").await.is(401, "invalid token\n");
        instance.on_hold(&held, &foreign, body.clone(), "").await.is(403, "invalid token\n");
        let (bearer, id) = (format!("Bearer {}", held.token), held.id.to_string());
        let mut headers = vec![("authorization", bearer.as_str())];
        instance.call(Method::POST, own, &headers, body.clone()).await.says(400, "job ID");
        headers.push(("x-sourcegraph-job-id", &id));
        instance.call(Method::POST, own, &headers, body.clone()).await.says(400, "hostname");
        headers.push(("x-sourcegraph-executor-name", "exec-8"));
        instance.call(Method::POST, own, &headers, body).await.is(403, "invalid token\n");
        assert_eq!(instance.with_token(Method::GET, &held, own, "").await.status, 405);
    }
    for path in paths("batches", held.id) {
        instance.on_hold(&held, &path, ask(&[]).to_string(), "").await.is(403, "invalid token\n");
    }
    // The name in the body counts as well.
    let lie = json!({ "executorName": "exec-8" });
    instance.poll(&held, lie.clone(), "").await.is(403, "invalid token\n");
    let input = routes::terminal_input("jobs", held.id, terminal);
    instance.on_hold(&held, &input, lie.to_string(), "").await.is(403, "invalid token\n");
    // Another job's terminal does not exist for this one.
    for path in &paths("jobs", other.id)[1..] {
        let answer = instance.on_hold(&other, path, ask(&[]).to_string(), "").await;
        answer.is(404, "terminal does not exist\n");
    }
    // A job that runs is not held.
    instance.poll(&running, ask(&[]), "").await.is(410, GONE);
    for bad in ["", "{", "[]", r#"{"knownTerminals":["x"]}"#, r#"{"ended":"bored"}"#] {
        let path = routes::hold("jobs", held.id);
        instance.on_hold(&held, &path, bad.to_owned(), "").await.says(400, "unmarshal");
    }
}

#[tokio::test]
async fn what_is_not_to_be_held_is_gone_at_once() {
    let instance = Instance::start().await;
    for (verb, cancel, rest) in [
        ("markComplete", false, r#","holdSeconds":60"#),
        ("markFailed", true, r#","holdSeconds":60"#),
        ("markFailed", false, r#","holdSeconds":0"#),
        ("markFailed", false, ""),
    ] {
        let held = instance.held("jobs", "").await;
        if cancel {
            instance.app.store.cancel(held.id, "", instance.clock.now_ms()).await.unwrap();
        }
        let body = format!(r#"{{"executorName":"{NAME}","jobId":{}{rest}}}"#, held.id);
        instance.job(&held, verb, &body).await.is(204, "");
        instance.poll(&held, ask(&[]), "wait=10").await.is(410, GONE);
    }
    let held = instance.held("jobs", "").await;
    let negative = format!(r#"{{"executorName":"{NAME}","jobId":{},"holdSeconds":-1}}"#, held.id);
    instance.job(&held, "markFailed", &negative).await.says(400, "Failed to unmarshal");
}

#[tokio::test]
async fn the_site_says_how_long_at_most_and_whether_at_all() {
    let instance = Instance::start().await;
    let held = failed(&instance, i64::MAX).await;
    let answer = instance.poll(&held, ask(&[]), "").await;
    assert_eq!(answer.json()["remainingMs"], 3_600_000);
    instance.configure(&format!(
        r#"{{ "executors.accessToken": "{SHARED}", "executors.maximumHold": "0" }}"#
    ));
    let held = failed(&instance, 60).await;
    instance.poll(&held, ask(&[]), "").await.is(410, GONE);
}

#[tokio::test]
async fn the_poll_is_held_until_a_terminal_opens_closes_or_the_machine_is_released() {
    let instance = Arc::new(Instance::start().await);
    let held = Arc::new(failed(&instance, 600).await);
    let poll = |known: &[i64]| {
        let (instance, held, body) = (Arc::clone(&instance), Arc::clone(&held), ask(known));
        tokio::spawn(async move { instance.poll(&held, body, "wait=10").await })
    };
    let seen = async || {
        let hold = instance.app.store.hold(held.id, 1).await.unwrap().unwrap();
        hold.seen_at == instance.clock.now_ms()
    };
    let started = Instant::now();
    for step in ["open", "close", "release"] {
        instance.clock.advance_ms(10);
        let known: Vec<i64> = instance
            .app
            .store
            .terminals(held.id)
            .await
            .unwrap()
            .iter()
            .filter(|t| t.is_open())
            .map(|t| t.id)
            .collect();
        let answer = poll(&known);
        until("the poll counts while it is held", seen).await;
        assert!(!answer.is_finished(), "{step}");
        match step {
            "open" => drop(open(&instance, held.id).await),
            "close" => drop(instance.app.store.close_terminal(known[0], 0).await.unwrap()),
            _ => drop(instance.app.store.release_hold(held.id, 1, "ada").await.unwrap()),
        }
        let answer = answer.await.unwrap();
        assert_eq!(answer.header("preference-applied"), "wait=10");
        let (told, body) = (answer.json()["release"].clone(), answer.json());
        assert_eq!(told, step == "release", "{body}");
        let open = body["terminals"].as_array().unwrap().len();
        assert_eq!(open, usize::from(step == "open"), "{body}");
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    // Released: told again at once, until the executor says that it is done.
    assert_eq!(instance.poll(&held, ask(&[]), "wait=10").await.json()["release"], true);
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_last_call_ends_the_hold_its_terminals_and_its_token() {
    let instance = Instance::start().await;
    for end in ["expired", "released", "machine_gone", "executor_stopped"] {
        let held = failed(&instance, 600).await;
        let terminal = open(&instance, held.id).await;
        let last = json!({ "executorName": NAME, "ended": end });
        let answer = instance.poll(&held, last.clone(), "wait=10").await;
        assert_eq!((answer.status, &answer.json()["release"]), (200, &json!(true)), "{end}");
        instance.poll(&held, last, "").await.is(410, GONE);
        let input = routes::terminal_input("jobs", held.id, terminal);
        instance.on_hold(&held, &input, ask(&[]).to_string(), "").await.is(410, GONE);
        let hold = instance.app.store.hold(held.id, 1).await.unwrap().unwrap();
        assert_eq!(hold.end.map(|end| end.as_str()), Some(end));
        let terminal = instance.app.store.terminal(terminal).await.unwrap().unwrap();
        assert_eq!(terminal.end, Some(TerminalEnd::HoldEnded));
    }
    let held = failed(&instance, 600).await;
    let lie = json!({ "executorName": NAME, "ended": "executor_lost" });
    instance.poll(&held, lie, "").await.says(400, "for the instance to say");
}

#[tokio::test]
async fn a_silent_executor_loses_its_hold_by_the_loop() {
    let instance = Instance::start().await;
    let held = failed(&instance, 600).await;
    let tick = async || holds::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    instance.clock.advance_ms(LOST_AFTER_MS);
    tick().await;
    assert_eq!(instance.poll(&held, ask(&[]), "").await.status, 200);
    instance.clock.advance_ms(LOST_AFTER_MS + 1);
    tick().await;
    instance.poll(&held, ask(&[]), "").await.is(410, GONE);
    // One that asks for ever is cut off by our clock.
    let held = failed(&instance, 20).await;
    instance.clock.advance_ms(20_000);
    let started = Instant::now();
    assert_eq!(instance.poll(&held, ask(&[]), "wait=10").await.json()["remainingMs"], 0);
    assert!(started.elapsed() < Duration::from_secs(5), "told at once that it is over");
    instance.clock.advance_ms(15_001);
    assert_eq!(instance.poll(&held, ask(&[]), "").await.status, 200);
    tick().await;
    instance.poll(&held, ask(&[]), "").await.is(410, GONE);
}

#[tokio::test]
async fn what_is_typed_arrives_at_once_and_from_any_offset() {
    let instance = Arc::new(Instance::start().await);
    let held = Arc::new(failed(&instance, 600).await);
    let terminal = open(&instance, held.id).await;
    let path = routes::terminal_input("jobs", held.id, terminal);
    let input = |offset: u64, cols: u16, wait: &'static str| {
        let (instance, held, path) = (Arc::clone(&instance), Arc::clone(&held), path.clone());
        let body = json!({ "executorName": NAME, "offset": offset, "cols": cols, "rows": 24 });
        async move { instance.on_hold(&held, &path, body.to_string(), wait).await }
    };
    let answer = |offset: u64, data: &[u8], cols: u16, closed: bool| {
        json!({ "offset": offset, "data": BASE64.encode(data), "cols": cols, "rows": 24,
            "closed": closed })
    };
    // The size is not known yet: told at once.
    assert_eq!(input(0, 0, "wait=10").await.json(), answer(0, b"", 80, false));
    let waiting = tokio::spawn(input(0, 80, "wait=10"));
    typed(&instance, terminal, 0, b"ls\r\xff").await;
    assert_eq!(waiting.await.unwrap().json(), answer(0, b"ls\r\xff", 80, false));
    assert_eq!(input(0, 80, "wait=10").await.json(), answer(0, b"ls\r\xff", 80, false), "twice");
    assert_eq!(input(3, 80, "").await.json(), answer(3, b"\xff", 80, false));
    input(9, 80, "").await.is(409, r#"{"offset":4}"#);
    let waiting = tokio::spawn(input(4, 80, "wait=10"));
    instance.app.store.resize_terminal(terminal, 132, 24, 0).await.unwrap();
    assert_eq!(waiting.await.unwrap().json(), answer(4, b"", 132, false));
    // Much at once comes in pieces.
    typed(&instance, terminal, 4, &vec![b'x'; MAX_CHUNK + 5]).await;
    let first = input(4, 132, "wait=10").await.json();
    assert_eq!(first["data"].as_str().unwrap().len(), MAX_CHUNK.div_ceil(3) * 4);
    let rest = input(4 + MAX_CHUNK as u64, 132, "wait=10").await.json();
    assert_eq!(rest["data"], BASE64.encode(b"xxxxx"));
    // What was typed before it was closed still arrives.
    instance.app.store.close_terminal(terminal, 0).await.unwrap();
    let last = MAX_CHUNK as u64 + 8;
    assert_eq!(input(last, 132, "wait=10").await.json(), answer(last, b"x", 132, true));
}

#[tokio::test]
async fn what_is_printed_is_stored_once() {
    let instance = Instance::start().await;
    let held = failed(&instance, 600).await;
    let terminal = open(&instance, held.id).await;
    let append = async |terminal: i64, query: &str, bytes: Vec<u8>| {
        let path = format!("{}?{query}", routes::terminal_output("jobs", held.id, terminal));
        instance.with_token(Method::POST, &held, &path, bytes).await
    };
    append(terminal, "offset=0", b"$ ls".to_vec()).await.is(200, r#"{"offset":4}"#);
    append(terminal, "offset=0", b"$ ls".to_vec()).await.is(200, r#"{"offset":4}"#);
    append(terminal, "offset=2", b"ls\r\n".to_vec()).await.is(200, r#"{"offset":6}"#);
    append(terminal, "offset=9", b"lost".to_vec()).await.is(409, r#"{"offset":6}"#);
    assert_eq!(append(terminal, "", Vec::new()).await.status, 400, "no offset");
    assert_eq!(append(terminal, "offset=-1", Vec::new()).await.status, 400);
    assert_eq!(append(terminal, "offset=6", vec![0; MAX_CHUNK + 1]).await.status, 413);
    append(999, "offset=0", Vec::new()).await.is(404, "terminal does not exist\n");
    append(terminal, "offset=6&exitCode=0", b"bye".to_vec()).await.is(200, r#"{"offset":9}"#);
    append(terminal, "offset=6&exitCode=0", b"bye".to_vec()).await.is(200, r#"{"offset":9}"#);
    let closed = append(terminal, "offset=9", b"ghost".to_vec()).await;
    closed.is(410, &format!("terminal {terminal} is closed: exited\n"));
    let printed = instance.app.store.read_terminal(terminal, Stream::Output, 0, 99).await.unwrap();
    assert_eq!(printed, b"$ ls\r\nbye");
    let killed = open(&instance, held.id).await;
    append(killed, "offset=0&exitCode=-1", Vec::new()).await.is(200, r#"{"offset":0}"#);
    let row = instance.app.store.terminal(killed).await.unwrap().unwrap();
    assert_eq!((row.end, row.exit_code), (Some(TerminalEnd::Exited), Some(-1)));
}

#[tokio::test]
async fn the_job_document_and_the_heartbeat_carry_the_wish() {
    let instance = Arc::new(Instance::start().await);
    let shared = format!("token-executor {SHARED}");
    let dequeue = async |extensions: &str, hold_seconds: u64| {
        let new = store::NewJob { hold_seconds, ..new_job("jobs", "", EMPTY) };
        let id = instance.enqueue(&new).await;
        let headers = [("authorization", shared.as_str()), ("x-executor-extensions", extensions)];
        let body = format!(r#"{{"executorName":"{NAME}"}}"#);
        let path = "/.executors/queue/jobs/dequeue";
        let answer = instance.call(Method::POST, path, &headers, body).await;
        (id, answer.json()["extensions"]["holdSeconds"].clone())
    };
    let with_hold = format!("{OURS}, hold");
    assert_eq!(dequeue(&with_hold, 1800).await.1, 1800);
    assert_eq!(dequeue(&with_hold, 1 << 40).await.1, 3600, "cut to what the site allows");
    assert_eq!(dequeue(OURS, 1800).await.1, 0, "an executor that cannot");
    let (id, told) = dequeue(&with_hold, 0).await;
    assert_eq!(told, 0);

    let beat = |path: &'static str, extensions: String, multi: bool, wait: &'static str| {
        let (instance, shared) = (Arc::clone(&instance), shared.clone());
        let jobs = if multi {
            format!(
                r#""queueNames":["jobs"],"jobIdsByQueue":[{{"queueName":"jobs","jobIds":["{id}"]}}]"#
            )
        } else {
            format!(r#""jobIds":[{id}]"#)
        };
        let body = format!(r#"{{"executorName":"{NAME}",{jobs}}}"#);
        async move {
            let headers = [
                ("authorization", shared.as_str()),
                ("x-executor-extensions", extensions.as_str()),
                ("prefer", wait),
            ];
            instance.call(Method::POST, path, &headers, body).await
        }
    };
    const ONE: &str = "/.executors/queue/jobs/heartbeat";
    const MULTI: &str = "/.executors/queue/heartbeat";
    let known = format!(r#"{{"knownIds":["{id}"],"cancelIds":null}}"#);
    let waiting = tokio::spawn(beat(ONE, with_hold.clone(), false, "wait=10"));
    let recorded = async || instance.app.store.executor(NAME).await.unwrap().is_some();
    until("the beat counts while it is held", recorded).await;
    let started = Instant::now();
    instance.app.store.wish_hold(id, 1 << 40, instance.clock.now_ms()).await.unwrap();
    let told = |seconds| {
        format!(
            r#"{{"knownIds":["{id}"],"cancelIds":null,"holds":[{{"id":"{id}","seconds":{seconds}}}]}}"#
        )
    };
    waiting.await.unwrap().is(200, &told(3600));
    instance.app.store.wish_hold(id, 0, instance.clock.now_ms()).await.unwrap();
    beat(ONE, with_hold.clone(), false, "wait=10").await.is(200, &told(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // Repeated in every answer, but an old wish does not end a held beat.
    instance.clock.advance_ms(10_000);
    let started = Instant::now();
    beat(ONE, with_hold.clone(), false, "wait=1").await.is(200, &told(0));
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    let multi = beat(MULTI, with_hold, true, "").await.json();
    assert_eq!(multi["holds"], json!([{ "id": format!("{id}-jobs"), "seconds": 0 }]));
    // Neither a stock executor nor an older one of ours stumbles over it.
    beat(ONE, String::new(), false, "").await.is(200, &known);
    beat(ONE, OURS.to_owned(), false, "wait=1").await.is(200, &known);
}
