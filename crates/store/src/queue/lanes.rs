//! Whose turn it is, without looking at the jobs that wait.
//!
//! Each user (lane) has one row per priority. A claim takes the active lane whose last turn is longest
//! ago and, in it, the oldest job: two index look-ups, however many jobs wait. `active` is a hint that
//! may be 1 for an empty lane and is never 0 for a lane with a ready job:
//!
//! - whoever makes a job ready holds the lane's row shared until its commit, see [`activate`];
//! - whoever turns a lane off holds it alone and then looks once more, see [`deactivate_if_empty`].

use sqlx::AssertSqlSafe;

use crate::db::{Backend, Store, Tx, give_up};
use crate::error::Result;

/// Key of a lane within a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub(crate) struct Lane {
    pub priority: i64,
    pub lane: i64,
}

/// Lanes that one claim looks at before it looks again.
pub(crate) const BATCH: usize = 16;

/// The next lanes in turn.
pub(crate) async fn next(tx: &mut Tx, queue: &str) -> Result<Vec<Lane>> {
    Ok(sqlx::query_as(
        "SELECT priority, lane FROM queue_lanes WHERE queue = $1 AND active = 1 \
         ORDER BY priority DESC, last_turn, lane LIMIT 16",
    )
    .bind(queue)
    .fetch_all(&mut **tx)
    .await?)
}

/// Makes sure that claims look at the lane of a job that this transaction made ready.
pub(crate) async fn activate(tx: &mut Tx, backend: Backend, queue: &str, lane: Lane) -> Result<()> {
    let lock = backend.for_key_share();
    let sql = format!(
        "SELECT active FROM queue_lanes WHERE queue = $1 AND priority = $2 AND lane = $3{lock}"
    );
    let active: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(queue)
        .bind(lane.priority)
        .bind(lane.lane)
        .fetch_optional(&mut **tx)
        .await?;
    if active == Some(1) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO queue_lanes (queue, priority, lane, active, last_turn, last_claim_at) \
         VALUES ($1, $2, $3, 1, 0, 0) \
         ON CONFLICT (queue, priority, lane) DO UPDATE SET active = 1",
    )
    .bind(queue)
    .bind(lane.priority)
    .bind(lane.lane)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The lane had its turn. Turns are counted, not timed: two claims in one millisecond are two turns.
pub(crate) async fn touch(tx: &mut Tx, queue: &str, lane: Lane, now: i64) -> Result<()> {
    sqlx::query(
        "UPDATE queue_lanes SET last_claim_at = $4, last_turn = \
           (SELECT COALESCE(MAX(l.last_turn), 0) + 1 FROM queue_lanes l WHERE l.queue = $1) \
         WHERE queue = $1 AND priority = $2 AND lane = $3",
    )
    .bind(queue)
    .bind(lane.priority)
    .bind(lane.lane)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Turns the lane off unless a job waits in it or somebody else holds it. True when it was turned off.
pub(crate) async fn deactivate_if_empty(store: &Store, queue: &str, lane: Lane) -> Result<bool> {
    let mut tx = store.begin().await?;
    let lock = store.backend().for_update_skip_locked();
    let sql = format!(
        "SELECT active FROM queue_lanes WHERE queue = $1 AND priority = $2 AND lane = $3{lock}"
    );
    let held: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(queue)
        .bind(lane.priority)
        .bind(lane.lane)
        .fetch_optional(&mut *tx)
        .await?;
    if held != Some(1) {
        return give_up(tx, Ok(false)).await;
    }
    let done = sqlx::query(
        "UPDATE queue_lanes SET active = 0 WHERE queue = $1 AND priority = $2 AND lane = $3 \
         AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.queue = $1 AND jobs.priority = $2 \
             AND jobs.lane = $3 AND jobs.state = 'queued' AND jobs.process_after IS NULL)",
    )
    .bind(queue)
    .bind(lane.priority)
    .bind(lane.lane)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}
