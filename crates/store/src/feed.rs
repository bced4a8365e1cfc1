//! What happened to a job, in order. Pages follow it by remembering the last `seq` they saw.

use protocol::{FailureReason, Phase};

use crate::db::{Store, Tx, placeholders};
use crate::error::{Error, Result};
use crate::logs::{self, LogEntry};
use crate::queue::{JobState, Lease};

/// Longest piece of output in one item, in bytes.
pub(crate) const CHUNK: usize = 64 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// Ascends within the job, with holes. The cursor of [`Store::feed`].
    pub seq: i64,
    /// Attempt it belongs to.
    pub attempt: i64,
    /// When, by the instance's clock.
    pub at: i64,
    /// What.
    pub change: FeedChange,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedChange {
    /// The job's state changed.
    State {
        /// The state it is in since.
        state: JobState,
        /// Why it ended.
        reason: Option<FailureReason>,
        /// Evidence.
        message: String,
    },
    /// A phase began.
    Phase(Phase),
    /// A log entry was added, ended or changed; this is how it is now.
    Entry(LogEntry),
    /// Output was added to an entry.
    Output {
        /// The entry.
        entry_id: i64,
        /// Where `data` begins in the entry's output.
        offset: u64,
        /// Raw bytes of a hostile program; may cut characters in half.
        data: Vec<u8>,
    },
    /// A stock executor sent output that does not continue what it sent before: forget the entry's
    /// output; it follows anew from offset 0.
    Rewound {
        /// The entry.
        entry_id: i64,
    },
    /// A result was posted or replaced.
    Result {
        /// Kind of result.
        kind: String,
        /// Name of the result.
        name: String,
    },
    /// An artifact was stored.
    Artifact {
        /// Path in the workspace.
        path: String,
    },
}

/// A run of sequence numbers, reserved under the lock of the job's row.
pub(crate) struct Reserved {
    pub attempt: i64,
    next: i64,
}

/// Proves that the lease holds, locks the job for this transaction and reserves `count` numbers.
/// Unused ones are holes.
pub(crate) async fn reserve(tx: &mut Tx, lease: &Lease<'_>, count: usize) -> Result<Reserved> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let row: Option<(i64, i64)> = sqlx::query_as(
        "UPDATE jobs SET feed = feed + $5 WHERE id = $1 AND queue = $2 AND executor = $3 \
         AND state = 'processing' AND ($4 = 0 OR attempt = $4) RETURNING attempt, feed",
    )
    .bind(lease.job_id)
    .bind(lease.queue)
    .bind(lease.executor)
    .bind(lease.attempt.unwrap_or(0))
    .bind(count)
    .fetch_optional(&mut **tx)
    .await?;
    let (attempt, feed) = row.ok_or(Error::UnknownJob)?;
    Ok(Reserved { attempt, next: feed - count + 1 })
}

/// One row of the feed before it is written.
#[derive(Default)]
pub(crate) struct NewItem<'a> {
    pub kind: &'static str,
    pub entry_id: Option<i64>,
    pub start: Option<i64>,
    pub data: Option<&'a [u8]>,
    pub body: Option<String>,
}

/// Rows of one statement: SQLite takes 32766 parameters, a transaction should not hold megabytes twice.
const ROWS: usize = 16;

/// Writes an item under the next reserved number.
pub(crate) async fn push(
    tx: &mut Tx,
    job_id: i64,
    reserved: &mut Reserved,
    item: NewItem<'_>,
    now: i64,
) -> Result<()> {
    push_all(tx, job_id, reserved, &[item], now).await
}

/// Writes items under the next reserved numbers, many with one statement: each costs a round trip while
/// the job's row is locked.
pub(crate) async fn push_all(
    tx: &mut Tx,
    job_id: i64,
    reserved: &mut Reserved,
    items: &[NewItem<'_>],
    now: i64,
) -> Result<()> {
    const FIELDS: usize = 10;
    for items in items.chunks(ROWS) {
        let rows: Vec<String> = (0..items.len())
            .map(|row| format!("({})", placeholders(row * FIELDS + 1, FIELDS)))
            .collect();
        let sql = format!(
            "INSERT INTO job_feed \
               (job_id, seq, attempt, at, kind, entry_id, start, size, data, body) VALUES {}",
            rows.join(", ")
        );
        let mut statement = sqlx::query(sqlx::AssertSqlSafe(sql));
        for item in items {
            statement = statement
                .bind(job_id)
                .bind(reserved.next)
                .bind(reserved.attempt)
                .bind(now)
                .bind(item.kind)
                .bind(item.entry_id)
                .bind(item.start)
                .bind(item.data.map(|data| data.len() as i64))
                .bind(item.data.map(<[u8]>::to_vec))
                .bind(item.body.clone());
            reserved.next += 1;
        }
        statement.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Output of an entry from byte `start` on, cut into chunks.
pub(crate) fn output(entry_id: i64, start: i64, data: &[u8]) -> impl Iterator<Item = NewItem<'_>> {
    data.chunks(CHUNK).enumerate().map(move |(index, chunk)| NewItem {
        kind: "output",
        entry_id: Some(entry_id),
        start: Some(start + (index * CHUNK) as i64),
        data: Some(chunk),
        body: None,
    })
}

/// The entry was added, ended or changed.
pub(crate) fn entry_changed(entry_id: i64) -> NewItem<'static> {
    NewItem { kind: "entry", entry_id: Some(entry_id), ..NewItem::default() }
}

/// Records the state that the job's row has now. The caller holds the row.
pub(crate) async fn push_state(
    tx: &mut Tx,
    job_id: i64,
    attempt: i64,
    state: JobState,
    now: i64,
) -> Result<()> {
    let feed: i64 =
        sqlx::query_scalar("UPDATE jobs SET feed = feed + 1 WHERE id = $1 RETURNING feed")
            .bind(job_id)
            .fetch_one(&mut **tx)
            .await?;
    push_state_at(tx, (job_id, attempt, feed), state, now).await
}

/// As [`push_state`], at the number `feed` that the caller took from the job's row.
pub(crate) async fn push_state_at(
    tx: &mut Tx,
    (job_id, attempt, feed): (i64, i64, i64),
    state: JobState,
    now: i64,
) -> Result<()> {
    let mut reserved = Reserved { attempt, next: feed };
    let body = Some(state.as_str().to_owned());
    push(tx, job_id, &mut reserved, NewItem { kind: "state", body, ..NewItem::default() }, now)
        .await
}

#[derive(sqlx::FromRow)]
struct FeedRow {
    seq: i64,
    attempt: i64,
    at: i64,
    kind: String,
    entry_id: Option<i64>,
    start: Option<i64>,
    data: Option<Vec<u8>>,
    body: Option<String>,
}

impl Store {
    /// What happened to the job after `after` (0 = from the start), oldest first: at most `max_items`,
    /// and no more after `max_bytes` of output are reached. Empty means: up to date.
    ///
    /// State and entries are given as they are now, so a follower that is behind learns the newest.
    ///
    /// # Errors
    /// Database errors.
    pub async fn feed(
        &self,
        job_id: i64,
        after: i64,
        max_items: i64,
        max_bytes: usize,
    ) -> Result<Vec<FeedItem>> {
        use futures_util::TryStreamExt as _;
        let mut rows = sqlx::query_as::<_, FeedRow>(
            "SELECT seq, attempt, at, kind, entry_id, start, data, body FROM job_feed \
             WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(job_id)
        .bind(after)
        .bind(max_items)
        .fetch(self.read());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            bytes += row.data.as_ref().map_or(0, Vec::len);
            batch.push(row);
            if bytes >= max_bytes {
                break;
            }
        }
        drop(rows);
        let mut items = Vec::with_capacity(batch.len());
        for row in batch {
            items.extend(self.feed_item(job_id, row).await?);
        }
        Ok(items)
    }

    async fn feed_item(&self, job_id: i64, row: FeedRow) -> Result<Option<FeedItem>> {
        let FeedRow { seq, attempt, at, kind, entry_id, start, data, body } = row;
        let entry_id = entry_id.unwrap_or(0);
        let body = body.unwrap_or_default();
        let change = match kind.as_str() {
            "state" => self.state_change(job_id, attempt, &body).await?,
            "phase" => read_phase(&body).map(FeedChange::Phase),
            "entry" => logs::entry(self, job_id, attempt, entry_id).await?.map(FeedChange::Entry),
            "output" => Some(FeedChange::Output {
                entry_id,
                offset: u64::try_from(start.unwrap_or(0)).unwrap_or(0),
                data: data.unwrap_or_default(),
            }),
            "rewound" => Some(FeedChange::Rewound { entry_id }),
            "result" => body.split_once('\n').map(|(kind, name)| FeedChange::Result {
                kind: kind.to_owned(),
                name: name.to_owned(),
            }),
            "artifact" => Some(FeedChange::Artifact { path: body }),
            _ => None,
        };
        Ok(change.map(|change| FeedItem { seq, attempt, at, change }))
    }

    async fn state_change(
        &self,
        job_id: i64,
        attempt: i64,
        state: &str,
    ) -> Result<Option<FeedChange>> {
        let Some(state) = JobState::parse(state) else { return Ok(None) };
        let attempts = self.attempts(job_id).await?;
        let attempt = attempts.into_iter().find(|a| a.attempt == attempt);
        let (reason, message) = match attempt {
            Some(attempt) if state != JobState::Processing => (attempt.reason, attempt.message),
            _ => (None, String::new()),
        };
        Ok(Some(FeedChange::State { state, reason, message }))
    }
}

pub(crate) fn read_phase(name: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == name)
}
