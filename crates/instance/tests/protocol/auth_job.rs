//! Authorization of job routes: the token of one job, and its three headers.

use reqwest::Method;

use crate::scripted::{Held, NAME};
use crate::support::{Answer, Instance, SHARED};

const MARK: &str = "/.executors/queue/batches/markComplete";

async fn call(
    instance: &Instance,
    path: &str,
    authorization: Option<&str>,
    id: Option<&str>,
    name: Option<&str>,
) -> Answer {
    let headers = [
        ("authorization", authorization),
        ("x-sourcegraph-job-id", id),
        ("x-sourcegraph-executor-name", name),
    ];
    let headers: Vec<_> = headers.into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
    let body = r#"{"executorName":"exec-7","jobId":1}"#;
    instance.call(Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn every_row_of_the_table_is_answered_so() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "acme/app").await;
    let (id, bearer) = (held.id.to_string(), format!("Bearer {}", held.token));
    let unknown = format!("Bearer {}", "0".repeat(40));
    let (name, id, bearer) = (Some(NAME), Some(id.as_str()), Some(bearer.as_str()));
    for path in [
        "/.executors/queue/batches/addExecutionLogEntry",
        "/.executors/queue/batches/updateExecutionLogEntry",
        MARK,
        "/.executors/queue/batches/markErrored",
        "/.executors/queue/batches/markFailed",
        "/.executors/git/acme/app/info/refs",
        "/.executors/git/acme/app/git-upload-pack",
    ] {
        let call = async |a, i, n| call(&instance, path, a, i, n).await;
        let no_token = "no token value in the HTTP Authorization request header\n";
        call(None, id, name).await.is(401, no_token);
        call(Some("Bearer"), id, name).await.says(401, "must be of the following form");
        call(Some("Bearer a b"), id, name).await.says(401, "must be of the following form");
        let schemes = "(supported values: \"Bearer\", \"token-executor\")\n";
        call(Some("Foo x"), id, name).await.says(401, schemes);
        call(Some("token-executor wrong"), id, name).await.is(403, "");
        let no_id = "job ID not provided in header 'X-Sourcegraph-Job-ID'\n";
        call(bearer, None, name).await.is(400, no_id);
        call(bearer, Some("abc"), name).await.says(400, "failed to parse Job ID: ");
        call(bearer, id, None).await.is(400, "worker hostname cannot be empty\n");
        call(Some(&unknown), id, name).await.is(401, "invalid token\n");
        call(Some("Bearer nothex"), id, name).await.is(401, "invalid token\n");
        call(bearer, Some("99999"), name).await.is(403, "invalid token\n");
    }
}

#[tokio::test]
async fn a_token_is_bound_to_queue_and_repository() {
    let instance = Instance::start().await;
    let batches = instance.held("batches", "acme/app").await;
    let codeintel = instance.held("codeintel", "acme/app").await;
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, batches.id);
    let foreign = Held { queue: "codeintel", ..batches };
    instance.job(&foreign, "markComplete", &body).await.is(403, "invalid token\n");
    let own = Held { queue: "batches", ..foreign };
    for path in ["acme/other/info/refs", "acme/app2/git-upload-pack", "acme/info/refs"] {
        let path = format!("/.executors/git/{path}");
        instance.with_token(Method::GET, &own, &path, "").await.is(403, "invalid token\n");
    }
    let file = "/.executors/files/batch-changes/spec/file";
    instance.with_token(Method::GET, &codeintel, file, "").await.is(403, "invalid token\n");
    instance.with_token(Method::GET, &own, file, "").await.says(404, "does not exist");
}

#[tokio::test]
async fn any_name_of_an_executor_passes_but_an_empty_one() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let (id, bearer) = (held.id.to_string(), format!("Bearer {}", held.token));
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{id}}}"#);
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-sourcegraph-job-id", &id),
        ("x-sourcegraph-executor-name", "never-seen"),
    ];
    instance.call(Method::POST, MARK, &headers, body).await.is(204, "");
}

#[tokio::test]
async fn the_ids_of_the_body_must_be_those_of_the_token() {
    let instance = Instance::start().await;
    let (a, b) = (instance.held("batches", "").await, instance.held("batches", "").await);
    for body in [
        format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, b.id),
        format!(r#"{{"executorName":"other","jobId":{}}}"#, a.id),
        r#"{"jobId":99999,"executorName":"exec-7"}"#.to_owned(),
    ] {
        for verb in ["markComplete", "markErrored", "markFailed"] {
            instance.job(&a, verb, &body).await.is(404, "null");
        }
        for verb in ["addExecutionLogEntry", "updateExecutionLogEntry"] {
            instance.job(&a, verb, &body).await.is(500, r#"{"error":"unknown job"}"#);
        }
    }
    assert_eq!(instance.state(b.id).await, "processing");
}

#[tokio::test]
async fn the_shared_token_is_refused_unless_the_site_allows_it() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let shared = format!("token-executor {SHARED}");
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, held.id);
    let headers = [("authorization", shared.as_str())];
    instance.call(Method::POST, MARK, &headers, body.clone()).await.is(403, "");
    instance.configure(&format!(
        r#"{{ "executors.accessToken": "{SHARED}",
             "executors.allowSharedTokenOnJobRoutes": true }}"#
    ));
    // Nothing else is checked then, as in the original.
    instance.call(Method::POST, MARK, &headers, body.clone()).await.is(204, "");
    instance.call(Method::POST, MARK, &headers, body).await.is(404, "null");
    let wrong = [("authorization", "token-executor wrong")];
    instance.call(Method::POST, MARK, &wrong, "{}").await.is(403, "");
}

#[tokio::test]
async fn a_token_dies_with_its_job() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, held.id);
    instance.job(&held, "markComplete", &body).await.is(204, "");
    instance.job(&held, "markComplete", &body).await.is(401, "invalid token\n");
}

#[tokio::test]
async fn a_token_dies_when_another_executor_takes_the_job() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    instance.clock.advance_ms(26_000);
    instance.app.store.reset_stalled(instance.clock.now_ms()).await.unwrap();
    let body = r#"{"executorName":"other","version":"5.1.0"}"#;
    let taken = instance.shared("/.executors/queue/batches/dequeue", body).await.json();
    assert_eq!(taken["id"], held.id);
    let body = format!(r#"{{"executorName":"{NAME}","jobId":{}}}"#, held.id);
    instance.job(&held, "markComplete", &body).await.is(401, "invalid token\n");
    assert_eq!(instance.state(held.id).await, "processing");
}
