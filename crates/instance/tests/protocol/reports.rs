//! What only our own executors report: appended output, phases, results, artifacts.

use reqwest::Method;

use crate::scripted::{Held, NAME};
use crate::support::{Instance, SHARED};

fn add(held: &Held, key: &str, expected: i64) -> String {
    format!(
        r#"{{"executorName":"{NAME}","jobId":{},"key":"{key}","entryId":{expected},"startTime":"2023-01-02T03:04:05Z"}}"#,
        held.id
    )
}

#[tokio::test]
async fn output_is_appended_once_whatever_is_repeated() {
    let instance = Instance::start().await;
    let held = instance.held("jobs", "").await;
    instance.job(&held, "addExecutionLogEntry", &add(&held, "a", 1)).await.is(200, "1");
    instance.job(&held, "addExecutionLogEntry", &add(&held, "a", 1)).await.is(200, "1");
    let out_of_order = instance.job(&held, "addExecutionLogEntry", &add(&held, "b", 7)).await;
    assert_eq!(out_of_order.status, 409);
    let path =
        |query: &str| format!("{}?{query}", protocol::routes::log_append("jobs", held.id, 1));
    let append = async |query: &str, bytes: &'static [u8]| {
        instance.with_token(Method::POST, &held, &path(query), bytes).await
    };
    append("offset=0", b"stdout: one\n").await.is(200, r#"{"offset":12}"#);
    append("offset=0", b"stdout: one\nstdout: t").await.is(200, r#"{"offset":21}"#);
    append("offset=12", b"stdout: t").await.is(200, r#"{"offset":21}"#);
    append("offset=40", b"lost").await.is(409, r#"{"offset":21}"#);
    append("offset=21&exitCode=3&durationMs=55", b"\xff\n").await.is(200, r#"{"offset":23}"#);
    append("offset=23&exitCode=3&durationMs=55", b"").await.is(200, r#"{"offset":23}"#);
    let entries = instance.app.store.log_entries(held.id, 1).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].exit_code, entries[0].duration_ms), (Some(3), Some(55)));
    let log = instance.app.store.read_log(held.id, 1, 1, 0, 1 << 20).await.unwrap();
    assert_eq!(log, b"stdout: one\nstdout: t\xff\n");
    let missing = protocol::routes::log_append("jobs", held.id, 9) + "?offset=0";
    let answer = instance.with_token(Method::POST, &held, &missing, "x").await;
    assert_eq!(answer.status, 404);
    let large = vec![b'x'; (1 << 20) + 1];
    let answer = instance.with_token(Method::POST, &held, &path("offset=23"), large).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn a_job_reports_only_about_itself() {
    let instance = Instance::start().await;
    let (a, b) = (instance.held("jobs", "").await, instance.held("jobs", "").await);
    instance.job(&b, "addExecutionLogEntry", &add(&b, "a", 1)).await.is(200, "1");
    let unknown = r#"{"error":"unknown job"}"#;
    let log = protocol::routes::log_append("jobs", b.id, 1) + "?offset=0";
    instance.with_token(Method::POST, &a, &log, "x").await.is(500, unknown);
    let phase = format!(r#"{{"executorName":"{NAME}","phase":"booting","elapsedMs":5}}"#);
    let path = protocol::routes::phases("jobs", b.id);
    instance.with_token(Method::POST, &a, &path, phase).await.is(500, unknown);
    let path = protocol::routes::results("jobs", b.id);
    let result = r#"{"kind":"k","name":"n","value":1}"#;
    instance.with_token(Method::POST, &a, &path, result).await.is(500, unknown);
    let path = protocol::routes::artifact("jobs", b.id, "x");
    instance.with_token(Method::PUT, &a, &path, "x").await.is(500, unknown);
    let other_queue = protocol::routes::results("batches", a.id);
    let answer = instance.with_token(Method::POST, &a, &other_queue, result).await;
    answer.is(403, "invalid token\n");
}

#[tokio::test]
async fn phases_and_results_are_kept() {
    let instance = Instance::start().await;
    let held = instance.held("jobs", "").await;
    let phases = protocol::routes::phases("jobs", held.id);
    instance.clock.advance_ms(1000);
    for (phase, ms) in [("preparing", 0), ("booting", 400), ("booting", 900)] {
        let body = format!(r#"{{"executorName":"{NAME}","phase":"{phase}","elapsedMs":{ms}}}"#);
        instance.with_token(Method::POST, &held, &phases, body).await.is(204, "");
    }
    let stored = instance.app.store.phases(held.id, 1).await.unwrap();
    assert_eq!((stored.len(), stored[1].began_at - stored[0].began_at), (2, 400));
    let bad = format!(r#"{{"executorName":"{NAME}","phase":"dancing","elapsedMs":1}}"#);
    let answer = instance.with_token(Method::POST, &held, &phases, bad).await;
    answer.says(400, "Failed to unmarshal payload: ");

    let results = protocol::routes::results("jobs", held.id);
    for value in [r#"{"a":1}"#, "[2]"] {
        let body = format!(r#"{{"kind":"output","name":"n","value":{value}}}"#);
        instance.with_token(Method::POST, &held, &results, body).await.is(204, "");
    }
    let stored = instance.app.store.results(held.id, 1).await.unwrap();
    assert_eq!((stored.len(), stored[0].value.as_str()), (1, "[2]"));
    let nameless = r#"{"kind":"","name":"n","value":1}"#;
    let answer = instance.with_token(Method::POST, &held, &results, nameless).await;
    assert_eq!(answer.status, 400);
    let large = format!(r#"{{"kind":"k","name":"n","value":"{}"}}"#, "x".repeat(2 << 20));
    let answer = instance.with_token(Method::POST, &held, &results, large).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn an_artifact_is_stored_whole_with_its_hash() {
    let instance = Instance::start_with(&format!(
        r#"{{ "executors.accessToken": "{SHARED}", "limits.artifactSize": "1M",
             "limits.artifactsPerJob": 2 }}"#
    ))
    .await;
    let held = instance.held("jobs", "").await;
    let put = async |path: &str, bytes: Vec<u8>| {
        let path = protocol::routes::artifact("jobs", held.id, path);
        instance.with_token(Method::PUT, &held, &path, bytes).await
    };
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let answer = put("out/a%20b.txt", b"hello".to_vec()).await;
    answer.is(201, &format!(r#"{{"sha256":"{hello}","size":5}}"#));
    put("out/a%20b.txt", b"again".to_vec()).await.says(201, r#""size":5"#);
    put("big", vec![0; (1 << 20) + 1]).await.says(413, "larger than");
    put("b", Vec::new()).await.says(201, r#""size":0"#);
    put("c", Vec::new()).await.says(413, "limits.artifactsPerJob");
    for bad in ["a%2F..%2Fb", "a%0Ab", "a//b", "a%5Cb"] {
        assert_eq!(put(bad, Vec::new()).await.status, 400, "{bad}");
    }
    let stored = instance.app.store.artifacts(held.id, 1).await.unwrap();
    let paths: Vec<&str> = stored.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["b", "out/a b.txt"]);
    let file = instance.data_dir().join("blobs").join(&stored[1].blob_key);
    assert_eq!(std::fs::read(file).unwrap(), b"again");
    // The replaced one goes with the next retention; nothing else is left behind.
    instance::loops::retention::tick(&instance.app, instance.clock.now_ms()).await.unwrap();
    let folder = instance.data_dir().join(format!("blobs/artifacts/{}-1", held.id));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(instance.data_dir().join("blobs/tmp")).unwrap().count(), 0);
}
