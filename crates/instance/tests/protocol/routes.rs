//! Which paths there are, before any authorization.

use reqwest::Method;

use crate::support::{Instance, SHARED};

#[tokio::test]
async fn an_unknown_path_is_not_found_before_any_authorization() {
    let instance = Instance::start().await;
    for path in [
        "/.executors/nope",
        "/.executors/queue/nope/dequeue",
        "/.executors/queue/nope/heartbeat",
        "/.executors/queue/batches/nope",
        "/.executors/queue/batches/canceledJobs",
        "/.executors/git/a/b/nope",
        "/.executors/git/a/b/git-receive-pack",
    ] {
        let answer = instance.call(Method::POST, path, &[], "").await;
        answer.is(404, "404 page not found\n");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_refused_before_any_authorization() {
    let instance = Instance::start().await;
    let mut wrong = vec![
        (Method::POST, "/.executors/test/auth".to_owned()),
        (Method::HEAD, "/.executors/lsif/upload".to_owned()),
        (Method::GET, "/.executors/scip/upload".to_owned()),
        (Method::GET, "/.executors/lsif/upload".to_owned()),
        (Method::POST, "/.executors/files/batch-changes/a/b".to_owned()),
        (Method::GET, "/.executors/queue/dequeue".to_owned()),
        (Method::PUT, "/.executors/queue/heartbeat".to_owned()),
    ];
    for verb in [
        "dequeue",
        "heartbeat",
        "addExecutionLogEntry",
        "updateExecutionLogEntry",
        "markComplete",
        "markErrored",
        "markFailed",
    ] {
        for queue in ["batches", "codeintel", "jobs"] {
            wrong.push((Method::GET, format!("/.executors/queue/{queue}/{verb}")));
        }
    }
    for (method, path) in wrong {
        let answer = instance.call(method.clone(), &path, &[], "").await;
        assert_eq!((answer.status, answer.body.len()), (405, 0), "{method} {path}");
    }
}

#[tokio::test]
async fn a_slash_too_many_is_redirected() {
    let instance = Instance::start().await;
    for (method, path) in [
        (Method::GET, "/.executors/test/auth"),
        (Method::POST, "/.executors/queue/dequeue"),
        (Method::POST, "/.executors/queue/batches/heartbeat"),
        (Method::GET, "/.executors/files/batch-changes/a/b"),
        (Method::HEAD, "/.executors/scip/upload"),
        (Method::GET, "/.executors/git/a/b/info/refs"),
        (Method::POST, "/.executors/git/a/b/git-upload-pack"),
    ] {
        let answer = instance.call(method, &format!("{path}/?x=1"), &[], "").await;
        assert_eq!((answer.status, answer.header("location")), (301, &*format!("{path}?x=1")));
    }
    let wrong = instance.call(Method::DELETE, "/.executors/test/auth/", &[], "").await;
    assert_eq!(wrong.status, 405);
}

#[tokio::test]
async fn the_self_test_says_ok() {
    let instance = Instance::start().await;
    let authorization = format!("token-executor {SHARED}");
    // The original's client sends a body even here.
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = instance.call(Method::GET, "/.executors/test/auth", &headers, "null").await;
    answer.is(200, "ok");
}

#[tokio::test]
async fn the_version_of_src_is_told_to_everybody() {
    let instance = Instance::start().await;
    let answer = instance.call(Method::GET, "/.api/src-cli/version", &[], "").await;
    answer.is(200, r#"{"version":"5.3.0"}"#);
}
