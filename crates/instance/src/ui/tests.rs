//! The pages over the whole router, without a browser: who may, what a forged form does, what browsers are
//! told.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode, header};
use store::{NewJob, Role};
use tower::ServiceExt as _;

use crate::App;
use crate::app::Options;
use crate::clock::Clock;
use crate::{accounts, http as web};

const PASSWORD: &str = "correct horse battery";
const ADMIN_PAGES: [&str; 5] = [
    "/site-admin/executors",
    "/site-admin/repositories",
    "/site-admin/images",
    "/site-admin/configuration",
    "/site-admin/users",
];
const USER_PAGES: [&str; 4] = ["/jobs", "/jobs/new", "/jobs/1", "/account"];
/// Every form that needs a session, with fields that would be accepted.
const FORMS: [(&str, &str); 17] = [
    ("/logout", ""),
    ("/account/password", "current=x&new=y&repeat=y"),
    ("/account/tokens", "name=laptop"),
    ("/account/tokens/1/revoke", ""),
    ("/jobs/new", "file=steps%3A+%5B%5D"),
    ("/jobs/1/cancel", ""),
    ("/jobs/1/retry", ""),
    ("/site-admin/executors/drain", "name=exec-7&drain=true"),
    ("/site-admin/configuration", "text=%7B%7D&version=x"),
    ("/site-admin/repositories", "name=a&url=%2Ftmp"),
    ("/site-admin/repositories/sync", "name=a"),
    ("/site-admin/repositories/remove", "name=a"),
    ("/site-admin/users", "username=eve&password=correct+horse&role=site_admin"),
    ("/site-admin/users/1/role", "role=user"),
    ("/site-admin/users/1/remove", ""),
    ("/site-admin/users/1/tokens/1/revoke", ""),
    ("/site-admin/users/2/role", "role=site_admin"),
];

struct Site {
    app: Arc<App>,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A browser's session.
struct Session {
    token: String,
    csrf: String,
}

impl Site {
    /// With the admin `ada`, the user `bob`, and a job of nobody.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_780_000_000_000);
        let options = Options { data_dir: dir.path().to_owned(), database_url: None, clock };
        let app = Arc::new(App::open(options).await.unwrap());
        accounts::set_up(&app, "ada", PASSWORD).await.unwrap();
        accounts::create_user(&app, "user:ada", "bob", PASSWORD, Role::User).await.unwrap();
        let job = NewJob {
            queue: "jobs".to_owned(),
            name: "<b>bold</b>".to_owned(),
            payload: "{}".to_owned(),
            ..NewJob::default()
        };
        app.store.enqueue(&job, app.clock.now_ms()).await.unwrap();
        let router = web::router(Arc::clone(&app));
        Self { app, router, _dir: dir }
    }

    async fn log_in(&self, name: &str) -> Session {
        let session = accounts::log_in(&self.app, name, PASSWORD, None).await.unwrap();
        Session { token: session.token.expose().to_owned(), csrf: session.csrf_secret }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, session: Option<&Session>) -> Response {
        self.send(request(Method::GET, path, session, Body::empty())).await
    }

    async fn post(&self, path: &str, session: Option<&Session>, form: &str) -> Response {
        let mut request = request(Method::POST, path, session, Body::from(form.to_owned()));
        let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        self.send(request).await
    }
}

fn request(method: Method, path: &str, session: Option<&Session>, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("accept", "text/html");
    if let Some(session) = session {
        request = request.header("cookie", format!("executors_session={}", session.token));
    }
    request.body(body).unwrap()
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn location(headers: &HeaderMap) -> &str {
    headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn each_page_has_its_readers() {
    let site = Site::new().await;
    let (ada, bob) = (site.log_in("ada").await, site.log_in("bob").await);
    for path in USER_PAGES.into_iter().chain(ADMIN_PAGES) {
        let nobody = site.get(path, None).await;
        assert_eq!(nobody.status(), StatusCode::SEE_OTHER, "{path}");
        assert!(location(nobody.headers()).starts_with("/login?next="), "{path}");
        assert_eq!(site.get(path, Some(&ada)).await.status(), StatusCode::OK, "{path}");
        let expected =
            if ADMIN_PAGES.contains(&path) { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let user = site.get(path, Some(&bob)).await;
        assert_eq!(user.status(), expected, "{path}");
        let html = text(user).await;
        assert!(html.contains("<!doctype html>"), "{path}: {html}");
        assert!(!html.contains("<b>bold</b>"), "{path}: names are text");
    }
}

#[tokio::test]
async fn a_form_without_its_token_or_from_elsewhere_changes_nothing() {
    let site = Site::new().await;
    let ada = site.log_in("ada").await;
    for (path, fields) in FORMS {
        let nobody = site.post(path, None, fields).await;
        assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "{path}");
        for csrf in ["", "csrf=&", "csrf=wrong&"] {
            let forged = site.post(path, Some(&ada), &format!("{csrf}{fields}")).await;
            assert_eq!(forged.status(), StatusCode::FORBIDDEN, "{path} {csrf}");
        }
        let body = Body::from(format!("csrf={}&{fields}", ada.csrf));
        let mut elsewhere = request(Method::POST, path, Some(&ada), body);
        let headers = elsewhere.headers_mut();
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert_eq!(site.send(elsewhere).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.app.store.users().await.unwrap().len(), 2);
    assert_eq!(site.app.store.job(1).await.unwrap().unwrap().state.as_str(), "queued");
}

#[tokio::test]
async fn users_change_only_what_is_theirs() {
    let site = Site::new().await;
    let bob = site.log_in("bob").await;
    for (path, fields) in FORMS.into_iter().filter(|(path, _)| path.starts_with("/site-admin")) {
        let refused = site.post(path, Some(&bob), &format!("csrf={}&{fields}", bob.csrf)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
    for path in ["/jobs/1/cancel", "/jobs/1/retry"] {
        let refused = site.post(path, Some(&bob), &format!("csrf={}", bob.csrf)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let ada = site.log_in("ada").await;
    let done = site.post("/jobs/1/cancel", Some(&ada), &format!("csrf={}", ada.csrf)).await;
    assert_eq!((done.status(), location(done.headers())), (StatusCode::SEE_OTHER, "/jobs/1"));
    assert_eq!(site.app.store.job(1).await.unwrap().unwrap().state.as_str(), "canceled");
    let line = &site.app.store.audit_log(None, 1).await.unwrap()[0];
    assert_eq!((line.actor.as_str(), line.action.as_str()), ("user:ada", "job.cancel"));
}

#[tokio::test]
async fn browsers_are_told_to_run_nothing_but_our_files() {
    let site = Site::new().await;
    let ada = site.log_in("ada").await;
    let paths = ["/", "/login", "/setup", "/nowhere", "/site-admin/users", "/assets/x/style.css"];
    for path in paths.into_iter().chain(USER_PAGES) {
        let response = site.get(path, Some(&ada)).await;
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
    }
    let style = site.get(super::assets::url("style.css"), None).await;
    assert_eq!(style.headers()["cache-control"], "public, max-age=31536000, immutable");
    let program = Request::get("/nowhere").body(Body::empty()).unwrap();
    let program = site.send(program).await;
    assert_eq!(program.status(), StatusCode::NOT_FOUND);
    assert_eq!(text(program).await, "");
}

#[tokio::test]
async fn streams_end_when_the_process_stops() {
    let site = Site::new().await;
    let ada = site.log_in("ada").await;
    let streams = [
        "/jobs/stream",
        "/jobs/1/stream?at=0",
        "/site-admin/executors/stream",
        "/site-admin/repositories/stream",
    ];
    for path in streams {
        assert_eq!(site.get(path, None).await.status(), StatusCode::SEE_OTHER, "{path}");
    }
    let mut open = Vec::new();
    for path in streams {
        let response = site.get(path, Some(&ada)).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream", "{path}");
        open.push((path, response));
    }
    site.app.closing.cancel();
    for (path, response) in open {
        let end = tokio::time::timeout(Duration::from_secs(20), text(response)).await;
        assert!(end.is_ok(), "{path} goes on");
    }
}

#[tokio::test]
async fn a_page_does_not_get_again_what_it_has() {
    let site = Site::new().await;
    let ada = site.log_in("ada").await;
    let html = text(site.get("/jobs", Some(&ada)).await).await;
    let address = html.split("sse-connect=\"").nth(1).unwrap().split('"').next().unwrap();
    let response = site.get(&address.replace("&amp;", "&").replace("&#38;", "&"), Some(&ada)).await;
    let mut body = response.into_body().into_data_stream();
    let canceled = site.app.store.cancel(1, "", site.app.clock.now_ms());
    canceled.await.unwrap();
    use futures_util::StreamExt as _;
    let first = tokio::time::timeout(Duration::from_secs(20), body.next()).await.unwrap();
    let first = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("Canceled"), "the first event is the change: {first}");
}

#[tokio::test]
async fn the_list_of_jobs_is_paged_and_filtered() {
    let site = Site::new().await;
    let ada = site.log_in("ada").await;
    for n in 2..=120 {
        let job = NewJob {
            queue: if n % 2 == 0 { "jobs" } else { "batches" }.to_owned(),
            name: format!("number {n}"),
            payload: "{}".to_owned(),
            ..NewJob::default()
        };
        site.app.store.enqueue(&job, site.app.clock.now_ms()).await.unwrap();
    }
    let rows = |html: &str| html.matches("<tr id=\"job-").count();
    let first = text(site.get("/jobs?queue=jobs", Some(&ada)).await).await;
    assert_eq!(rows(&first), 50);
    assert!(first.contains("id=\"job-120\"") && !first.contains("id=\"job-119\""));
    let older = "/jobs?queue=jobs&amp;before=22";
    let escaped = older.replace("&amp;", "&#38;");
    assert!(first.contains(older) || first.contains(&escaped), "{first}");
    let second = text(site.get("/jobs?queue=jobs&before=22", Some(&ada)).await).await;
    assert_eq!(rows(&second), 11);
    assert!(!second.contains(">Older<") && second.contains(">Newest<"));
    let found = text(site.get("/jobs?q=number+77", Some(&ada)).await).await;
    assert_eq!(rows(&found), 1);
    let none = text(site.get("/jobs?state=failed", Some(&ada)).await).await;
    assert!(none.contains("No job matches"));
}
