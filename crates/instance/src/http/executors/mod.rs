//! The executor protocol under `/.executors/`: routes, statuses and bodies of Sourcegraph's instance,
//! plus the extensions of [`protocol::ext`]. `docs/protocol.md` lists both, and where we differ on
//! purpose.

mod answer;
mod artifacts;
mod auth;
mod dequeue;
mod extensions;
mod files;
mod git;
mod heartbeat;
mod holds;
mod lease;
mod logs;
mod mark;
mod report;
mod resources;
mod slash;
mod transform;
mod upload;
mod version;

use std::sync::Arc;

use axum::extract::State;
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, any, get, on};
use axum::{Extension, Json, Router};
use store::policy::QUEUES;

use crate::App;

pub use auth::job_of_token;

/// Version of `src` that fits this protocol; executors ask when they install it.
const SRC_CLI_VERSION: &str = "5.3.0";

/// Limits of request bodies in bytes. Artifacts and uploads have limits of their own, from the site
/// configuration.
mod limit {
    /// Small JSON.
    pub(super) const SMALL: usize = 256 << 10;
    /// A heartbeat carries the executor's metrics.
    pub(super) const HEARTBEAT: usize = 4 << 20;
    /// Stock executors send a log entry's whole output each time.
    pub(super) const LOG: usize = 64 << 20;
    /// One append of output, one result, the end of a job.
    pub(super) const CHUNK: usize = 1 << 20;
}

/// The queue in a route's path.
#[derive(Clone, Copy, Debug)]
struct QueueName(&'static str);

/// Routes of the executor protocol.
///
/// | route | authority |
/// |---|---|
/// | `test/auth`, `queue/…/dequeue`, `queue/…/heartbeat` | shared access token |
/// | `queue/{queue}/…` | token of a job of that queue |
/// | `queue/{queue}/jobs/{job}/hold…` | token of the attempt whose machine is kept |
/// | `git/{repository}/…` | token of a job on that repository |
/// | `files/…` | token of a job of the queue `batches` |
/// | `lsif/upload`, `scip/upload` | shared access token, or a job's token |
pub fn router() -> Router<Arc<App>> {
    const GET: MethodFilter = MethodFilter::GET;
    const POST: MethodFilter = MethodFilter::POST;
    let mut router = Router::new();
    router = strict(router, "/test/auth", GET, test_auth);
    router = strict(router, "/queue/dequeue", POST, dequeue::multi);
    router = strict(router, "/queue/heartbeat", POST, heartbeat::multi);
    for queue in QUEUES {
        router = router.nest(&format!("/queue/{queue}"), queue_router(queue));
    }
    router = strict(router, "/files/batch-changes/{spec}/{file}", GET, files::get);
    router = strict(router, "/lsif/upload", POST, upload::post);
    router = strict(router, "/scip/upload", POST, upload::post);
    router = strict(router, "/scip/upload", MethodFilter::HEAD, upload::head);
    router = router.route("/git/{*rest}", any(git::serve));
    Router::new()
        .nest("/.executors", router.fallback(not_found))
        .route("/.api/src-cli/version", get(src_cli_version))
}

fn queue_router(queue: &'static str) -> Router<Arc<App>> {
    const POST: MethodFilter = MethodFilter::POST;
    let mut router = Router::new();
    router = strict(router, "/dequeue", POST, dequeue::one);
    router = strict(router, "/heartbeat", POST, heartbeat::one);
    router = strict(router, "/addExecutionLogEntry", POST, logs::add);
    router = strict(router, "/updateExecutionLogEntry", POST, logs::update);
    router = strict(router, "/markComplete", POST, mark::complete);
    router = strict(router, "/markErrored", POST, mark::errored);
    router = strict(router, "/markFailed", POST, mark::failed);
    router
        .route("/jobs/{job}/log/{entry}", on(POST, logs::append))
        .route("/jobs/{job}/phases", on(POST, report::phase))
        .route("/jobs/{job}/results", on(POST, report::result))
        .route("/jobs/{job}/artifacts/{*path}", on(MethodFilter::PUT, artifacts::put))
        .route("/jobs/{job}/hold", on(POST, holds::poll))
        .route("/jobs/{job}/hold/terminals/{terminal}/input", on(POST, holds::input))
        .route("/jobs/{job}/hold/terminals/{terminal}/output", on(POST, holds::output))
        .layer(Extension(QueueName(queue)))
}

/// A route, and the redirect of its path with a slash too many.
fn strict<H, T>(
    router: Router<Arc<App>>,
    path: &str,
    methods: MethodFilter,
    handler: H,
) -> Router<Arc<App>>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    router.route(path, on(methods, handler)).route(&format!("{path}/"), on(methods, slash::handler))
}

/// `GET /.executors/test/auth`
async fn test_auth(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match auth::executor(&app, &headers) {
        Ok(()) => "ok".into_response(),
        Err(refused) => *refused,
    }
}

/// `GET /.api/src-cli/version`
async fn src_cli_version() -> Response {
    Json(serde_json::json!({ "version": SRC_CLI_VERSION })).into_response()
}

/// What the original's router says to an unknown path.
async fn not_found() -> Response {
    answer::text(StatusCode::NOT_FOUND, "404 page not found")
}
