//! Every route with every role, made from the OpenAPI document; and the tricks with paths and
//! methods that have opened other servers.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::jobs::FILE;
use super::people::Person;
use crate::support::{Instance, PATIENCE};

/// What a role gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    NotLoggedIn,
    Forbidden,
    LetIn,
}

impl Decision {
    fn of(status: u16) -> Self {
        match status {
            401 => Self::NotLoggedIn,
            403 => Self::Forbidden,
            _ => Self::LetIn,
        }
    }
}

struct Route {
    method: Method,
    path: String,
    public: bool,
    admin: bool,
    owner: bool,
}

/// All operations with placeholders filled. `eve`'s own user routes name herself.
fn routes(job: i64) -> Vec<Route> {
    let document = instance::http::api::document();
    let mut routes = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        let name = match template.split('/').nth(1) {
            Some("executors") => "exec-1",
            Some("repositories") => "app",
            _ => "eve",
        };
        let path = template
            .replace("{id}", &job.to_string())
            .replace("{name}", name)
            .replace("{path}", "out.txt")
            .replace("{image}", "base:1");
        assert!(!path.contains('{'), "{path}: a placeholder this test does not know");
        for (method, operation) in item.as_object().unwrap() {
            let text = format!("{} {}", operation["summary"], operation["description"]);
            let produced = ["/logs", "/artifacts", "/cancel", "/retry"];
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                public: operation["security"] == json!([{}]),
                admin: text.contains("Site admins only"),
                owner: produced.iter().any(|part| template.contains(part)),
                path: path.clone(),
            });
        }
    }
    assert!(routes.len() >= 25, "{}", routes.len());
    routes
}

async fn scene() -> (Instance, Person, Person, Person, i64) {
    let instance = Instance::start().await;
    let (ada, bob, eve) =
        (instance.ada().await, instance.user("bob").await, instance.user("eve").await);
    let job = bob.submit(&instance, FILE).await;
    let run = instance.run().await;
    run.artifact("out.txt", b"bob's").await;
    run.completes().await;
    (instance, ada, bob, eve, job)
}

#[tokio::test]
async fn every_route_times_every_role() {
    use Decision::{Forbidden, LetIn, NotLoggedIn};
    let (instance, ada, _bob, eve, job) = scene().await;
    let stranger = Person { name: "nobody", token: "exec_".to_owned() + &"0".repeat(40) };
    for route in routes(job) {
        let Route { method, path, public, admin, owner } = route;
        let show = format!("{method} {path}");
        let body: Value = json!({ "note": "x" });
        let nobody =
            instance.call(method.clone(), &format!("/api/v1{path}"), &[], body.to_string()).await;
        let expected = if public { LetIn } else { NotLoggedIn };
        assert_eq!(Decision::of(nobody.status), expected, "nobody: {show}");
        if !public {
            assert_eq!(nobody.json()["error"]["code"], "unauthorized", "{show}");
        }
        let wrong = stranger.json(&instance, method.clone(), &path, body.clone()).await;
        assert_eq!(Decision::of(wrong.status), expected, "wrong token: {show}");
        let user = eve.json(&instance, method.clone(), &path, body.clone()).await;
        let expected = if admin || owner { Forbidden } else { LetIn };
        assert_eq!(Decision::of(user.status), expected, "user: {show} {}", user.text());
        // Last, because it may remove what the others look at.
        if method != Method::DELETE {
            let all = ada.json(&instance, method, &path, body).await;
            assert_eq!(Decision::of(all.status), LetIn, "site admin: {show} {}", all.text());
        }
    }
}

/// What the pages of a hold send, with the statuses for nobody, for a user, for the job's creator, and for a
/// site admin without and with the session's CSRF token.
#[tokio::test]
async fn every_page_of_a_hold_times_every_role() {
    let instance = Instance::start().await;
    instance.ada().await;
    let (bob, _eve) = (instance.user("bob").await, instance.user("eve").await);
    let job = instance.held_job(&bob).await;
    let (admin, owner, user) = (
        instance.browser("ada").await,
        instance.browser("bob").await,
        instance.browser("eve").await,
    );
    let (_, page) = admin.open_terminal(job).await;
    for path in ["", "/stream?from=0", "/recording"].map(|rest| format!("{page}{rest}")) {
        let nobody = instance.call(Method::GET, &path, &[], "").await;
        assert_eq!(nobody.status, 303, "{path}");
        assert!(nobody.header("location").starts_with("/login?next="), "{path}");
        for other in [&user, &owner] {
            assert_eq!(other.get(&path).await.status, 403, "{path}");
        }
    }
    assert_eq!(admin.get(&page).await.status, 200);
    assert_eq!(admin.get(&format!("{page}/recording")).await.status, 200);
    for (path, body, allowed) in [
        (format!("{page}/input?offset=0"), "x", 200),
        (format!("{page}/size?cols=9&rows=9"), "", 204),
        (format!("/jobs/{job}/terminal"), "attempt=1", 303),
        (format!("{page}/close"), "", 303),
        (format!("/jobs/{job}/hold"), "minutes=1", 303),
        (format!("/jobs/{job}/release"), "attempt=1", 303),
    ] {
        assert_eq!(instance.call(Method::POST, &path, &[], body).await.status, 401, "{path}");
        let form = allowed == 303;
        for other in [&user, &owner] {
            let sent =
                if form { other.form(&path, body).await } else { other.send(&path, body).await };
            assert_eq!(sent.status, 403, "{path}");
        }
        assert_eq!(admin.forged(&path, body).await.status, 403, "{path}: forged");
        let sent = if form { admin.form(&path, body).await } else { admin.send(&path, body).await };
        assert_eq!(sent.status, allowed, "{path}: {}", sent.text());
        let get = admin.get(&path).await.status;
        assert_eq!(get, 405, "{path}");
    }
}

/// The same path written so that one part of a server reads it differently from another.
fn disguises(path: &str) -> Vec<String> {
    let full = format!("/api/v1{path}");
    vec![
        format!("/{full}"),
        format!("/api//v1{path}"),
        format!("/api/v1/{path}"),
        format!("/api/v1/.{path}"),
        format!("/api/v1/x/..{path}"),
        format!("/api/v1/%2e{path}"),
        format!("{full}/"),
        format!("{full}/."),
        format!("{full}%2f"),
        format!("{full};x"),
        format!("{full}%00"),
        format!("{full}.json"),
        full.replace("/v1/", "/v1%2f"),
        full.replace("/api/", "/API/"),
        full.replace("/api/v1", "/api/v1/openapi.json/.."),
        format!("http://127.0.0.1{full}"),
    ]
}

#[tokio::test]
async fn no_disguise_opens_a_route() {
    let (instance, _ada, _bob, eve, job) = scene().await;
    for route in routes(job).iter().filter(|route| !route.public) {
        for path in disguises(&route.path) {
            let status = raw(&instance, route.method.as_str(), &path, "").await;
            assert!(status >= 300, "nobody: {} {path}: {status}", route.method);
            if route.admin || route.owner {
                let token = format!("authorization: token {}\r\n", eve.token);
                let status = raw(&instance, route.method.as_str(), &path, &token).await;
                assert!(status >= 300, "user: {} {path}: {status}", route.method);
            }
        }
    }
}

#[tokio::test]
async fn no_method_trick_opens_a_route() {
    let (instance, _ada, _bob, eve, _job) = scene().await;
    let token = format!("authorization: token {}\r\n", eve.token);
    for header in ["x-http-method-override", "x-method-override", "x-http-method"] {
        let headers = format!("{token}{header}: DELETE\r\n");
        assert_eq!(raw(&instance, "POST", "/api/v1/users/eve", &headers).await, 405);
    }
    for method in ["PUT", "TRACE", "delete", "FOO"] {
        assert_eq!(raw(&instance, method, "/api/v1/users/eve", &token).await, 405, "{method}");
    }
    assert_eq!(raw(&instance, "HEAD", "/api/v1/users", &token).await, 403);
    assert_eq!(raw(&instance, "POST", "/api/v1/users/eve?_method=DELETE", &token).await, 405);
    assert_eq!(eve.get(&instance, "/user").await.status, 200);
    let unknown = eve.get(&instance, "/nope").await;
    assert_eq!(
        (unknown.status, unknown.json()["error"]["code"].as_str()),
        (404, Some("not_found"))
    );
}

/// A request with the path exactly as written; answers the status.
async fn raw(instance: &Instance, method: &str, path: &str, headers: &str) -> u16 {
    let address = instance.url.strip_prefix("http://").unwrap();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-length: 0\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
}
