//! Sessions with the API: what a browser may do with its cookie.

use instance::accounts;
use reqwest::Method;
use store::NewSession;

use super::jobs::FILE;
use super::people::PASSWORD;
use crate::support::{Answer, Instance};

async fn with_cookie(
    instance: &Instance,
    session: &NewSession,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let cookie = format!("a=b; executors_session={}", session.token.expose());
    let mut all = vec![("cookie", cookie.as_str())];
    all.extend_from_slice(headers);
    instance.call(method, path, &all, FILE).await
}

#[tokio::test]
async fn a_cookie_reads_but_changes_only_from_our_own_pages() {
    let instance = Instance::start().await;
    instance.ada().await;
    let session = accounts::log_in(&instance.app, "ada", PASSWORD, None).await.unwrap();
    let read = with_cookie(&instance, &session, Method::GET, "/api/v1/user", &[]).await;
    assert_eq!(read.json()["name"], "ada");
    let csrf = session.csrf_secret.as_str();
    let change = async |headers: &[(&str, &str)]| {
        with_cookie(&instance, &session, Method::POST, "/api/v1/jobs", headers).await.status
    };
    assert_eq!(change(&[]).await, 403);
    assert_eq!(change(&[("x-csrf-token", "0")]).await, 403);
    assert_eq!(change(&[("x-csrf-token", csrf), ("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(change(&[("x-csrf-token", csrf), ("origin", "https://evil.example")]).await, 403);
    assert_eq!(change(&[("sec-fetch-site", "same-origin")]).await, 403);
    let ours = [("x-csrf-token", csrf), ("sec-fetch-site", "same-origin")];
    assert_eq!(change(&ours).await, 201);
}

#[tokio::test]
async fn a_session_lasts_while_it_is_used_and_ends_with_log_out() {
    const HOUR: i64 = 3_600_000;
    let config = "{ \"auth.sessionExpiry\": \"10h\" }";
    let instance = Instance::start_with(config).await;
    instance.ada().await;
    let session = accounts::log_in(&instance.app, "ada", PASSWORD, None).await.unwrap();
    let visit =
        async || with_cookie(&instance, &session, Method::GET, "/api/v1/user", &[]).await.status;
    for _ in 0..3 {
        instance.clock.advance_ms(8 * HOUR);
        assert_eq!(visit().await, 200);
    }
    accounts::log_out(&instance.app, session.token.expose()).await.unwrap();
    assert_eq!(visit().await, 401);

    let idle = accounts::log_in(&instance.app, "ada", PASSWORD, None).await.unwrap();
    instance.clock.advance_ms(10 * HOUR + 1);
    let late = with_cookie(&instance, &idle, Method::GET, "/api/v1/user", &[]).await;
    assert_eq!(late.status, 401);
}
