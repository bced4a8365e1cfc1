//! Jobs: list, form for a new one, and the page of one with its live log.

mod actions;
mod failure;
mod held;
mod hold;
pub(super) mod list;
mod log;
mod phases;
mod position;
mod recording;
pub(super) mod show;
mod state;
pub(super) mod stream;
mod submit;
mod terminal;
mod terminal_stream;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use store::Job;

use crate::App;
use crate::http::error::Error;

pub use view::*;

/// Routes below `/jobs`.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs", get(list::page))
        .route("/jobs/stream", get(list::stream))
        .route("/jobs/new", get(submit::page).post(submit::submit))
        .route("/jobs/{id}", get(show::page))
        .route("/jobs/{id}/stream", get(stream::stream))
        .route("/jobs/{id}/log/{attempt}/{entry}", get(show::earlier))
        .route("/jobs/{id}/cancel", post(actions::cancel))
        .route("/jobs/{id}/retry", post(actions::retry))
        .route("/jobs/{id}/hold", post(hold::wish))
        .route("/jobs/{id}/release", post(hold::release))
        .route("/jobs/{id}/terminal", post(hold::open))
        .route("/jobs/{id}/terminal/{terminal}", get(terminal::page))
        .route("/jobs/{id}/terminal/{terminal}/stream", get(terminal_stream::stream))
        .route("/jobs/{id}/terminal/{terminal}/input", post(terminal::input))
        .route("/jobs/{id}/terminal/{terminal}/size", post(terminal::size))
        .route("/jobs/{id}/terminal/{terminal}/close", post(hold::close))
        .route("/jobs/{id}/terminal/{terminal}/recording", get(recording::download))
}

/// What a job is called.
fn title(job: &Job) -> String {
    match (job.name.is_empty(), job.repository.is_empty()) {
        (false, _) => job.name.clone(),
        (true, false) => format!("Job on {}", job.repository),
        (true, true) => format!("Job {}", job.id),
    }
}

/// Output, results and artifacts, cancel and retry.
const ONLY_OWNERS: &str = "only the job's creator and site admins may do this";

/// The job, or "not found".
async fn find(app: &App, id: i64) -> Result<Job, Error> {
    app.store.job(id).await?.ok_or(Error::NotFound("job"))
}
