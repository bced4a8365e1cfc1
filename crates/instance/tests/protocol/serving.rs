//! Probes, metrics, limits: what every request meets.

use reqwest::Method;
use store::Role;

use crate::support::Instance;

#[tokio::test]
async fn it_is_alive_and_ready() {
    let instance = Instance::start().await;
    instance.call(Method::GET, "/healthz", &[], "").await.is(200, "ok\n");
    instance.call(Method::GET, "/readyz", &[], "").await.is(200, "ok\n");
    instance.app.store.close().await;
    instance.call(Method::GET, "/readyz", &[], "").await.says(503, "the database does not answer");
    instance.call(Method::GET, "/healthz", &[], "").await.is(200, "ok\n");
}

#[tokio::test]
async fn metrics_are_for_site_admins() {
    let instance = Instance::start().await;
    let store = &instance.app.store;
    let token = async |name: &str, role| {
        let user = store.create_user(name, "hash", role, 0).await.unwrap();
        let made = store.create_access_token(user, "test", 0).await.unwrap();
        instance::accounts::token_value(&made.token)
    };
    let (admin, user) = (token("root", Role::SiteAdmin).await, token("bob", Role::User).await);
    let get = async |authorization: String| {
        let headers = [("authorization", authorization.as_str())];
        instance.call(Method::GET, "/metrics", &headers, "").await
    };
    assert_eq!(instance.call(Method::GET, "/metrics", &[], "").await.status, 401);
    assert_eq!(get("token nope".to_owned()).await.status, 401);
    assert_eq!(get(format!("token {}", user)).await.status, 403);
    for executor in ["a", "b"] {
        let body = serde_json::json!({
            "executorName": executor,
            "prometheusMetrics": "# HELP x Help.\n# TYPE x counter\nx{l=\"1\"} 3\n\
                # TYPE executors_waiting_dequeues gauge\nexecutors_waiting_dequeues 9\n",
        });
        let path = "/.executors/queue/jobs/heartbeat";
        assert_eq!(instance.shared(path, &body.to_string()).await.status, 200);
    }
    let answer = get(format!("Bearer {}", admin)).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    assert_eq!(text.matches("# TYPE x counter").count(), 1);
    for executor in ["a", "b"] {
        let sample =
            format!("x{{l=\"1\",sg_instance=\"{executor}\",sg_job=\"sourcegraph-executors\"}} 3\n");
        assert!(text.contains(&sample), "{text}");
    }
    // An executor cannot speak for the instance.
    assert_eq!(text.matches("# TYPE executors_waiting_dequeues").count(), 1);
    assert!(!text.contains("executors_waiting_dequeues{") && !text.contains("# EOF"));
    let route = r#"route="/.executors/queue/jobs/heartbeat",status="200"} 2"#;
    assert!(text.contains(route), "{text}");
    instance.clock.advance_ms(31_000);
    assert!(!get(format!("token {}", admin)).await.text().contains("sg_instance"));
}

#[tokio::test]
async fn the_metrics_address_needs_no_token() {
    let instance = Instance::start().await;
    instance.call(Method::GET, "/healthz", &[], "").await.is(200, "ok\n");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (app, shutdown) = (std::sync::Arc::clone(&instance.app), instance.shutdown.clone());
    tokio::spawn(instance::serve::run_metrics(listener, app, shutdown));
    let text = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains("# TYPE executors_http_requests_total counter"), "{text}");
    let other = reqwest::get(format!("{url}/healthz")).await.unwrap();
    assert_eq!(other.status(), 404);
}

/// Sends a head that promises a body, and no body.
async fn head_only(instance: &Instance, path: &str, authorization: &str, length: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = instance.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(crate::support::PATIENCE, stream.read_exact(&mut answer));
    read.await.expect("an answer before the body").unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
async fn a_strangers_body_is_never_read_and_a_large_one_neither() {
    let instance = Instance::start().await;
    let queue = "/.executors/queue/jobs";
    for verb in ["dequeue", "heartbeat", "addExecutionLogEntry", "markComplete"] {
        let path = format!("{queue}/{verb}");
        let answer = head_only(&instance, &path, "Bearer x", 1 << 20).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let shared = format!("token-executor {}", crate::support::SHARED);
    let path = format!("{queue}/heartbeat");
    assert_eq!(head_only(&instance, &path, &shared, 5 << 20).await, "HTTP/1.1 413");
}
