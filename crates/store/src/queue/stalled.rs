//! Jobs whose executor fell silent.

use protocol::FailureReason;

use super::JobState;
use super::finish::{End, conclude};
use super::lanes::{self, Lane};
use super::row::JobRow;
use crate::db::{Store, Tx};
use crate::error::Result;
use crate::feed;
use crate::policy;
use crate::transitions::{self, Change};
use crate::wake::Topic;

/// A job that was taken from a lost executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The job.
    pub job_id: i64,
    /// Its queue.
    pub queue: String,
    /// The executor that fell silent.
    pub executor: String,
    /// `queued` again, `failed` after too many resets, or `canceled` when a cancel was requested.
    pub state: JobState,
}

impl Store {
    /// Takes every job without a heartbeat for more than [`policy::STALLED_AFTER_MS`] from its
    /// executor. Call it every few seconds; any number of replicas may.
    ///
    /// A reset job keeps its place in the queue.
    ///
    /// # Errors
    /// Database errors; what was reset before stays reset.
    pub async fn reset_stalled(&self, now: i64) -> Result<Vec<Reset>> {
        let silent_since = now - policy::STALLED_AFTER_MS;
        let stalled: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE state = 'processing' AND last_heartbeat_at < $1 \
             ORDER BY id LIMIT 1000",
        )
        .bind(silent_since)
        .fetch_all(self.read())
        .await?;
        let mut resets = Vec::new();
        for job_id in stalled {
            let mut tx = self.begin().await?;
            let Some(row) = JobRow::lock(&mut tx, self.backend(), job_id).await? else { continue };
            if row.state()? != JobState::Processing || !row.silent_since(silent_since) {
                tx.rollback().await?;
                continue;
            }
            let state = policy::stalled(row.cancel != 0, row.num_resets);
            if state == JobState::Queued {
                give_back(self, &mut tx, &row, now).await?;
            } else {
                let end = End {
                    state,
                    change: Change::Reset,
                    failure: false,
                    reason: Some(FailureReason::ExecutorLost),
                    message: match state {
                        JobState::Canceled => "the executor was lost before it could stop the job",
                        _ => policy::LOST_MESSAGE,
                    },
                    exit_code: None,
                    usage: None,
                };
                conclude(&mut tx, &row, end, now).await?;
            }
            tx.commit().await?;
            let JobRow { queue, executor, .. } = row;
            let mut topics =
                vec![Topic::Job(job_id), Topic::Jobs, Topic::Executor(executor.clone())];
            topics.extend((state == JobState::Queued).then(|| Topic::Queue(queue.clone())));
            self.bump(&topics);
            resets.push(Reset { job_id, queue, executor, state });
        }
        Ok(resets)
    }
}

/// Back into the queue. The executor's name stays on the row: if it was only cut off, it may have the
/// job back or hand in its result until somebody else takes the job.
async fn give_back(store: &Store, tx: &mut Tx, row: &JobRow, now: i64) -> Result<()> {
    transitions::check(row.id, row.state()?, Change::Reset, JobState::Queued)?;
    sqlx::query(
        "UPDATE jobs SET state = 'queued', lost = 1, num_resets = num_resets + 1, \
           started_at = NULL, process_after = NULL WHERE id = $1",
    )
    .bind(row.id)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "UPDATE attempts SET outcome = 'lost', finished_at = $3, reason = $4, message = $5 \
         WHERE job_id = $1 AND attempt = $2",
    )
    .bind(row.id)
    .bind(row.attempt)
    .bind(now)
    .bind(FailureReason::ExecutorLost.as_str())
    .bind("no heartbeat of the executor")
    .execute(&mut **tx)
    .await?;
    feed::push_state(tx, row.id, row.attempt, JobState::Queued, now).await?;
    let lane = Lane { priority: row.priority, lane: row.lane };
    lanes::activate(tx, store.backend(), &row.queue, lane).await
}
