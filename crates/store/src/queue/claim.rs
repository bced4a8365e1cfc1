//! An executor takes a job. The token made here is the lease: it dies when the job leaves
//! `processing`.

use sqlx::AssertSqlSafe;

use super::lanes::{self, Lane};
use super::row::{COLUMNS, JobRow};
use super::{Job, JobState, enqueue};
use crate::db::{Store, Tx};
use crate::error::{Error, Result};
use crate::feed;
use crate::policy::{self, QueueShare};
use crate::secret::{self, PlainToken};
use crate::wake::Topic;

/// Who wants a job, and from where.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// Queues to take from; one on the single-queue route.
    pub queues: &'a [String],
    /// Unique name of the executor.
    pub executor: &'a str,
    /// `Some` on the multi-queue route: how its claims are shared. A queue without a share counts as
    /// one with weight 1 and no limit.
    pub shares: Option<&'a [QueueShare]>,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

/// A job that is now the executor's.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job, `processing`.
    pub job: Job,
    /// Its payload as it was enqueued.
    pub payload: String,
    /// The job token, which exists in plain text here only.
    pub token: PlainToken,
}

impl Store {
    /// Takes the next job, if there is one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Option<Claim>> {
        let mut ready = Vec::new();
        for queue in request.queues {
            if self.has_ready(queue, request.now).await? {
                ready.push(queue.clone());
            }
        }
        if let Some(shares) = request.shares {
            ready = self.in_order(ready, shares, request.now).await?;
        }
        for queue in ready {
            if let Some(claim) = self.claim_from(&queue, request).await? {
                self.bump(&[Topic::Job(claim.job.id), Topic::Jobs]);
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// Whether a job of `queue` could be claimed now. Cheap; may be true for a moment too long.
    ///
    /// # Errors
    /// Database errors.
    pub async fn has_ready(&self, queue: &str, now: i64) -> Result<bool> {
        enqueue::promote_due(self, queue, now).await?;
        let active: Option<i64> = sqlx::query_scalar(
            "SELECT lane FROM queue_lanes WHERE queue = $1 AND active = 1 LIMIT 1",
        )
        .bind(queue)
        .fetch_optional(self.read())
        .await?;
        Ok(active.is_some())
    }

    async fn in_order(
        &self,
        queues: Vec<String>,
        shares: &[QueueShare],
        now: i64,
    ) -> Result<Vec<String>> {
        let mut candidates = Vec::new();
        for queue in queues {
            let share = shares.iter().find(|share| share.queue == queue).cloned();
            let share = share.unwrap_or(QueueShare { queue, limit: u64::MAX, weight: 1 });
            let claims = self.claims_in_window(&share.queue, now).await?;
            candidates.push((share, claims));
        }
        let candidates: Vec<_> = candidates.iter().map(|(share, n)| (share, *n)).collect();
        Ok(policy::order(&candidates, rand::random_range(0.0..1.0)))
    }

    /// Multi-queue claims of the last [`policy::WINDOW_MS`], re-derived from the attempts: there is no
    /// counter that could be wrong.
    ///
    /// # Errors
    /// Database errors.
    pub async fn claims_in_window(&self, queue: &str, now: i64) -> Result<u64> {
        let claims: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM attempts \
             WHERE queue = $1 AND multi_queue = 1 AND started_at > $2",
        )
        .bind(queue)
        .bind(now - policy::WINDOW_MS)
        .fetch_one(self.read())
        .await?;
        Ok(u64::try_from(claims).unwrap_or(0))
    }

    async fn claim_from(&self, queue: &str, request: &ClaimRequest<'_>) -> Result<Option<Claim>> {
        loop {
            let mut tx = self.begin().await?;
            let lanes = lanes::next(&mut tx, queue).await?;
            let mut empty = Vec::new();
            let mut claim = None;
            for lane in &lanes {
                if let Some(row) = self.take(&mut tx, queue, *lane, request).await? {
                    claim = Some(lease(&mut tx, row, request).await?);
                    lanes::touch(&mut tx, queue, *lane, request.now).await?;
                    break;
                }
                empty.push(*lane);
            }
            tx.commit().await?;
            // Apart from the claim, so that no transaction ever holds two lanes.
            let mut turned_off = false;
            for lane in empty {
                turned_off |= lanes::deactivate_if_empty(self, queue, lane).await?;
            }
            // Only lanes turned off make room for others; without one the next look sees the same.
            if claim.is_some() || lanes.len() < lanes::BATCH || !turned_off {
                return Ok(claim);
            }
        }
    }

    /// The oldest ready job of a lane becomes the executor's.
    async fn take(
        &self,
        tx: &mut Tx,
        queue: &str,
        lane: Lane,
        request: &ClaimRequest<'_>,
    ) -> Result<Option<JobRow>> {
        let lock = self.backend().for_update_skip_locked();
        let sql = format!(
            "UPDATE jobs SET state = 'processing', attempt = attempt + 1, lost = 0, executor = $4, \
               started_at = $5, last_heartbeat_at = $5, finished_at = NULL, reason = NULL, \
               message = '', exit_code = NULL, usage = NULL \
             WHERE id = (SELECT id FROM jobs WHERE queue = $1 AND priority = $2 AND lane = $3 \
                 AND state = 'queued' AND process_after IS NULL \
                 ORDER BY queued_at, id LIMIT 1{lock}) RETURNING {COLUMNS}"
        );
        Ok(sqlx::query_as(AssertSqlSafe(sql))
            .bind(queue)
            .bind(lane.priority)
            .bind(lane.lane)
            .bind(request.executor)
            .bind(request.now)
            .fetch_optional(&mut **tx)
            .await?)
    }
}

/// Records the attempt with its token.
async fn lease(tx: &mut Tx, row: JobRow, request: &ClaimRequest<'_>) -> Result<Claim> {
    let token = PlainToken::generate();
    sqlx::query(
        "INSERT INTO attempts \
           (job_id, attempt, queue, multi_queue, executor, token_hash, started_at, outcome) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'processing')",
    )
    .bind(row.id)
    .bind(row.attempt)
    .bind(&row.queue)
    .bind(i64::from(request.shares.is_some()))
    .bind(request.executor)
    .bind(secret::hash(token.expose()))
    .bind(request.now)
    .execute(&mut **tx)
    .await?;
    feed::push_state(tx, row.id, row.attempt, JobState::Processing, request.now).await?;
    let payload: Option<String> =
        sqlx::query_scalar("SELECT payload FROM job_payloads WHERE job_id = $1")
            .bind(row.id)
            .fetch_optional(&mut **tx)
            .await?;
    let payload = payload.ok_or_else(|| Error::not_found("payload of job", row.id))?;
    Ok(Claim { job: row.into_job()?, payload, token })
}
