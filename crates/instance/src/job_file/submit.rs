//! From the text of a job file to a job in its queue.

use store::{Enqueued, JobFilter, JobState, NewJob};

use super::{JobFile, Submitter};
use crate::App;
use crate::git;
use crate::http::auth::User;
use crate::http::error::Error;
use crate::problems::Problems;

/// Longest idempotency key.
const MAX_KEY: usize = 200;

/// What comes with a job file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Instead of the file's.
    pub revision: Option<&'a str>,
    /// A second submit with the same key gives the first job.
    pub idempotency_key: Option<&'a str>,
}

/// Checks a job file, resolves its revision and enqueues the job.
///
/// # Errors
/// [`Error::Invalid`] naming field, line and column; [`Error::TooManyRequests`] when the user has too
/// many jobs waiting.
pub async fn submit(
    app: &App,
    user: &User,
    text: &str,
    options: Options<'_>,
) -> Result<Enqueued, Error> {
    let config = app.config.current();
    let by = if user.is_site_admin() { Submitter::SiteAdmin } else { Submitter::User };
    let mut file = JobFile::parse(text, &config, by).map_err(in_words)?;
    if let Some(revision) = options.revision {
        revision.clone_into(&mut file.revision);
    }
    if options.idempotency_key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
        return Err(Error::invalid("Idempotency-Key", format!("must have 1 to {MAX_KEY} bytes")));
    }
    check_room(app, user, config.max_queued_jobs_per_user).await?;
    let commit = resolve(app, &file).await?;
    let job = NewJob {
        queue: file.queue.clone(),
        name: file.name.clone(),
        repository: file.repository.clone(),
        commit: commit.clone(),
        creator_id: user.id(),
        priority: file.priority,
        payload: file.payload(&commit),
        hold_seconds: file.hold.map_or(0, |span| span.0),
        idempotency_key: options.idempotency_key.map(str::to_owned),
        ..NewJob::default()
    };
    Ok(app.store.enqueue(&job, app.clock.now_ms()).await?)
}

/// The first problem's field goes with the error; the text has all.
fn in_words(problems: Problems) -> Error {
    let path = problems.0.first().map_or("", |problem| problem.path.as_str());
    let field = if path.is_empty() { "job file" } else { path };
    let rest: Vec<String> = problems
        .0
        .iter()
        .enumerate()
        .map(|(index, problem)| {
            let named = index == 0 || problem.path.is_empty();
            let path = if named { String::new() } else { format!("{}: ", problem.path) };
            format!("{path}{} (line {}, column {})", problem.message, problem.line, problem.column)
        })
        .collect();
    Error::invalid(field, rest.join("\n"))
}

async fn check_room(app: &App, user: &User, limit: u32) -> Result<(), Error> {
    let filter = JobFilter {
        creator_id: Some(user.id()),
        state: Some(JobState::Queued),
        ..JobFilter::default()
    };
    if app.store.count_jobs(&filter, i64::from(limit)).await? >= i64::from(limit) {
        let text =
            format!("{limit} jobs of yours are waiting, which is the limit; let some finish");
        return Err(Error::Conflict(text));
    }
    Ok(())
}

/// The commit of the file's revision.
async fn resolve(app: &App, file: &JobFile) -> Result<String, Error> {
    if file.repository.is_empty() {
        return Ok(String::new());
    }
    let unknown = || {
        let text = format!("{:?} is not registered on this instance", file.repository);
        Error::invalid("repository", text)
    };
    let repository = app.store.repository(&file.repository).await?.ok_or_else(unknown)?;
    let commit = git::resolve(app, &repository, &file.revision).await;
    commit.map_err(|error| Error::invalid("revision", error.to_string()))
}
