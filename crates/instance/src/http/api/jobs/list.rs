//! `GET /jobs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use store::{JobFilter, JobState};
use utoipa::IntoParams;

use super::view;
use crate::App;
use crate::http::api::extract::Query;
use crate::http::api::types::{ErrorBody, JobList};
use crate::http::auth::User;
use crate::http::error::Error;

/// Jobs on a page when nothing else is asked for.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

/// Query of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::api) struct Params {
    /// `queued`, `processing`, `completed`, `errored`, `failed` or `canceled`.
    state: Option<String>,
    /// `jobs`, `codeintel` or `batches`.
    queue: Option<String>,
    /// Name of a repository.
    repository: Option<String>,
    /// Name of a user.
    creator: Option<String>,
    /// Host name of an executor.
    executor: Option<String>,
    /// Part of name, repository or message, or the id. Site admins search all jobs, others their own.
    q: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500; 50 when absent.
    limit: Option<i64>,
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(Params),
    responses((status = 200, body = JobList), (status = 400, body = ErrorBody)))]
pub(in crate::http::api) async fn list(
    user: User,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<JobList>, Error> {
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::invalid("limit", format!("must be from 1 to {MAX_LIMIT}")));
    }
    let Some(filter) = filter(&app, &user, params, limit).await? else {
        return Ok(Json(JobList::default()));
    };
    let jobs = app.store.jobs(&filter).await?;
    let full = jobs.len() as i64 == limit;
    let next = jobs.last().filter(|_| full).map(|job| job.id.to_string());
    Ok(Json(JobList { jobs: jobs.iter().map(view::summary).collect(), next }))
}

/// `None` when a filter names a user that does not exist: nothing matches.
async fn filter(
    app: &App,
    user: &User,
    params: Params,
    limit: i64,
) -> Result<Option<JobFilter>, Error> {
    let unknown = |state: String| {
        let names: Vec<&str> = JobState::ALL.into_iter().map(JobState::as_str).collect();
        Error::invalid("state", format!("{state:?} is none of {}", names.join(", ")))
    };
    let state = match params.state {
        Some(name) => Some(JobState::parse(&name).ok_or_else(|| unknown(name))?),
        None => None,
    };
    let before = match params.cursor.map(|cursor| cursor.parse()) {
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return Err(Error::invalid("cursor", "must be next of the page before")),
        None => None,
    };
    let creator_id = match params.creator {
        Some(name) => match app.store.user_by_name(&name).await? {
            Some(user) => Some(user.id),
            None => return Ok(None),
        },
        None => None,
    };
    // A search in messages would tell others what is in them.
    let creator_id = match (&params.q, creator_id) {
        (Some(_), Some(other)) if !user.is_site_admin() && other != user.id() => return Ok(None),
        (Some(_), _) if !user.is_site_admin() => Some(user.id()),
        (_, creator_id) => creator_id,
    };
    Ok(Some(JobFilter {
        queue: params.queue,
        state,
        creator_id,
        repository: params.repository,
        executor: params.executor,
        text: params.q,
        before,
        limit,
    }))
}
