//! Phases of an attempt, for the bar on the job's page.

use protocol::Phase;

use crate::db::Store;
use crate::error::{Error, Result};
use crate::feed::{self, NewItem};
use crate::queue::Lease;
use crate::wake::Topic;

/// When a phase began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseStart {
    /// Phase.
    pub phase: Phase,
    /// Milliseconds since the Unix epoch, by the instance's clock.
    pub began_at: i64,
}

impl Store {
    /// A phase begins, `elapsed_ms` after the claim. Reporting it twice changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownJob`] when the lease does not hold.
    pub async fn begin_phase(
        &self,
        lease: &Lease<'_>,
        phase: Phase,
        elapsed_ms: i64,
        now: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let mut reserved = feed::reserve(&mut tx, lease, 1).await?;
        let started: Option<i64> = sqlx::query_scalar(
            "SELECT started_at FROM attempts WHERE job_id = $1 AND attempt = $2",
        )
        .bind(lease.job_id)
        .bind(reserved.attempt)
        .fetch_optional(&mut *tx)
        .await?;
        // The executor's clock cannot move a phase out of the attempt.
        let began_at = started.ok_or(Error::UnknownJob)?.saturating_add(elapsed_ms.max(0)).min(now);
        let inserted = sqlx::query(
            "INSERT INTO phases (job_id, attempt, phase, began_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (job_id, attempt, phase) DO NOTHING",
        )
        .bind(lease.job_id)
        .bind(reserved.attempt)
        .bind(phase.as_str())
        .bind(began_at)
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Ok(());
        }
        let body = Some(phase.as_str().to_owned());
        let item = NewItem { kind: "phase", body, ..NewItem::default() };
        feed::push(&mut tx, lease.job_id, &mut reserved, item, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(lease.job_id)]);
        Ok(())
    }

    /// Phases of an attempt in the order they began.
    ///
    /// # Errors
    /// Database errors.
    pub async fn phases(&self, job_id: i64, attempt: i64) -> Result<Vec<PhaseStart>> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT phase, began_at FROM phases WHERE job_id = $1 AND attempt = $2")
                .bind(job_id)
                .bind(attempt)
                .fetch_all(self.read())
                .await?;
        let read = |(name, began_at): &(String, i64)| {
            feed::read_phase(name).map(|phase| PhaseStart { phase, began_at: *began_at })
        };
        let mut phases: Vec<PhaseStart> = rows.iter().filter_map(read).collect();
        phases.sort_by_key(|start| (start.began_at, start.phase));
        Ok(phases)
    }
}
