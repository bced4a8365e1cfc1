//! Heartbeats of one queue and of several, with every odd form of ids.

use serde_json::json;

use crate::scripted::NAME;
use crate::support::Instance;

const ONE: &str = "/.executors/queue/batches/heartbeat";
const MULTI: &str = "/.executors/queue/heartbeat";

#[tokio::test]
async fn idle_on_one_queue_is_two_empty_lists() {
    let instance = Instance::start().await;
    for ids in ["", r#","jobIds":null"#, r#","jobIds":[]"#] {
        let body = format!(r#"{{"version":"V2","executorName":"e"{ids}}}"#);
        let answer = instance.shared(ONE, &body).await;
        answer.is(200, r#"{"knownIds":[],"cancelIds":[]}"#);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("x-executor-extensions"), "");
    }
}

#[tokio::test]
async fn ids_of_every_form_are_known_by_number() {
    let instance = Instance::start().await;
    let (a, b) = (instance.held("batches", "").await, instance.held("batches", "").await);
    let other = instance.held("codeintel", "").await;
    let body = format!(
        r#"{{"executorName":"{NAME}","jobIds":["{}",{},99,"x",{}]}}"#,
        a.id, b.id, other.id
    );
    let wanted = format!(r#"{{"knownIds":["{}","{}"],"cancelIds":null}}"#, a.id, b.id);
    instance.shared(ONE, &body).await.is(200, &wanted);
    let body = format!(r#"{{"executorName":"{NAME}","jobIds":[99]}}"#);
    instance.shared(ONE, &body).await.is(200, r#"{"knownIds":null,"cancelIds":null}"#);
    let body = format!(r#"{{"executorName":"somebody else","jobIds":[{}]}}"#, a.id);
    instance.shared(ONE, &body).await.is(200, r#"{"knownIds":null,"cancelIds":null}"#);
    let body = r#"{"executorName":"e","jobIds":[true]}"#;
    instance.shared(ONE, body).await.says(400, "Failed to unmarshal payload: ");
}

#[tokio::test]
async fn a_cancelled_job_is_told() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    instance.app.store.cancel(held.id, "somebody", instance.clock.now_ms()).await.unwrap();
    let body = format!(r#"{{"executorName":"{NAME}","jobIds":[{}]}}"#, held.id);
    let wanted = format!(r#"{{"knownIds":["{0}"],"cancelIds":["{0}"]}}"#, held.id);
    instance.shared(ONE, &body).await.is(200, &wanted);
}

#[tokio::test]
async fn several_queues_carry_their_names() {
    let instance = Instance::start().await;
    let (a, b) = (instance.held("batches", "").await, instance.held("codeintel", "").await);
    instance.app.store.cancel(b.id, "somebody", instance.clock.now_ms()).await.unwrap();
    let body = json!({
        "executorName": NAME,
        "queueNames": ["codeintel", "batches"],
        "jobIdsByQueue": [
            {"queueName": "batches", "jobIds": [a.id.to_string()]},
            {"queueName": "codeintel", "jobIds": [b.id.to_string(), "98"]},
        ],
    });
    let wanted = json!({
        "knownIds": [format!("{}-batches", a.id), format!("{}-codeintel", b.id)],
        "cancelIds": [format!("{}-codeintel", b.id)],
    });
    let answer = instance.shared(MULTI, &body.to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, wanted));
    for idle in ["", r#","jobIdsByQueue":null"#, r#","jobIdsByQueue":[]"#] {
        let body = format!(r#"{{"executorName":"{NAME}","queueNames":["batches"]{idle}}}"#);
        let answer = instance.shared(MULTI, &body).await;
        answer.is(200, r#"{"knownIds":null,"cancelIds":null}"#);
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_said_so() {
    let instance = Instance::start().await;
    for path in [ONE, MULTI] {
        instance.shared(path, "{").await.says(400, "Failed to unmarshal payload: ");
        let wanted = r#"{"error":"worker hostname cannot be empty"}"#;
        instance.shared(path, r#"{"executorName":""}"#).await.is(500, wanted);
    }
    let wanted = r#"{"error":"queueNames must be set for multi-queue heartbeats"}"#;
    instance.shared(MULTI, r#"{"executorName":"e"}"#).await.is(500, wanted);
    let body = json!({
        "executorName": "e",
        "queueNames": ["codeintel", "batches"],
        "jobIdsByQueue": [{"queueName": "foo", "jobIds": []}, {"queueName": "bar", "jobIds": []}],
    });
    let wanted = r#"{"error":"unsupported queue name(s) 'foo, bar' submitted in queueJobIds, executor is configured for queues 'codeintel, batches'"}"#;
    instance.shared(MULTI, &body.to_string()).await.is(500, wanted);
}

#[tokio::test]
async fn the_registry_learns_what_the_executor_says() {
    let instance = Instance::start().await;
    let body = json!({
        "version": "V2", "executorName": NAME, "jobIds": null, "os": "linux",
        "architecture": "amd64", "dockerVersion": "24.0.1", "executorVersion": "5.1.0",
        "gitVersion": "2.40.0", "igniteVersion": "", "srcCliVersion": "5.1.0",
        "prometheusMetrics": "# TYPE src_executor_processor_total counter\nsrc_executor_processor_total 3\n",
    });
    instance.shared(ONE, &body.to_string()).await;
    let row = instance.app.store.executor(NAME).await.unwrap().unwrap();
    assert_eq!((row.queues, row.multi_queue), (vec!["batches".to_owned()], false));
    assert_eq!((row.os.as_str(), row.executor_version.as_str()), ("linux", "5.1.0"));
    let metrics = instance.app.store.executor_metrics(0).await.unwrap();
    assert!(metrics[0].1.contains("src_executor_processor_total 3"));
}

#[tokio::test]
async fn a_beat_keeps_a_job_and_brings_a_lost_one_back() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let body = format!(r#"{{"executorName":"{NAME}","jobIds":[{}]}}"#, held.id);
    let known = format!(r#"{{"knownIds":["{}"],"cancelIds":null}}"#, held.id);
    let reset = async || instance.app.store.reset_stalled(instance.clock.now_ms()).await.unwrap();
    instance.clock.advance_ms(20_000);
    instance.shared(ONE, &body).await.is(200, &known);
    instance.clock.advance_ms(20_000);
    assert!(reset().await.is_empty());
    instance.clock.advance_ms(20_000);
    assert_eq!(reset().await.len(), 1);
    // Nobody took it meanwhile.
    instance.shared(ONE, &body).await.is(200, &known);
    assert_eq!(instance.state(held.id).await, "processing");
}
