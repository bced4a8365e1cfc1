//! Held requests: a job is handed out, and a cancel told, the moment it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;

use crate::scripted::{EMPTY, NAME, OURS, new_job};
use crate::support::{Answer, Instance, SHARED, until};

async fn held(instance: &Instance, path: &str, wait: &str, body: String) -> Answer {
    let authorization = format!("token-executor {SHARED}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-executor-extensions", OURS),
        ("prefer", wait),
    ];
    instance.call(Method::POST, path, &headers, body).await
}

async fn dequeue(instance: &Instance, name: &str) -> Answer {
    let body = format!(r#"{{"executorName":"{name}"}}"#);
    held(instance, "/.executors/queue/jobs/dequeue", "wait=15", body).await
}

async fn waiting(instance: &Instance, count: i64) {
    let waiting = async || instance.app.metrics.waiting_dequeues.get() == count;
    until("dequeues are held", waiting).await;
}

#[tokio::test]
async fn a_held_dequeue_gets_the_job_as_it_comes() {
    let instance = Arc::new(Instance::start().await);
    let waiter = Arc::clone(&instance);
    let answer = tokio::spawn(async move { dequeue(&waiter, "e").await });
    waiting(&instance, 1).await;
    let enqueued = Instant::now();
    let id = instance.enqueue(&new_job("jobs", "", EMPTY)).await;
    let answer = answer.await.unwrap();
    assert_eq!((answer.status, answer.json()["id"].as_i64()), (200, Some(id)));
    assert_eq!(answer.header("preference-applied"), "wait=15");
    assert_eq!(answer.header("x-executor-extensions"), OURS);
    // Well before the next look without a wake-up.
    assert!(enqueued.elapsed() < Duration::from_secs(3), "{:?}", enqueued.elapsed());
    waiting(&instance, 0).await;
}

#[tokio::test]
async fn a_hold_ends_and_a_stock_executor_is_never_held() {
    let instance = Instance::start().await;
    let body = r#"{"executorName":"e"}"#.to_owned();
    let path = "/.executors/queue/jobs/dequeue";
    let answer = held(&instance, path, "wait=1", body.clone()).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (204, "wait=1"));
    let authorization = format!("token-executor {SHARED}");
    let headers = [("authorization", authorization.as_str()), ("prefer", "wait=3600")];
    let answer = instance.call(Method::POST, path, &headers, body).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (204, ""));
}

#[tokio::test]
async fn many_waiters_get_each_job_exactly_once() {
    let instance = Arc::new(Instance::start().await);
    let mut answers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let waiter = Arc::clone(&instance);
        answers.spawn(async move { dequeue(&waiter, &format!("e{n}")).await });
    }
    waiting(&instance, 100).await;
    let jobs: Vec<_> = (0..100).map(|_| new_job("jobs", "", EMPTY)).collect();
    instance.app.store.enqueue_many(&jobs, instance.clock.now_ms()).await.unwrap();
    let mut ids = BTreeSet::new();
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        assert!(ids.insert(answer.json()["id"].as_i64()));
    }
    assert_eq!(ids.len(), 100);
}

#[tokio::test]
async fn a_waiter_that_leaves_takes_no_job_with_it() {
    let instance = Arc::new(Instance::start().await);
    let waiter = Arc::clone(&instance);
    let leaving = tokio::spawn(async move { dequeue(&waiter, "leaves").await });
    waiting(&instance, 1).await;
    leaving.abort();
    waiting(&instance, 0).await;
    let id = instance.enqueue(&new_job("jobs", "", EMPTY)).await;
    let answer = dequeue(&instance, "stays").await;
    assert_eq!(answer.json()["id"].as_i64(), Some(id));
}

#[tokio::test]
async fn a_held_heartbeat_counts_at_once_and_ends_with_a_cancel() {
    let instance = Arc::new(Instance::start().await);
    let job = instance.held("jobs", "").await;
    let body = format!(r#"{{"executorName":"{NAME}","jobIds":[{}]}}"#, job.id);
    let waiter = Arc::clone(&instance);
    let started = Instant::now();
    let answer = tokio::spawn(async move {
        held(&waiter, "/.executors/queue/jobs/heartbeat", "wait=10", body).await
    });
    let recorded = async || instance.app.store.executor(NAME).await.unwrap().is_some();
    until("the beat counts while it is held", recorded).await;
    assert!(!answer.is_finished());
    instance.app.store.cancel(job.id, "somebody", instance.clock.now_ms()).await.unwrap();
    let answer = answer.await.unwrap();
    answer.is(200, &format!(r#"{{"knownIds":["{0}"],"cancelIds":["{0}"]}}"#, job.id));
    assert_eq!(answer.header("preference-applied"), "wait=10");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_held_heartbeat_ends_when_the_executor_is_to_drain() {
    let instance = Arc::new(Instance::start().await);
    let beat = |draining: bool| {
        format!(r#"{{"executorName":"{NAME}","jobIds":[],"agent":{{"draining":{draining}}}}}"#)
    };
    let path = "/.executors/queue/jobs/heartbeat";
    // The first one makes the executor known.
    instance.shared(path, &beat(false)).await;
    instance.app.store.set_drain(NAME, true).await.unwrap();
    let told = r#"{"knownIds":[],"cancelIds":[],"drain":true}"#;
    held(&instance, path, "wait=10", beat(false)).await.is(200, told);
    // A stock executor does not know the field.
    let stock = r#"{"knownIds":[],"cancelIds":[]}"#;
    instance.shared(path, &beat(false)).await.is(200, stock);
    // Who knows already is held until something changes.
    let waiter = Arc::clone(&instance);
    let answer = tokio::spawn(async move { held(&waiter, path, "wait=10", beat(true)).await });
    let recorded = async || instance.app.store.executor(NAME).await.unwrap().unwrap().draining;
    until("the beat counts while it is held", recorded).await;
    instance.app.store.set_drain(NAME, false).await.unwrap();
    answer.await.unwrap().is(200, stock);
}

#[tokio::test]
async fn shutting_down_answers_what_is_held() {
    let instance = Instance::start().await;
    let app = Arc::clone(&instance.app);
    let (http, url) = (instance.http.clone(), instance.url.clone());
    let request = http
        .post(format!("{url}/.executors/queue/jobs/dequeue"))
        .header("authorization", format!("token-executor {SHARED}"))
        .header("x-executor-extensions", OURS)
        .header("prefer", "wait=60")
        .body(r#"{"executorName":"e"}"#);
    let answer = tokio::spawn(request.send());
    until("the dequeue is held", async || app.metrics.waiting_dequeues.get() == 1).await;
    let started = Instant::now();
    instance.stop().await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap().status(), 204);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(http.get(format!("{url}/healthz")).send().await.is_err());
}
