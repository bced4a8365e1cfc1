//! Authorization of executor routes: the shared access token.

use reqwest::Method;

use crate::support::{Instance, SHARED};

const ROUTES: [(Method, &str); 7] = [
    (Method::GET, "/.executors/test/auth"),
    (Method::POST, "/.executors/queue/dequeue"),
    (Method::POST, "/.executors/queue/heartbeat"),
    (Method::POST, "/.executors/queue/batches/dequeue"),
    (Method::POST, "/.executors/queue/codeintel/heartbeat"),
    (Method::POST, "/.executors/scip/upload"),
    (Method::HEAD, "/.executors/scip/upload"),
];

#[tokio::test]
async fn every_row_of_the_table_is_answered_so() {
    let instance = Instance::start().await;
    let no_token = "no token value in the HTTP Authorization request header (recommended) or basic auth (deprecated)\n";
    let rows = [
        (None, no_token),
        (Some(""), no_token),
        (Some("token-executor"), "must be of the following form: `token-executor \"TOKEN\"`\n"),
        (Some("token-executor a b"), "must be of the following form"),
        (Some("Basic abc"), "(supported values: \"token-executor\")\n"),
        (Some("token-executor wrongwrongwrongwrong1"), ""),
        (Some("token-executor hunter2hunter2hunter"), ""),
    ];
    for (method, route) in &ROUTES {
        for (header, text) in rows {
            let headers: Vec<_> = header.map(|h| ("authorization", h)).into_iter().collect();
            let answer = instance.call(method.clone(), route, &headers, "{}").await;
            assert_eq!(answer.status, 401, "{route} {header:?}");
            if method != Method::HEAD {
                let said = answer.text();
                let right = if text.is_empty() { said.is_empty() } else { said.ends_with(text) };
                assert!(right || said.contains(text) && !text.is_empty(), "{route} {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_job_token_is_no_executor_token() {
    let instance = Instance::start().await;
    let held = instance.held("batches", "").await;
    let body = r#"{"executorName":"exec-7"}"#;
    let authorization = format!("Bearer {}", held.token);
    let headers = [("authorization", authorization.as_str())];
    for route in ["/.executors/queue/batches/dequeue", "/.executors/queue/batches/heartbeat"] {
        let answer = instance.call(Method::POST, route, &headers, body).await;
        answer.says(401, "unrecognized HTTP Authorization request header scheme");
    }
}

#[tokio::test]
async fn without_a_shared_token_executors_are_not_configured() {
    let instance = Instance::start_with("{}").await;
    let headers = [("authorization", "token-executor whatever-whatever-1")];
    for (method, route) in ROUTES.iter().filter(|(method, _)| method != Method::HEAD) {
        let answer = instance.call(method.clone(), route, &headers, "{}").await;
        answer.is(500, "Executors are not configured on this instance\n");
    }
}

#[tokio::test]
async fn a_rotated_token_counts_until_its_time_without_a_restart() {
    let instance = Instance::start().await;
    let end = instance.clock.now_ms() + 60_000;
    let until = jiff::Timestamp::from_millisecond(end).unwrap();
    instance.configure(&format!(
        r#"{{ "executors.accessToken": "new-new-new-new-new-1",
             "executors.previousAccessToken": {{ "value": "{SHARED}", "validUntil": "{until}" }} }}"#
    ));
    let check = async |token: &str| {
        let authorization = format!("token-executor {token}");
        let headers = [("authorization", authorization.as_str())];
        instance.call(Method::GET, "/.executors/test/auth", &headers, "").await.status
    };
    assert_eq!((check("new-new-new-new-new-1").await, check(SHARED).await), (200, 200));
    instance.clock.advance_ms(60_000);
    assert_eq!((check("new-new-new-new-new-1").await, check(SHARED).await), (200, 401));
}
