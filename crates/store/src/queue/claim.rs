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
        // Ordered as the index is, so that no planner without statistics walks the table instead.
        let (due, active): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT process_after FROM jobs \
                WHERE queue = $1 AND process_after IS NOT NULL ORDER BY process_after LIMIT 1), \
               (SELECT active FROM queue_lanes WHERE queue = $1 AND active = 1 \
                ORDER BY priority DESC, last_turn, lane LIMIT 1)",
        )
        .bind(queue)
        .fetch_one(self.read())
        .await?;
        let promoted = match due {
            Some(due) if due <= now => enqueue::promote_due(self, queue, now).await?,
            _ => 0,
        };
        Ok(active.is_some() || promoted > 0)
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
    ) -> Result<Option<TakenRow>> {
        let lock = self.backend().for_update_skip_locked();
        let sql = format!(
            "UPDATE jobs SET state = 'processing', attempt = attempt + 1, lost = 0, executor = $4, \
               feed = feed + 1, \
               started_at = $5, last_heartbeat_at = $5, finished_at = NULL, reason = NULL, \
               message = '', exit_code = NULL, usage = NULL \
             WHERE id = (SELECT id FROM jobs WHERE queue = $1 AND priority = $2 AND lane = $3 \
                 AND state = 'queued' AND process_after IS NULL \
                 ORDER BY queued_at, id LIMIT 1{lock}) RETURNING {COLUMNS}, \
             feed, (SELECT payload FROM job_payloads WHERE job_id = jobs.id) AS payload"
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

#[derive(sqlx::FromRow)]
struct TakenRow {
    #[sqlx(flatten)]
    job: JobRow,
    feed: i64,
    payload: Option<String>,
}

/// Records the attempt with its token.
async fn lease(tx: &mut Tx, taken: TakenRow, request: &ClaimRequest<'_>) -> Result<Claim> {
    let TakenRow { job: row, feed, payload } = taken;
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
    let (place, state) = ((row.id, row.attempt, feed), JobState::Processing);
    feed::push_state_at(tx, place, state, request.now).await?;
    let payload = payload.ok_or_else(|| Error::not_found("payload of job", row.id))?;
    Ok(Claim { job: row.into_job()?, payload, token })
}
