//! The entries of one job on disk, and what the sender knows about each.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::entry::LogWriter;
use super::redact::Redactor;
use super::sender::{SendError, SendMode, Sender};
use crate::client::JobClient;
use crate::client::job::EntryEnd;

/// All log entries of one job.
pub struct JobLog {
    spool: Arc<Spool>,
    redactor: Redactor,
    sender: Mutex<Option<JoinHandle<Result<(), SendError>>>>,
}

/// Shared by writers and the sender.
pub(super) struct Spool {
    dir: PathBuf,
    entries: Mutex<Vec<Arc<SpooledEntry>>>,
    /// There is something to send.
    pub(super) news: Notify,
    /// No entry and no output will follow.
    pub(super) complete: AtomicBool,
    /// Bytes written over all entries.
    written: AtomicU64,
    limit: u64,
}

/// One entry. The file only grows; `length` is what readers may rely on.
pub(super) struct SpooledEntry {
    /// 1-based position, which is the id we expect the instance to give.
    pub(super) number: i64,
    pub(super) key: String,
    pub(super) command: Option<Vec<String>>,
    pub(super) start_time: String,
    pub(super) path: PathBuf,
    pub(super) length: AtomicU64,
    pub(super) end: OnceLock<EntryEnd>,
}

impl JobLog {
    /// Starts the log of a job in `dir`, which must be empty and is removed with the job.
    /// `limit` bounds the output over all entries, in bytes.
    ///
    /// # Errors
    /// The directory could not be made.
    pub fn start(
        dir: &Path,
        client: JobClient,
        mode: SendMode,
        redactor: Redactor,
        limit: u64,
    ) -> std::io::Result<Self> {
        let spool = Spool::create(dir, limit)?;
        let sender = tokio::spawn(Sender::new(client, mode, Arc::clone(&spool)).run());
        Ok(Self { spool, redactor, sender: Mutex::new(Some(sender)) })
    }

    /// A log that nobody gets: `<n>.log` in `dir` for each entry.
    ///
    /// # Errors
    /// The directory could not be made.
    pub fn local(dir: &Path, redactor: Redactor, limit: u64) -> std::io::Result<Self> {
        Ok(Self { spool: Spool::create(dir, limit)?, redactor, sender: Mutex::new(None) })
    }

    /// Keys of the entries so far, with the files that hold their output.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let entries = self.spool.entries();
        entries.iter().map(|entry| (entry.key.clone(), entry.path.clone())).collect()
    }

    /// Begins an entry. `command` is what ran, word by word; `None` for work of the executor itself.
    ///
    /// # Errors
    /// The spool file could not be made.
    pub fn entry(&self, key: &str, command: Option<&[String]>) -> std::io::Result<LogWriter> {
        let command = command
            .map(|words| words.iter().map(|word| self.redactor.text(word)).collect::<Vec<_>>());
        let entry = self.spool.add(key, command);
        LogWriter::create(Arc::clone(&self.spool), entry, &self.redactor)
    }

    /// The job's redactor, for texts that go elsewhere.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Bytes of output so far.
    pub fn bytes(&self) -> u64 {
        self.spool.written.load(Ordering::Relaxed)
    }

    /// Waits until the instance has everything. All writers must be closed.
    ///
    /// # Errors
    /// The instance refuses the log for good, or the job is not ours any more.
    pub async fn flush(&self) -> Result<(), SendError> {
        self.spool.complete.store(true, Ordering::Release);
        self.spool.news.notify_one();
        let sender = self.sender.lock().expect("no panic while held").take();
        match sender {
            Some(sender) => sender.await.unwrap_or_else(|_| Err(SendError::Stopped)),
            None => Ok(()),
        }
    }
}

impl Drop for JobLog {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.lock().expect("no panic while held").take() {
            sender.abort();
        }
    }
}

impl Spool {
    fn create(dir: &Path, limit: u64) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(dir)?;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            entries: Mutex::new(Vec::new()),
            news: Notify::new(),
            complete: AtomicBool::new(false),
            written: AtomicU64::new(0),
            limit,
        }))
    }

    fn add(&self, key: &str, command: Option<Vec<String>>) -> Arc<SpooledEntry> {
        let mut entries = self.lock();
        let number = entries.len() as i64 + 1;
        let entry = Arc::new(SpooledEntry {
            number,
            key: key.to_owned(),
            command,
            start_time: crate::clock::now().to_string(),
            path: self.dir.join(format!("{number}.log")),
            length: AtomicU64::new(0),
            end: OnceLock::new(),
        });
        entries.push(Arc::clone(&entry));
        entry
    }

    /// Bytes that may still be written; takes them.
    pub(super) fn take_budget(&self, wanted: u64) -> u64 {
        let before = self.written.fetch_add(wanted, Ordering::Relaxed);
        self.limit.saturating_sub(before).min(wanted)
    }

    pub(super) fn entries(&self) -> Vec<Arc<SpooledEntry>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SpooledEntry>>> {
        self.entries.lock().expect("no panic while held")
    }
}
