//! Sends what writers spool: by offset where the instance takes that, else the whole entry each second.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use protocol::LogEntryRequest;
use tokio::time::Instant;

use super::spool::{Spool, SpooledEntry};
use crate::client::job::Appended;
use crate::client::{Attempts, Backoff, ClientError, JobClient};

/// How the instance takes logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// Extension `append-logs`.
    Append,
    /// The base protocol: the whole entry, each time.
    Whole,
}

impl SendMode {
    /// Shortest time between two passes: output is visible within it, and bursts travel together.
    fn interval(self) -> Duration {
        match self {
            Self::Append => Duration::from_millis(75),
            Self::Whole => Duration::from_secs(1),
        }
    }
}

/// Why the log could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The job is not this executor's any more.
    #[error("the job is not this executor's any more: {0}")]
    LeaseLost(ClientError),
    /// The instance will not take it, however often it is asked.
    #[error("the instance refused the log: {0}")]
    Refused(ClientError),
    /// The spool could not be read.
    #[error("cannot read the log spool: {0}")]
    Spool(#[from] std::io::Error),
    /// The sender was stopped.
    #[error("sending was stopped")]
    Stopped,
}

/// Largest body of one append.
const CHUNK: u64 = 1 << 20;
/// Refused credentials are believed after this time: an instance that restarts, or has not seen our
/// name yet, answers 401 for a moment.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(15);

pub(super) struct Sender {
    client: JobClient,
    mode: SendMode,
    spool: Arc<Spool>,
    sent: Vec<Sent>,
    refused_since: Option<Instant>,
}

/// What the instance has of an entry.
#[derive(Clone, Copy, Default)]
struct Sent {
    /// The id it gave.
    id: Option<i64>,
    bytes: u64,
    ended: bool,
}

impl Sender {
    pub(super) fn new(client: JobClient, mode: SendMode, spool: Arc<Spool>) -> Self {
        Self { client, mode, spool, sent: Vec::new(), refused_since: None }
    }

    /// Runs until the log is complete and delivered, or cannot be.
    pub(super) async fn run(mut self) -> Result<(), SendError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            // Read before the pass: what is written during it makes another one.
            let complete = self.spool.complete.load(Ordering::Acquire);
            let began = Instant::now();
            match self.pass().await {
                Ok(()) if complete => return Ok(()),
                Ok(()) => {
                    backoff.reset();
                    self.refused_since = None;
                    self.spool.news.notified().await;
                    if !self.spool.complete.load(Ordering::Acquire) {
                        tokio::time::sleep_until(began + self.mode.interval()).await;
                    }
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error)) => {
                    let delay = backoff.next_delay();
                    tracing::debug!(job = self.client.id(), %error, "the log is sent again later");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Sends all news of all entries, in order.
    async fn pass(&mut self) -> Result<(), Failure> {
        for (index, entry) in self.spool.entries().into_iter().enumerate() {
            if self.sent.len() == index {
                self.sent.push(Sent::default());
            }
            if self.sent[index].ended {
                continue;
            }
            let result = match self.mode {
                SendMode::Append => self.append(index, &entry).await,
                SendMode::Whole => self.replace(index, &entry).await,
            };
            result?;
        }
        Ok(())
    }

    async fn append(&mut self, index: usize, entry: &SpooledEntry) -> Result<(), Failure> {
        let id = self.ensure_added(index, entry).await?;
        loop {
            // The end is read before the length: once there is an end, the length is final.
            let end = entry.end.get().copied();
            let length = entry.length.load(Ordering::Acquire);
            let from = self.sent[index].bytes;
            if from >= length && end.is_none() {
                return Ok(());
            }
            let upto = length.min(from + CHUNK);
            let output = read_range(entry, from, upto)?;
            let end = end.filter(|_| upto == length);
            let answer = self.client.append_log(id, from, output, end).await;
            match answer.map_err(|error| self.judge(error))? {
                Appended::Stored(offset) => {
                    self.sent[index].bytes = offset.clamp(upto, length);
                    if end.is_some() {
                        self.sent[index].ended = true;
                        return Ok(());
                    }
                }
                Appended::Gap(offset) if offset < from => self.sent[index].bytes = offset,
                Appended::Gap(offset) => {
                    return Err(Failure::Final(SendError::Refused(ClientError::Answer {
                        endpoint: "append log".to_owned(),
                        reason: format!("a gap at {offset}, behind what was sent ({from})"),
                    })));
                }
            }
        }
    }

    async fn replace(&mut self, index: usize, entry: &SpooledEntry) -> Result<(), Failure> {
        let id = self.ensure_added(index, entry).await?;
        let end = entry.end.get().copied();
        let length = entry.length.load(Ordering::Acquire);
        if length == self.sent[index].bytes && end.is_none() {
            return Ok(());
        }
        let output = read_range(entry, 0, length)?;
        let request = LogEntryRequest {
            entry_id: Some(id),
            out: String::from_utf8_lossy(&output).into_owned(),
            exit_code: end.map(|end| end.exit_code),
            duration_ms: end.map(|end| end.duration_ms),
            ..self.request(entry)
        };
        let updated = self.client.update_entry(&request, Attempts::One).await;
        updated.map_err(|error| self.judge(error))?;
        self.sent[index].bytes = length;
        self.sent[index].ended = end.is_some();
        Ok(())
    }

    async fn ensure_added(&mut self, index: usize, entry: &SpooledEntry) -> Result<i64, Failure> {
        if let Some(id) = self.sent[index].id {
            return Ok(id);
        }
        let request = LogEntryRequest {
            // Makes a repeated add harmless; stock instances do not know the field on this route.
            entry_id: (self.mode == SendMode::Append).then_some(entry.number),
            ..self.request(entry)
        };
        let id = self.client.add_entry(&request).await.map_err(|error| self.judge(error))?;
        self.sent[index].id = Some(id);
        Ok(id)
    }

    fn request(&self, entry: &SpooledEntry) -> LogEntryRequest {
        LogEntryRequest {
            executor_name: self.client.executor_name().to_owned(),
            job_id: self.client.id(),
            key: entry.key.clone(),
            command: entry.command.clone(),
            start_time: entry.start_time.clone(),
            ..LogEntryRequest::default()
        }
    }

    fn judge(&mut self, error: ClientError) -> Failure {
        if error.is_unknown_job() {
            return Failure::Final(SendError::LeaseLost(error));
        }
        if error.is_refused() {
            let since = *self.refused_since.get_or_insert_with(Instant::now);
            return if since.elapsed() >= REFUSED_FOR_GOOD {
                Failure::Final(SendError::LeaseLost(error))
            } else {
                Failure::Transient(error)
            };
        }
        if error.is_transient() {
            Failure::Transient(error)
        } else {
            Failure::Final(SendError::Refused(error))
        }
    }
}

enum Failure {
    Transient(ClientError),
    Final(SendError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Final(SendError::Spool(error))
    }
}

/// Page-cache reads of at most a chunk (whole entries in the base protocol).
fn read_range(entry: &SpooledEntry, from: u64, upto: u64) -> std::io::Result<Bytes> {
    let mut file = std::fs::File::open(&entry.path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut output = Vec::with_capacity(usize::try_from(upto.saturating_sub(from)).unwrap_or(0));
    file.take(upto.saturating_sub(from)).read_to_end(&mut output)?;
    Ok(output.into())
}
