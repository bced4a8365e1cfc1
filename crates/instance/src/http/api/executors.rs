//! Executors of the user API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use store::ExecutorFilter;

use super::extract::Path;
use super::types::{ErrorBody, Executor, ExecutorList, time};
use crate::App;
use crate::accounts::audit;
use crate::http::auth::{SiteAdmin, User};
use crate::http::error::Error;

/// Seen within this time: active.
const ACTIVE_MS: i64 = 15_000;
/// More executors than any site has; a list without pages.
const ALL: i64 = 10_000;

/// List the executors that were seen.
#[utoipa::path(get, path = "/executors", tag = "executors", responses((status = 200, body = ExecutorList)))]
pub(super) async fn list(
    _user: User,
    State(app): State<Arc<App>>,
) -> Result<Json<ExecutorList>, Error> {
    let now = app.clock.now_ms();
    let filter = ExecutorFilter { limit: ALL, ..ExecutorFilter::default() };
    let held = app.store.open_holds().await?;
    let mut executors = Vec::new();
    for executor in app.store.executors(&filter).await?.executors {
        let jobs = app.store.executor_jobs(&executor.name).await?;
        let mut executor = view(executor, jobs.iter().map(|job| job.id).collect(), now);
        let held = held.iter().filter(|hold| hold.executor == executor.name);
        executor.held = held.map(|hold| hold.job_id).collect();
        executors.push(executor);
    }
    executors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(ExecutorList { executors }))
}

/// Let an executor end its jobs and take no more. It hears of it at once. Site admins only.
#[utoipa::path(post, path = "/executors/{name}/drain", tag = "executors", params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn drain(
    admin: SiteAdmin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    set_drain(&app, &admin, &name, true).await
}

/// Let a drained executor take jobs again. Site admins only.
#[utoipa::path(post, path = "/executors/{name}/undrain", tag = "executors", params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn undrain(
    admin: SiteAdmin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    set_drain(&app, &admin, &name, false).await
}

async fn set_drain(
    app: &App,
    SiteAdmin(admin): &SiteAdmin,
    name: &str,
    drain: bool,
) -> Result<StatusCode, Error> {
    app.store.set_drain(name, drain).await?;
    let action = if drain { "executor.drain" } else { "executor.undrain" };
    audit(app, &admin.actor(), action, &format!("executor:{name}"), "").await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(executor: store::Executor, jobs: Vec<i64>, now: i64) -> Executor {
    Executor {
        name: executor.name,
        queues: executor.queues,
        active: now - executor.last_seen_at <= ACTIVE_MS,
        draining: executor.draining || executor.drain_requested,
        version: executor.executor_version,
        os: executor.os,
        architecture: executor.architecture,
        runtime: executor.runtime,
        acceleration: executor.acceleration,
        capacity: executor.capacity,
        jobs,
        held: Vec::new(),
        last_error: executor.last_error,
        first_seen_at: time(executor.first_seen_at),
        last_seen_at: time(executor.last_seen_at),
    }
}
