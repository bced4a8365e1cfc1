//! Taking jobs, heartbeats, cancellation and shutdown in the base protocol. None of these jobs gets as
//! far as a microVM: their images are missing, or never arrive.

use serde_json::{Value, json};

use crate::fake::{Fake, Fault, Ids};
use crate::world::World;

/// A job in format v1, with the nulls of the original, whose image is missing.
fn v1(id: i64, image: &str) -> Value {
    json!({"id": id, "token": format!("token-{id}"), "repositoryName": "", "repositoryDirectory": "",
        "commit": "", "fetchTags": false, "shallowClone": false, "sparseCheckout": null,
        "files": {}, "dockerSteps": [{"key": "a", "image": image, "commands": null, "dir": ".",
        "env": null}], "cliSteps": null, "redactedValues": null})
}

const MISSING: &str = "executors.internal/missing:1";
const ENDLESS: &str = "executors.internal/endless:1";

#[tokio::test]
async fn a_v1_job_with_a_missing_image_fails_for_good() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, MISSING));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markFailed");
    assert!(body["errorMessage"].as_str().unwrap().contains("missing"), "{body}");
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["errorMessage", "executorName", "jobId"], "only what stock instances know");
    let entry = world.fake.entry(7, "setup.image.0");
    assert_eq!(entry.exit_code, Some(1));
    assert_eq!(entry.command, json!(["pull", MISSING]));
    let dequeue = world.fake.lock().dequeues[0].clone();
    assert_eq!((&dequeue["numCPUs"], &dequeue["memory"]), (&json!(1), &json!("512M")));
    world.finish().await;
}

#[tokio::test]
async fn several_queues_are_served_with_their_own_ids() {
    let fake = Fake::start().await;
    fake.lock().ids = Ids::Mixed;
    let world = World::with(fake, &[("EXECUTOR_QUEUE_NAMES", "batches,codeintel")]).await;
    for (id, queue) in [(5, "codeintel"), (6, "batches")] {
        let mut job = v1(id, ENDLESS);
        job["version"] = json!(2);
        job["queue"] = json!(queue);
        job["dockerAuthConfig"] = json!({});
        world.fake.enqueue(job);
    }
    let beat = world
        .fake
        .wait_for("a beat with both jobs", |inner| {
            let beat = inner.heartbeats.last()?;
            (beat["jobIdsByQueue"].as_array()?.len() == 2).then(|| beat.clone())
        })
        .await;
    let expected = json!([{"queueName": "batches", "jobIds": ["6"]},
        {"queueName": "codeintel", "jobIds": ["5"]}]);
    assert_eq!(beat["jobIdsByQueue"], expected);
    assert_eq!(beat["queueNames"], json!(["batches", "codeintel"]));
    assert_eq!(beat["os"], "linux");
    world.fake.lock().cancel = vec![5, 6];
    for id in [5, 6] {
        let (verb, body) = world.fake.ended(id).await;
        assert_eq!(
            (verb.as_str(), &body["errorMessage"]),
            ("markFailed", &json!("the job was canceled"))
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn answers_that_make_no_sense_stop_no_job() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, ENDLESS));
    world.fake.wait_for("the job", |inner| inner.processing.contains_key(&7).then_some(())).await;
    world.fake.lock().ids = Ids::Garbage;
    for fault in [Fault::Cut, Fault::Status(500), Fault::Status(401), Fault::CutAnswer] {
        world.fake.fault("heartbeat", fault);
    }
    let seen = world.fake.lock().heartbeats.len();
    world
        .fake
        .wait_for("more beats", |inner| (inner.heartbeats.len() > seen + 4).then_some(()))
        .await;
    world.fake.lock().ids = Ids::Strings;
    world
        .fake
        .wait_for("the job still running", |inner| {
            (inner.heartbeats.len() > seen + 8 && inner.heartbeats.last()?["jobIds"] == json!([7]))
                .then_some(())
        })
        .await;
    assert!(world.fake.lock().marks.is_empty());
    world.fake.lock().cancel = vec![7];
    world.fake.ended(7).await;
    world.finish().await;
}

#[tokio::test]
async fn a_job_that_the_instance_does_not_know_is_dropped_without_a_word() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, ENDLESS));
    world
        .fake
        .wait_for("a beat with the job", |inner| {
            (inner.heartbeats.last()?["jobIds"] == json!([7])).then_some(())
        })
        .await;
    world.fake.lock().processing.clear();
    world
        .fake
        .wait_for("an idle beat", |inner| {
            inner.heartbeats.last()?["jobIds"].is_null().then_some(())
        })
        .await;
    assert!(world.fake.lock().marks.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn trouble_while_asking_for_jobs_is_survived() {
    let world = World::start().await;
    for fault in [Fault::Status(500), Fault::Cut, Fault::Status(502)] {
        world.fake.fault("dequeue", fault);
    }
    world.fake.enqueue(json!({"id": 3, "token": "token-3", "version": 2,
        "files": {"a": {"content": "not base64!"}}}));
    world.fake.enqueue(v1(7, MISSING));
    let (verb, body) = world.fake.ended(3).await;
    assert_eq!(verb, "markFailed");
    assert!(body["errorMessage"].as_str().unwrap().contains("base64"), "{body}");
    world.fake.ended(7).await;
    world.finish().await;
}

#[tokio::test]
async fn src_steps_need_an_image() {
    let world = World::start().await;
    let mut job = v1(7, MISSING);
    job["cliSteps"] = json!([{"key": "x", "command": ["version"], "dir": ".", "env": []}]);
    world.fake.enqueue(job);
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markFailed");
    assert!(body["errorMessage"].as_str().unwrap().contains("EXECUTOR_SRC_CLI_IMAGE"));
    world.finish().await;
}

#[tokio::test]
async fn the_time_limit_covers_preparation() {
    let fake = Fake::start().await;
    let settings = [("EXECUTOR_QUEUE_NAME", "jobs"), ("EXECUTOR_MAXIMUM_RUNTIME_PER_JOB", "300ms")];
    let world = World::with(fake, &settings).await;
    world.fake.enqueue(v1(7, ENDLESS));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markErrored");
    assert_eq!(body["errorMessage"], "job exceeded maximum execution time of 300ms");
    // The entry that was cut off has ended, before the job did.
    assert_eq!(world.fake.entry(7, "setup.image.0").exit_code, Some(-1));
    world.finish().await;
}

#[tokio::test]
async fn the_end_is_reported_until_it_is_acknowledged() {
    let world = World::start().await;
    for fault in [Fault::Cut, Fault::Status(503), Fault::CutAnswer] {
        world.fake.fault("markFailed", fault);
    }
    world.fake.enqueue(v1(7, MISSING));
    world
        .fake
        .wait_for("two reports, the second too late", |inner| {
            (inner.marks.len() == 2).then_some(())
        })
        .await;
    world.finish().await;
}

#[tokio::test]
async fn an_executor_ends_after_its_number_of_jobs() {
    let fake = Fake::start().await;
    for id in 1..=3 {
        fake.enqueue(v1(id, MISSING));
    }
    let settings = [("EXECUTOR_QUEUE_NAME", "jobs"), ("EXECUTOR_NUM_TOTAL_JOBS", "2")];
    let world = World::with(fake.clone(), &settings).await;
    world.ended().await.unwrap();
    assert_eq!(fake.lock().marks.len(), 2);
    assert_eq!(fake.lock().jobs.len(), 1);
}

#[tokio::test]
async fn an_executor_ends_after_its_time() {
    let fake = Fake::start().await;
    let settings = [("EXECUTOR_QUEUE_NAME", "jobs"), ("EXECUTOR_MAX_ACTIVE_TIME", "200ms")];
    let world = World::with(fake.clone(), &settings).await;
    world.ended().await.unwrap();
    assert!(!fake.lock().dequeues.is_empty());
}

#[tokio::test]
async fn draining_waits_for_jobs_and_goes_on_beating() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, ENDLESS));
    world.fake.wait_for("the job", |inner| inner.processing.contains_key(&7).then_some(())).await;
    world.shutdown.drain();
    world.fake.enqueue(v1(8, MISSING));
    let seen = world.fake.lock().heartbeats.len();
    world
        .fake
        .wait_for("more beats", |inner| (inner.heartbeats.len() > seen + 4).then_some(()))
        .await;
    assert!(world.fake.lock().marks.is_empty());
    world.fake.lock().cancel = vec![7];
    world.fake.ended(7).await;
    let fake = world.fake.clone();
    world.finish().await;
    assert_eq!(fake.lock().jobs.len(), 1, "no job is taken while draining");
}

#[tokio::test]
async fn stopping_at_once_leaves_the_job_to_the_instance() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, ENDLESS));
    world
        .fake
        .wait_for("the job at work", |inner| inner.entries.contains_key(&7).then_some(()))
        .await;
    world.shutdown.stop();
    let fake = world.fake.clone();
    world.finish().await;
    assert!(fake.lock().marks.is_empty());
}

#[tokio::test]
async fn an_id_that_is_handed_out_again_replaces_the_older_run() {
    let world = World::start().await;
    world.fake.enqueue(v1(7, ENDLESS));
    world
        .fake
        .wait_for("the job at work", |inner| inner.entries.contains_key(&7).then_some(()))
        .await;
    world.fake.enqueue(v1(7, MISSING));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markFailed");
    assert!(body["errorMessage"].as_str().unwrap().contains("missing"), "{body}");
    world.finish().await;
}

#[tokio::test]
async fn a_refused_token_ends_a_verified_start() {
    let fake = Fake::start().await;
    let settings =
        [("EXECUTOR_QUEUE_NAME", "jobs"), ("EXECUTOR_FRONTEND_PASSWORD", "another secret")];
    let world = World::with(fake, &settings).await;
    let error = world.ended().await.unwrap_err();
    assert!(error.to_string().contains("EXECUTOR_FRONTEND_PASSWORD"), "{error}");
    assert!(!error.to_string().contains("another secret"));
}
