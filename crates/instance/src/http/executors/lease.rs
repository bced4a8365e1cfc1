//! The head of every job route: who calls, and is the job in the body theirs?

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use store::Lease;

use super::answer;
use super::auth::{self, JobCaller, Refused};
use crate::App;

/// Checks the caller against the route's queue, then reads the body of at most `limit` bytes.
pub(super) async fn open<T: DeserializeOwned>(
    app: &App,
    queue: &str,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<(JobCaller, T), Refused> {
    let caller = auth::job(app, headers).await?;
    auth::bound_to_queue(&caller, queue)?;
    Ok((caller, answer::read(body, limit).await?))
}

/// Authority over the job that the body names; `None` when the token is not of this job or not of
/// this executor. The caller then answers as for a job that does not exist.
pub(super) fn of<'a>(
    caller: &JobCaller,
    queue: &'a str,
    job_id: i64,
    executor: &'a str,
) -> Option<Lease<'a>> {
    let attempt = match caller {
        JobCaller::Shared => None,
        JobCaller::Job(token) if token.job_id == job_id && token.executor == executor => {
            Some(token.attempt)
        }
        JobCaller::Job(_) => return None,
    };
    Some(Lease { queue, job_id, executor, attempt })
}

/// The executor of a route whose body does not name it: the token's, or else the header's.
pub(super) fn executor_of(caller: &JobCaller, headers: &HeaderMap) -> String {
    match caller {
        JobCaller::Job(token) => token.executor.clone(),
        JobCaller::Shared => {
            let header = headers.get(protocol::headers::EXECUTOR_NAME);
            header.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        }
    }
}
