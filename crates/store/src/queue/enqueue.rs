//! A job enters its queue.

use std::collections::BTreeSet;

use super::lanes::{self, Lane};
use crate::db::{Backend, Store, Tx};
use crate::error::{Error, Result};
use crate::policy;
use crate::wake::Topic;

/// A job to be enqueued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewJob {
    /// One of [`policy::QUEUES`].
    pub queue: String,
    /// For lists; may be empty.
    pub name: String,
    /// Registered name of the repository; empty = none.
    pub repository: String,
    /// Commit; empty = none.
    pub commit: String,
    /// User who asked for it, 0 = nobody. Users take turns in `batches` and `jobs`.
    pub creator_id: i64,
    /// Higher is earlier; only in `jobs`.
    pub priority: i64,
    /// How often the job runs again by itself after `markErrored`; 0 in the original.
    pub max_retries: i64,
    /// JSON: what [`protocol::Job`] needs besides id and token. Kept as it is.
    pub payload: String,
    /// A second job of the same creator with the same key is the first one.
    pub idempotency_key: Option<String>,
    /// Waits at least until then.
    pub process_after: Option<i64>,
    /// Seconds to keep its machine if it fails; 0 = it is not kept.
    pub hold_seconds: u64,
}

/// What became of a [`NewJob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The job.
    pub id: i64,
    /// False when the idempotency key named a job that exists.
    pub created: bool,
}

/// More executors than ever wait at once. Those who come later look before they wait.
const MAX_WAKE_UPS: usize = 512;

impl Store {
    /// Enqueues one job and wakes an executor for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown queue; database errors.
    pub async fn enqueue(&self, job: &NewJob, now: i64) -> Result<Enqueued> {
        let mut enqueued = self.enqueue_many(std::slice::from_ref(job), now).await?;
        Ok(enqueued.remove(0))
    }

    /// Enqueues all of `jobs` or none.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub async fn enqueue_many(&self, jobs: &[NewJob], now: i64) -> Result<Vec<Enqueued>> {
        if let Some(job) = jobs.iter().find(|job| !policy::QUEUES.contains(&job.queue.as_str())) {
            let problem = format!("{:?} is unknown: use one of {:?}", job.queue, policy::QUEUES);
            return Err(Error::Invalid { field: "queue", problem });
        }
        let mut tx = self.begin().await?;
        let mut enqueued = Vec::with_capacity(jobs.len());
        let mut ready = BTreeSet::new();
        for job in jobs {
            let (lane, priority) = policy::lane(&job.queue, job.creator_id, job.priority);
            let lane = Lane { priority, lane };
            // Already due is the same as ready, and does not need promoting later.
            let process_after = job.process_after.filter(|after| *after > now);
            let id = insert(&mut tx, job, lane, process_after, now).await?;
            if id.created && process_after.is_none() {
                ready.insert((job.queue.clone(), lane));
            }
            enqueued.push(id);
        }
        // In order, so that two transactions never wait for each other.
        for (queue, lane) in &ready {
            lanes::activate(&mut tx, self.backend(), queue, *lane).await?;
        }
        tx.commit().await?;
        let mut topics = vec![Topic::Jobs];
        for queue in policy::QUEUES {
            let created =
                enqueued.iter().zip(jobs).filter(|(id, j)| id.created && j.queue == queue);
            topics.extend(created.take(MAX_WAKE_UPS).map(|_| Topic::Queue(queue.to_owned())));
        }
        self.bump(&topics);
        Ok(enqueued)
    }
}

async fn insert(
    tx: &mut Tx,
    job: &NewJob,
    lane: Lane,
    process_after: Option<i64>,
    now: i64,
) -> Result<Enqueued> {
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO jobs (queue, state, name, repository, commit_id, creator_id, lane, priority, \
           max_retries, idempotency_key, created_at, queued_at, process_after, \
           hold_seconds) \
         VALUES ($1, 'queued', $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12) \
         ON CONFLICT (creator_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING \
         RETURNING id",
    )
    .bind(&job.queue)
    .bind(&job.name)
    .bind(&job.repository)
    .bind(&job.commit)
    .bind(job.creator_id)
    .bind(lane.lane)
    .bind(lane.priority)
    .bind(job.max_retries)
    .bind(&job.idempotency_key)
    .bind(now)
    .bind(process_after)
    .bind(i64::try_from(job.hold_seconds).unwrap_or(i64::MAX))
    .fetch_optional(&mut **tx)
    .await?;
    let Some(id) = id else {
        let id = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE creator_id = $1 AND idempotency_key = $2",
        )
        .bind(job.creator_id)
        .bind(&job.idempotency_key)
        .fetch_one(&mut **tx)
        .await?;
        return Ok(Enqueued { id, created: false });
    };
    sqlx::query("INSERT INTO job_payloads (job_id, payload) VALUES ($1, $2)")
        .bind(id)
        .bind(&job.payload)
        .execute(&mut **tx)
        .await?;
    Ok(Enqueued { id, created: true })
}

/// Makes waiting jobs ready whose time has come: delayed ones and errored ones with retries left.
/// Returns how many.
pub(crate) async fn promote_due(store: &Store, queue: &str, now: i64) -> Result<usize> {
    let mut tx = store.begin().await?;
    let ready = promote(&mut tx, store.backend(), queue, now).await?;
    tx.commit().await?;
    store.bump(&vec![Topic::Queue(queue.to_owned()); ready]);
    Ok(ready)
}

async fn promote(tx: &mut Tx, backend: Backend, queue: &str, now: i64) -> Result<usize> {
    let lock = backend.for_update_skip_locked();
    let sql = format!(
        "UPDATE jobs SET state = 'queued', process_after = NULL, queued_at = process_after \
         WHERE id IN (SELECT id FROM jobs WHERE queue = $1 AND process_after <= $2 \
             AND state IN ('queued', 'errored') LIMIT 500{lock}) RETURNING priority, lane"
    );
    let promoted: Vec<Lane> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(queue).bind(now).fetch_all(&mut **tx).await?;
    let lanes: BTreeSet<Lane> = promoted.iter().copied().collect();
    for lane in lanes {
        lanes::activate(tx, backend, queue, lane).await?;
    }
    Ok(promoted.len())
}
