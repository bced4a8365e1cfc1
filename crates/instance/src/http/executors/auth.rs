//! Who may call which executor route. Each handler opens with one of these.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use protocol::headers::{EXECUTOR_NAME, JOB_ID, SCHEME_JOB, SCHEME_SHARED};
use store::{Hold, JobToken, TokenState};

use super::answer::{empty, text};
use crate::App;
use crate::site_config::SharedToken;

/// Why a request is refused; the answer is complete.
pub(super) type Refused = Box<Response>;

const NO_TOKEN: &str = "no token value in the HTTP Authorization request header (recommended) or basic auth (deprecated)";
const NO_JOB_TOKEN: &str = "no token value in the HTTP Authorization request header";
const NOT_CONFIGURED: &str = "Executors are not configured on this instance";

/// Executor routes: the shared access token.
pub(super) fn executor(app: &App, headers: &HeaderMap) -> Result<(), Refused> {
    let config = app.config.current();
    if !config.executors_configured() {
        tracing::error!("executors.accessToken is not set in the site configuration");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, NOT_CONFIGURED);
    }
    let (scheme, token) = split(headers, NO_TOKEN, &[SCHEME_SHARED])?;
    debug_assert_eq!(scheme, SCHEME_SHARED);
    match shared(app, token) {
        SharedToken::Right => Ok(()),
        _ => Err(Box::new(empty(StatusCode::UNAUTHORIZED))),
    }
}

/// Upload routes: the shared access token, or the token of a running job.
pub(super) async fn executor_or_job(
    app: &App,
    headers: &HeaderMap,
) -> Result<Option<JobToken>, Refused> {
    let authorization = value(headers, header::AUTHORIZATION.as_str());
    if authorization.split(' ').next() != Some(SCHEME_JOB) {
        return executor(app, headers).map(|()| None);
    }
    let caller = job(app, headers).await?;
    running(&caller)?;
    match caller {
        JobCaller::Job(token) => Ok(Some(token)),
        JobCaller::Shared => Ok(None),
    }
}

/// Who calls a job route.
#[derive(Debug)]
pub(super) enum JobCaller {
    /// The bearer of a job's token, which matches the job header.
    Job(JobToken),
    /// An old executor with the shared token, where site configuration allows it. Bound to nothing.
    Shared,
}

/// Job routes, up to the look-up of the token: what it is bound to is compared by [`bound_to_queue`]
/// and [`bound_to_repository`].
pub(super) async fn job(app: &App, headers: &HeaderMap) -> Result<JobCaller, Refused> {
    let (scheme, token) = split(headers, NO_JOB_TOKEN, &[SCHEME_JOB, SCHEME_SHARED])?;
    if scheme == SCHEME_SHARED {
        let allowed = app.config.current().allow_shared_token_on_job_routes;
        return match shared(app, token) {
            SharedToken::Right if allowed => Ok(JobCaller::Shared),
            _ => Err(Box::new(empty(StatusCode::FORBIDDEN))),
        };
    }
    let id = job_id(headers)?;
    let token = job_of_token(app, token).await.map_err(|error| look_up_failed(&error))?;
    let Some(token) = token else {
        return refuse(StatusCode::UNAUTHORIZED, "invalid token");
    };
    if token.job_id != id {
        return invalid_token();
    }
    Ok(JobCaller::Job(token))
}

/// Routes of a hold: the token of the attempt whose machine is kept. It opens them after the job has
/// ended and until the hold does; 410 before and after. The shared token never opens them.
pub(super) async fn hold(
    app: &App,
    headers: &HeaderMap,
    queue: &str,
    job: i64,
) -> Result<Hold, Refused> {
    let (scheme, token) = split(headers, NO_JOB_TOKEN, &[SCHEME_JOB, SCHEME_SHARED])?;
    if scheme == SCHEME_SHARED {
        return Err(Box::new(empty(StatusCode::FORBIDDEN)));
    }
    let id = job_id(headers)?;
    let token = if is_token(token) { app.store.hold_of_token(token).await } else { Ok(None) };
    let Some(token) = token.map_err(|error| look_up_failed(&error))? else {
        return refuse(StatusCode::UNAUTHORIZED, "invalid token");
    };
    let theirs = token.job_id == id && id == job && token.queue == queue;
    if !theirs || token.executor != value(headers, EXECUTOR_NAME) {
        return invalid_token();
    }
    match token.hold.filter(Hold::is_open) {
        Some(hold) => Ok(hold),
        None => refuse(StatusCode::GONE, "the machine of this job is not kept"),
    }
}

/// The job and the executor that every job route names in its headers.
fn job_id(headers: &HeaderMap) -> Result<i64, Refused> {
    let id = value(headers, JOB_ID);
    if id.is_empty() {
        let message = format!("job ID not provided in header '{JOB_ID}'");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    let Ok(id) = id.parse::<i64>() else {
        return refuse(StatusCode::BAD_REQUEST, &format!("failed to parse Job ID: {id:?}"));
    };
    if value(headers, EXECUTOR_NAME).is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "worker hostname cannot be empty");
    }
    Ok(id)
}

fn look_up_failed(error: &store::Error) -> Refused {
    tracing::error!(%error, "job token");
    Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, "failed to look up the job token"))
}

/// The job a token belongs to, if the token is not dead: a token dies with its job.
///
/// # Errors
/// Database errors.
pub async fn job_of_token(app: &App, token: &str) -> store::Result<Option<JobToken>> {
    if !is_token(token) {
        return Ok(None);
    }
    let token = app.store.job_token(token).await?;
    Ok(token.filter(|token| token.state != TokenState::Dead))
}

/// Only what we hand out can be known: 20 bytes in hexadecimal.
fn is_token(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// 401 unless the job is running under the token. The token of a lost attempt, whose job nobody took
/// since, may still report the job's end, and nothing else.
pub(super) fn running(caller: &JobCaller) -> Result<(), Refused> {
    match caller {
        JobCaller::Job(token) if token.state != TokenState::Live => {
            refuse(StatusCode::UNAUTHORIZED, "invalid token")
        }
        _ => Ok(()),
    }
}

/// 403 unless the token is of a job of this queue.
pub(super) fn bound_to_queue(caller: &JobCaller, queue: &str) -> Result<(), Refused> {
    match caller {
        JobCaller::Job(token) if token.queue != queue => invalid_token(),
        _ => Ok(()),
    }
}

/// 403 unless the token is of a job on this repository.
pub(super) fn bound_to_repository(caller: &JobCaller, repository: &str) -> Result<(), Refused> {
    match caller {
        JobCaller::Job(token) if token.repository != repository => invalid_token(),
        _ => Ok(()),
    }
}

/// A token that is alive but of another job, queue or repository.
pub(super) fn invalid_token<T>() -> Result<T, Refused> {
    refuse(StatusCode::FORBIDDEN, "invalid token")
}

fn shared(app: &App, presented: &str) -> SharedToken {
    let now = jiff::Timestamp::from_millisecond(app.clock.now_ms())
        .expect("the clock is within the range of time stamps");
    app.config.current().check_shared_token(presented, now)
}

/// Scheme and token of the Authorization header.
fn split<'a>(
    headers: &'a HeaderMap,
    no_token: &str,
    schemes: &[&'static str],
) -> Result<(&'static str, &'a str), Refused> {
    let header = value(headers, header::AUTHORIZATION.as_str());
    if header.is_empty() {
        return refuse(StatusCode::UNAUTHORIZED, no_token);
    }
    let parts: Vec<&str> = header.split(' ').collect();
    let [scheme, token] = parts[..] else {
        let forms: Vec<String> = schemes.iter().map(|s| format!("`{s} \"TOKEN\"`")).collect();
        let forms = forms.join(" or ");
        let message = format!(
            "HTTP Authorization request header value must be of the following form: {forms}"
        );
        return refuse(StatusCode::UNAUTHORIZED, &message);
    };
    let Some(scheme) = schemes.iter().find(|s| **s == scheme) else {
        let known: Vec<String> = schemes.iter().map(|s| format!("{s:?}")).collect();
        let message = format!(
            "unrecognized HTTP Authorization request header scheme (supported values: {})",
            known.join(", ")
        );
        return refuse(StatusCode::UNAUTHORIZED, &message);
    };
    if token.is_empty() {
        return refuse(StatusCode::UNAUTHORIZED, no_token);
    }
    Ok((scheme, token))
}

/// A header as text; what is no text counts as absent.
fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn refuse<T>(status: StatusCode, message: &str) -> Result<T, Refused> {
    Err(Box::new(text(status, message)))
}
