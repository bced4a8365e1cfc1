//! A stock executor sends an entry whole, again and again.

use super::{NewLogEntry, write_command};
use crate::db::{Store, Tx, tame};
use crate::error::Result;
use crate::feed::{self, CHUNK, NewItem};
use crate::queue::Lease;
use crate::wake::Topic;

/// The whole entry as it is now.
pub type ReplaceLog<'a> = NewLogEntry<'a>;

impl Store {
    /// Replaces an entry. Output that continues what is stored is stored as an append, so that
    /// followers get only what is new; other output replaces it.
    ///
    /// # Errors
    /// [`crate::Error::UnknownJob`] when the lease does not hold; [`crate::Error::NotFound`] for an
    /// unknown entry.
    pub async fn replace_log_entry(
        &self,
        lease: &Lease<'_>,
        entry_id: i64,
        entry: &ReplaceLog<'_>,
        now: i64,
    ) -> Result<()> {
        let job_id = lease.job_id;
        let mut tx = self.begin().await?;
        let pieces = entry.out.len().div_ceil(CHUNK);
        let mut reserved = feed::reserve(&mut tx, lease, 2 + pieces).await?;
        let attempt = reserved.attempt;
        let stored = super::stored(&mut tx, job_id, attempt, entry_id).await?;
        let mut new_from = usize::try_from(stored).unwrap_or(0);
        if !continues(&mut tx, (job_id, attempt, entry_id), new_from, entry.out).await? {
            sqlx::query(
                "DELETE FROM job_feed WHERE job_id = $1 AND attempt = $2 AND entry_id = $3 \
                 AND kind = 'output'",
            )
            .bind(job_id)
            .bind(attempt)
            .bind(entry_id)
            .execute(&mut *tx)
            .await?;
            let item = NewItem { kind: "rewound", entry_id: Some(entry_id), ..NewItem::default() };
            feed::push(&mut tx, job_id, &mut reserved, item, now).await?;
            new_from = 0;
        }
        let new = entry.out.get(new_from..).unwrap_or_default();
        let mut items: Vec<_> = feed::output(entry_id, new_from as i64, new).collect();
        items.push(feed::entry_changed(entry_id));
        feed::push_all(&mut tx, job_id, &mut reserved, &items, now).await?;
        sqlx::query(
            "UPDATE log_entries SET key = $4, command = $5, start_time = $6, exit_code = $7, \
               duration_ms = $8, stored = $9 WHERE job_id = $1 AND attempt = $2 AND entry_id = $3",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(entry_id)
        .bind(&*tame(entry.key))
        .bind(write_command(entry.command))
        .bind(&*tame(entry.start_time))
        .bind(entry.exit_code)
        .bind(entry.duration_ms)
        .bind(entry.out.len() as i64)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(job_id)]);
        Ok(())
    }
}

/// Whether `out` begins with all `stored` bytes of the entry.
async fn continues(
    tx: &mut Tx,
    (job_id, attempt, entry_id): (i64, i64, i64),
    stored: usize,
    out: &[u8],
) -> Result<bool> {
    use futures_util::TryStreamExt as _;
    if stored > out.len() {
        return Ok(false);
    }
    let mut pieces = sqlx::query_as::<_, (i64, Vec<u8>)>(
        "SELECT start, data FROM job_feed WHERE job_id = $1 AND attempt = $2 AND entry_id = $3 \
         AND kind = 'output' ORDER BY start",
    )
    .bind(job_id)
    .bind(attempt)
    .bind(entry_id)
    .fetch(&mut **tx);
    while let Some((start, data)) = pieces.try_next().await? {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let same = start.checked_add(data.len()).and_then(|end| out.get(start..end));
        if same != Some(data.as_slice()) {
            return Ok(false);
        }
    }
    Ok(true)
}
