//! Job tokens: bound to job, attempt, queue and repository; the lease of an executor.

use crate::db::Store;
use crate::error::Result;
use crate::secret;

/// What a job token still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The job is running under this token.
    Live,
    /// The executor was thought lost, the job is queued and nobody took it since: the token still
    /// hands in a result (mark*), nothing else.
    Lost,
    /// Everything else: the job ended, or somebody else has it.
    Dead,
}

/// What a job token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobToken {
    /// The job.
    pub job_id: i64,
    /// The attempt.
    pub attempt: i64,
    /// Queue of the job.
    pub queue: String,
    /// Name of the job's repository; empty = none.
    pub repository: String,
    /// Executor that claimed the attempt.
    pub executor: String,
    /// What it still allows.
    pub state: TokenState,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    job_id: i64,
    attempt: i64,
    queue: String,
    repository: String,
    executor: String,
    current: i64,
    state: String,
    lost: i64,
}

impl Store {
    /// Looks a token up by its plain text; `None` when it was never handed out.
    ///
    /// # Errors
    /// Database errors.
    pub async fn job_token(&self, token: &str) -> Result<Option<JobToken>> {
        let row: Option<TokenRow> = sqlx::query_as(
            "SELECT a.job_id, a.attempt, j.queue, j.repository, a.executor, \
               j.attempt AS current, j.state, j.lost \
             FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.token_hash = $1",
        )
        .bind(secret::hash(token))
        .fetch_optional(self.read())
        .await?;
        Ok(row.map(|row| {
            let state = match row.state.as_str() {
                _ if row.attempt != row.current => TokenState::Dead,
                "processing" => TokenState::Live,
                "queued" if row.lost != 0 => TokenState::Lost,
                _ => TokenState::Dead,
            };
            let TokenRow { job_id, attempt, queue, repository, executor, .. } = row;
            JobToken { job_id, attempt, queue, repository, executor, state }
        }))
    }
}
