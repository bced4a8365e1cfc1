//! A hold ends: by its time, by an admin, by its executor, or because that fell silent.

use protocol::hold::{HoldEnd, LOST_AFTER_MS};

use super::terminals::TerminalEnd;
use super::{Hold, lock};
use crate::db::{Store, give_up};
use crate::error::{Error, Result};
use crate::wake::Topic;

/// An executor that goes on asking after the time is over is given this long to say that it ended.
const GRACE_MS: i64 = 15_000;

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The executor is told at once, and ends it.
    Asked,
    /// It had ended already.
    AlreadyEnded,
}

impl Store {
    /// Asks the executor to let the machine go. Asking twice changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a hold.
    pub async fn release_hold(&self, job_id: i64, attempt: i64, by: &str) -> Result<Release> {
        let mut tx = self.begin().await?;
        let hold = lock(self, &mut tx, job_id, attempt).await?;
        let hold = hold.ok_or_else(|| Error::not_found("hold of job", job_id))?;
        if !hold.is_open() {
            return give_up(tx, Ok(Release::AlreadyEnded)).await;
        }
        sqlx::query(
            "UPDATE holds SET released_by = $3 \
             WHERE job_id = $1 AND attempt = $2 AND released_by = ''",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(by)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.bump(&[Topic::Hold(job_id), Topic::Job(job_id)]);
        Ok(Release::Asked)
    }

    /// Ends a hold with all its terminals; its token opens nothing any more. False when it had ended.
    ///
    /// # Errors
    /// Database errors.
    pub async fn end_hold(
        &self,
        job_id: i64,
        attempt: i64,
        end: HoldEnd,
        now: i64,
    ) -> Result<bool> {
        self.end_hold_if(job_id, attempt, now, |_| Some(end)).await.map(|end| end.is_some())
    }

    /// Ends the holds whose executor fell silent, and those whose time is long over. Call it every few
    /// seconds; any number of replicas may. Returns what it ended.
    ///
    /// # Errors
    /// Database errors; what was ended before stays ended.
    pub async fn end_lost_holds(&self, now: i64) -> Result<Vec<(Hold, HoldEnd)>> {
        let overdue = |hold: &Hold| {
            if hold.seen_at < now - LOST_AFTER_MS {
                Some(HoldEnd::ExecutorLost)
            } else if hold.held_until < now - GRACE_MS {
                Some(HoldEnd::Expired)
            } else {
                None
            }
        };
        let mut ended = Vec::new();
        for hold in self.open_holds().await?.into_iter().filter(|hold| overdue(hold).is_some()) {
            // Looked at again under its lock: the executor may have come back in this moment.
            let end = self.end_hold_if(hold.job_id, hold.attempt, now, overdue).await?;
            ended.extend(end.map(|end| (hold, end)));
        }
        Ok(ended)
    }

    async fn end_hold_if(
        &self,
        job_id: i64,
        attempt: i64,
        now: i64,
        decide: impl Fn(&Hold) -> Option<HoldEnd>,
    ) -> Result<Option<HoldEnd>> {
        let mut tx = self.begin().await?;
        let hold = lock(self, &mut tx, job_id, attempt).await?;
        let Some(end) = hold.filter(Hold::is_open).and_then(|hold| decide(&hold)) else {
            return give_up(tx, Ok(None)).await;
        };
        sqlx::query(
            "UPDATE holds SET ended_at = $3, end_reason = $4 WHERE job_id = $1 AND attempt = $2",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(now)
        .bind(end.as_str())
        .execute(&mut *tx)
        .await?;
        let terminals: Vec<i64> = sqlx::query_scalar(
            "UPDATE terminals SET closed_at = $3, close_reason = $4 \
             WHERE job_id = $1 AND attempt = $2 AND closed_at IS NULL RETURNING id",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(now)
        .bind(TerminalEnd::HoldEnded.as_str())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut topics = vec![Topic::Hold(job_id), Topic::Job(job_id), Topic::Jobs];
        topics.extend(terminals.into_iter().map(Topic::Terminal));
        self.bump(&topics);
        Ok(Some(end))
    }
}
