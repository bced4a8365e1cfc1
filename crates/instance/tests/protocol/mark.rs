//! The end of a job.

use crate::scripted::{Held, NAME};
use crate::support::Instance;

fn body(held: &Held, rest: &str) -> String {
    format!(r#"{{"executorName":"{NAME}","jobId":{}{rest}}}"#, held.id)
}

#[tokio::test]
async fn each_report_leads_to_its_state() {
    let instance = Instance::start().await;
    for (verb, rest, state) in [
        ("markComplete", "", "completed"),
        ("markErrored", r#","errorMessage":"boom""#, "failed"),
        ("markFailed", r#","errorMessage":"boom""#, "failed"),
    ] {
        for queue in ["batches", "codeintel", "jobs"] {
            let held = instance.held(queue, "").await;
            instance.job(&held, verb, &body(&held, rest)).await.is(204, "");
            let job = instance.app.store.job(held.id).await.unwrap().unwrap();
            assert_eq!((job.state.to_string().as_str(), job.reason), (state, None));
            assert_eq!(job.message, if rest.is_empty() { "" } else { "boom" });
        }
    }
}

#[tokio::test]
async fn a_cancelled_job_ends_as_canceled_unless_it_completed() {
    let instance = Instance::start().await;
    for (verb, state) in
        [("markFailed", "canceled"), ("markErrored", "canceled"), ("markComplete", "completed")]
    {
        let held = instance.held("batches", "").await;
        instance.app.store.cancel(held.id, "somebody", instance.clock.now_ms()).await.unwrap();
        instance.job(&held, verb, &body(&held, "")).await.is(204, "");
        assert_eq!(instance.state(held.id).await, state);
    }
}

#[tokio::test]
async fn the_late_result_of_a_lost_executor_counts_if_nobody_took_the_job() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    instance.clock.advance_ms(26_000);
    instance.app.store.reset_stalled(instance.clock.now_ms()).await.unwrap();
    assert_eq!(instance.state(held.id).await, "queued");
    // The token still reports the end, and nothing else.
    let log = format!(r#"{{"executorName":"{NAME}","jobId":{},"key":"k"}}"#, held.id);
    let answer = instance.job(&held, "addExecutionLogEntry", &log).await;
    answer.is(500, r#"{"error":"unknown job"}"#);
    let git = "/.executors/git/acme/app/info/refs";
    let answer = instance.with_token(reqwest::Method::GET, &held, git, "").await;
    answer.is(401, "invalid token\n");
    instance.job(&held, "markComplete", &body(&held, "")).await.is(204, "");
    assert_eq!(instance.state(held.id).await, "completed");
    instance.job(&held, "markComplete", &body(&held, "")).await.is(401, "invalid token\n");
}

#[tokio::test]
async fn our_executor_says_why_and_what_it_used() {
    let instance = Instance::start().await;
    let held = instance.held("jobs", "").await;
    let rest = r#","errorMessage":"killed","reason":"guest_oom","exitCode":137,"usage":{"cpuMs":5,"peakMemoryBytes":7}"#;
    instance.job(&held, "markFailed", &body(&held, rest)).await.is(204, "");
    let job = instance.app.store.job(held.id).await.unwrap().unwrap();
    assert_eq!(job.reason, Some(protocol::FailureReason::GuestOom));
    assert_eq!((job.exit_code, job.usage.unwrap().cpu_ms), (Some(137), 5));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_changes_nothing() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    for verb in ["markComplete", "markErrored", "markFailed"] {
        instance.job(&held, verb, "{").await.says(400, "Failed to unmarshal payload: ");
        instance.job(&held, verb, r#"{"jobId":"1"}"#).await.says(400, "Failed to unmarshal");
    }
    assert_eq!(instance.state(held.id).await, "processing");
}
