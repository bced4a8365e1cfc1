//! Output of an entry grows.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::feed::{self, CHUNK};
use crate::queue::Lease;
use crate::wake::Topic;

/// A piece of output at its place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append<'a> {
    /// The entry.
    pub entry_id: i64,
    /// Where `data` begins in the entry's output.
    pub offset: u64,
    /// Raw bytes; may be empty in the final call.
    pub data: &'a [u8],
    /// Set in the final call.
    pub exit_code: Option<i64>,
    /// Set in the final call. Milliseconds.
    pub duration_ms: Option<i64>,
}

impl Store {
    /// Appends output and returns the bytes stored now. What is stored already is skipped, so a call
    /// may be repeated. With `exit_code` or `duration_ms` the entry is ended.
    ///
    /// # Errors
    /// [`Error::UnknownJob`] when the lease does not hold, [`Error::NotFound`] for an unknown entry,
    /// [`Error::Gap`] when `offset` is past the end: nothing was stored, continue from there.
    pub async fn append_log(
        &self,
        lease: &Lease<'_>,
        append: &Append<'_>,
        now: i64,
    ) -> Result<u64> {
        let job_id = lease.job_id;
        let mut tx = self.begin().await?;
        let pieces = append.data.len().div_ceil(CHUNK);
        let mut reserved = feed::reserve(&mut tx, lease, 1 + pieces).await?;
        let attempt = reserved.attempt;
        let stored = super::stored(&mut tx, job_id, attempt, append.entry_id).await?;
        let length = u64::try_from(stored).unwrap_or(0);
        if append.offset > length {
            return Err(Error::Gap { stored: length });
        }
        let known = usize::try_from(length - append.offset).unwrap_or(usize::MAX);
        let new = append.data.get(known..).unwrap_or_default();
        let ends = append.exit_code.is_some() || append.duration_ms.is_some();
        if new.is_empty() && !ends {
            return Ok(length);
        }
        sqlx::query(
            "UPDATE log_entries SET stored = stored + $4, exit_code = COALESCE($5, exit_code), \
               duration_ms = COALESCE($6, duration_ms) \
             WHERE job_id = $1 AND attempt = $2 AND entry_id = $3",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(append.entry_id)
        .bind(new.len() as i64)
        .bind(append.exit_code)
        .bind(append.duration_ms)
        .execute(&mut *tx)
        .await?;
        let mut items: Vec<_> = feed::output(append.entry_id, stored, new).collect();
        items.extend(ends.then(|| feed::entry_changed(append.entry_id)));
        feed::push_all(&mut tx, job_id, &mut reserved, &items, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(job_id)]);
        Ok(length + new.len() as u64)
    }
}
