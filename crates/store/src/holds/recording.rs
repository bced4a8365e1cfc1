//! Everything that happened in a terminal, with times.

use futures_util::TryStreamExt as _;

use crate::db::{Store, Tx};
use crate::error::Result;

/// Longest piece in one event, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;

/// One thing that happened in a terminal.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TerminalEvent {
    /// Ascends; the cursor.
    pub seq: i64,
    /// When, by the instance's clock.
    pub at: i64,
    /// `i` typed, `o` printed, `r` resized (`data` is then like `80x24`).
    pub kind: String,
    /// Raw bytes; may cut characters in half.
    pub data: Vec<u8>,
}

pub(super) struct NewEvent<'a> {
    pub kind: &'static str,
    pub start: i64,
    pub data: &'a [u8],
}

/// Writes events of a terminal that the caller holds.
pub(super) async fn push(tx: &mut Tx, id: i64, events: &[NewEvent<'_>], now: i64) -> Result<()> {
    for event in events {
        let seq: i64 = sqlx::query_scalar(
            "UPDATE terminals SET events = events + 1 WHERE id = $1 RETURNING events",
        )
        .bind(id)
        .fetch_one(&mut **tx)
        .await?;
        sqlx::query(
            "INSERT INTO terminal_events (terminal_id, seq, at, kind, start, size, data) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(seq)
        .bind(now)
        .bind(event.kind)
        .bind(event.start)
        .bind(event.data.len() as i64)
        .bind(event.data.to_vec())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

impl Store {
    /// What happened in a terminal after `after` (0 = from the start), oldest first: no more after
    /// `max_bytes` are reached. Empty means: that was all.
    ///
    /// # Errors
    /// Database errors.
    pub async fn terminal_events(
        &self,
        id: i64,
        after: i64,
        max_bytes: usize,
    ) -> Result<Vec<TerminalEvent>> {
        let mut rows = sqlx::query_as::<_, TerminalEvent>(
            "SELECT seq, at, kind, data FROM terminal_events \
             WHERE terminal_id = $1 AND seq > $2 ORDER BY seq",
        )
        .bind(id)
        .bind(after)
        .fetch(self.read());
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(event) = rows.try_next().await? {
            bytes += event.data.len();
            events.push(event);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(events)
    }
}
