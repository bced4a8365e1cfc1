//! Log entries of the base protocol.

use crate::scripted::{Held, NAME};
use crate::support::{Instance, SHARED};

fn entry(held: &Held, rest: &str) -> String {
    format!(
        r#"{{"executorName":"{NAME}","jobId":{},"key":"setup.git.init","command":["git","init"],"startTime":"2023-01-02T03:04:05.123456789Z"{rest}}}"#,
        held.id
    )
}

async fn output(instance: &Instance, held: &Held, entry: i64) -> String {
    let bytes = instance.app.store.read_log(held.id, 1, entry, 0, 1 << 20).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_entry_is_added_and_replaced() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let added = instance.job(&held, "addExecutionLogEntry", &entry(&held, "")).await;
    added.is(200, "1");
    assert_eq!(added.header("content-type"), "text/plain; charset=utf-8");
    // A stock executor that repeats itself makes a second entry.
    instance.job(&held, "addExecutionLogEntry", &entry(&held, "")).await.is(200, "2");
    let rest = r#","entryId":1,"out":"stdout: a\n""#;
    instance.job(&held, "updateExecutionLogEntry", &entry(&held, rest)).await.is(204, "");
    assert_eq!(output(&instance, &held, 1).await, "stdout: a\n");
    let rest = r#","entryId":1,"exitCode":0,"out":"stdout: a\nstderr: b\n","durationMs":120"#;
    instance.job(&held, "updateExecutionLogEntry", &entry(&held, rest)).await.is(204, "");
    assert_eq!(output(&instance, &held, 1).await, "stdout: a\nstderr: b\n");
    let rest = r#","entryId":1,"exitCode":-1,"out":"other""#;
    instance.job(&held, "updateExecutionLogEntry", &entry(&held, rest)).await.is(204, "");
    assert_eq!(output(&instance, &held, 1).await, "other");
    let entries = instance.app.store.log_entries(held.id, 1).await.unwrap();
    assert_eq!((entries[0].exit_code, entries[0].duration_ms), (Some(-1), None));
    assert_eq!(entries[0].command.as_deref().unwrap(), ["git", "init"]);
    assert_eq!(entries[0].start_time, "2023-01-02T03:04:05.123456789Z");
}

#[tokio::test]
async fn an_entry_without_a_command_is_no_mistake() {
    let instance = Instance::start().await;
    let held = instance.held("codeintel", "").await;
    let body = format!(
        r#"{{"executorName":"{NAME}","jobId":{},"key":"setup.fs.extras","command":null,"startTime":"2023-01-02T03:04:05+02:00","exitCode":0,"out":"x","durationMs":0}}"#,
        held.id
    );
    instance.job(&held, "addExecutionLogEntry", &body).await.is(200, "1");
    let entries = instance.app.store.log_entries(held.id, 1).await.unwrap();
    assert_eq!((entries[0].command.clone(), entries[0].exit_code), (None, Some(0)));
    assert_eq!(output(&instance, &held, 1).await, "x");
}

#[tokio::test]
async fn what_is_not_running_is_unknown() {
    let instance = Instance::start_with(&format!(
        r#"{{ "executors.accessToken": "{SHARED}",
             "executors.allowSharedTokenOnJobRoutes": true }}"#
    ))
    .await;
    let held = instance.held("batches", "").await;
    let unknown = r#"{"error":"unknown job"}"#;
    let mark = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, held.id);
    instance.job(&held, "markComplete", &mark).await.is(204, "");
    for verb in ["addExecutionLogEntry", "updateExecutionLogEntry"] {
        let path = format!("/.executors/queue/batches/{verb}");
        let body = entry(&held, r#","entryId":1"#);
        instance.shared(&path, &body).await.is(500, unknown);
        instance.shared(&path, r#"{"executorName":"e","jobId":12345}"#).await.is(500, unknown);
        instance.shared(&path, "{").await.says(400, "Failed to unmarshal payload: ");
        instance.job(&held, verb, &body).await.is(401, "invalid token\n");
    }
}

#[tokio::test]
async fn an_entry_that_was_never_added_cannot_be_replaced() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let body = entry(&held, r#","entryId":5"#);
    let answer = instance.job(&held, "updateExecutionLogEntry", &body).await;
    answer.says(500, r#"{"error":"dbworkerstore.UpdateExecutionLogEntry: "#);
}

#[tokio::test]
async fn the_log_of_a_job_is_bounded() {
    let instance = Instance::start_with(&format!(
        r#"{{ "executors.accessToken": "{SHARED}", "limits.logSize": "1M" }}"#
    ))
    .await;
    let held = instance.held("batches", "").await;
    let half = format!(r#","out":"{}""#, "x".repeat(600 << 10));
    instance.job(&held, "addExecutionLogEntry", &entry(&held, &half)).await.is(200, "1");
    let answer = instance.job(&held, "addExecutionLogEntry", &entry(&held, &half)).await;
    answer.says(413, "limits.logSize");
    let replaced = entry(&held, &format!(r#"{half},"entryId":1"#));
    instance.job(&held, "updateExecutionLogEntry", &replaced).await.is(204, "");
}
