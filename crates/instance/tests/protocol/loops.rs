//! Loops, stepped by hand with the clock in our hands.

use instance::blobs::BlobKey;
use instance::loops::{metrics, orphans, retention, stalled};

use crate::scripted::{EMPTY, NAME, new_job};
use crate::support::Instance;

#[tokio::test]
async fn a_stalled_job_runs_again_three_times_and_then_fails() {
    let instance = Instance::start().await;
    let first = instance.held("batches", "").await;
    let tick = async || stalled::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    instance.clock.advance_ms(25_000);
    tick().await;
    assert_eq!(instance.state(first.id).await, "processing");
    for attempt in 1..=4 {
        instance.clock.advance_ms(1_000);
        tick().await;
        let row = instance.app.store.job(first.id).await.unwrap().unwrap();
        let state = if attempt < 4 { "queued" } else { "failed" };
        assert_eq!((row.state.to_string().as_str(), row.attempt), (state, attempt));
        if attempt < 4 {
            let body = format!(r#"{{"executorName":"{NAME}"}}"#);
            let again = instance.shared("/.executors/queue/batches/dequeue", &body).await;
            assert_eq!(again.json()["id"], first.id);
            instance.clock.advance_ms(25_000);
        }
    }
    let row = instance.app.store.job(first.id).await.unwrap().unwrap();
    assert_eq!(row.reason, Some(protocol::FailureReason::ExecutorLost));
    let text = instance.app.metrics.encode();
    assert!(text.contains(r#"executors_job_resets_total{outcome="requeued"} 3"#), "{text}");
    assert!(text.contains(r#"executors_job_resets_total{outcome="ended"} 1"#), "{text}");
}

#[tokio::test]
async fn gauges_say_how_full_the_queues_are() {
    let instance = Instance::start().await;
    instance.held("jobs", "").await;
    let failed = instance.held("jobs", "").await;
    let mark = format!(r#"{{"executorName":"{NAME}","jobId":{},"holdSeconds":60}}"#, failed.id);
    instance.job(&failed, "markFailed", &mark).await.is(204, "");
    instance.enqueue(&new_job("jobs", "", EMPTY)).await;
    instance.clock.advance_ms(90_000);
    metrics::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    let text = instance.app.metrics.encode();
    for line in [
        r#"executors_queue_jobs{queue="jobs",state="queued"} 1"#,
        r#"executors_queue_jobs{queue="jobs",state="processing"} 1"#,
        r#"executors_queue_jobs{queue="batches",state="queued"} 0"#,
        r#"src_executor_total{queue="jobs"} 1"#,
        r#"executors_oldest_queued_job_seconds{queue="jobs"} 90"#,
        r#"executors_dequeues_total{queue="jobs"} 2"#,
        "executors_held_machines 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn an_old_job_goes_with_its_artifacts() {
    let instance = Instance::start().await;
    let held = instance.held("jobs", "").await;
    let path = protocol::routes::artifact("jobs", held.id, "a");
    instance.with_token(reqwest::Method::PUT, &held, &path, "x").await;
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, held.id);
    instance.job(&held, "markComplete", &body).await.is(204, "");
    let folder = instance.data_dir().join(format!("blobs/artifacts/{}-1", held.id));
    let tick = async || retention::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    let day = 24 * 3600 * 1000;
    instance.clock.advance_ms(29 * day);
    tick().await;
    assert!(folder.exists() && instance.app.store.job(held.id).await.unwrap().is_some());
    instance.clock.advance_ms(2 * day);
    tick().await;
    assert!(!folder.exists());
    assert!(instance.app.store.job(held.id).await.unwrap().is_none());
}

#[tokio::test]
async fn files_that_no_row_names_go_and_others_stay() {
    let instance = Instance::start().await;
    let held = instance.held("jobs", "").await;
    let path = protocol::routes::artifact("jobs", held.id, "a");
    instance.with_token(reqwest::Method::PUT, &held, &path, "x").await;
    let named = instance.app.store.artifacts(held.id, 1).await.unwrap()[0].blob_key.clone();
    let mut left = vec![BlobKey::unique("artifacts", &format!("{}-1", held.id))];
    left.push(BlobKey::unique("artifacts", "999-1"));
    left.push(BlobKey::unique("uploads", "5"));
    left.push(BlobKey::sha256(&[7; 32]));
    for key in &left {
        let writer = instance.app.blobs.create(1).await.unwrap();
        writer.publish(key).await.unwrap();
    }
    std::fs::create_dir_all(instance.app.git.path(77)).unwrap();
    let exists = |key: &str| instance.data_dir().join("blobs").join(key).exists();
    orphans::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    assert!(left.iter().all(|key| exists(key.as_str())), "too young to go");
    let tomorrow = instance::clock::Clock::system().now_ms() + 25 * 3600 * 1000;
    orphans::tick(&instance.app, tomorrow).await.unwrap();
    assert!(left.iter().all(|key| !exists(key.as_str())));
    assert!(exists(&named) && !instance.app.git.path(77).exists());
}
