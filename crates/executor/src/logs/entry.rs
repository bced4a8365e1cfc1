//! Writing one log entry.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::lines::{Lines, Stream};
use super::redact::{RedactedStream, Redactor};
use super::spool::{Spool, SpooledEntry};
use crate::client::job::EntryEnd;

/// Output that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The job printed more than it may.
    #[error("output limit reached")]
    Limit,
    /// The spool file.
    #[error("cannot write the log spool: {0}")]
    Spool(#[from] std::io::Error),
}

/// The open end of one entry. Dropped without [`LogWriter::close`] the entry ends with exit code -1.
pub struct LogWriter {
    spool: Arc<Spool>,
    entry: Arc<SpooledEntry>,
    file: File,
    stdout: Side,
    stderr: Side,
    notes: RedactedStream,
    started: Instant,
}

struct Side {
    redacted: RedactedStream,
    lines: Lines,
}

impl Side {
    fn new(redactor: &Redactor, stream: Stream) -> Self {
        Self { redacted: redactor.stream(), lines: Lines::new(stream) }
    }
}

impl LogWriter {
    pub(super) fn create(
        spool: Arc<Spool>,
        entry: Arc<SpooledEntry>,
        redactor: &Redactor,
    ) -> std::io::Result<Self> {
        let file = File::create_new(&entry.path)?;
        spool.news.notify_one();
        Ok(Self {
            spool,
            entry,
            file,
            stdout: Side::new(redactor, Stream::Stdout),
            stderr: Side::new(redactor, Stream::Stderr),
            notes: redactor.stream(),
            started: Instant::now(),
        })
    }

    /// Takes output of a process.
    ///
    /// # Errors
    /// See [`LogError`]. What fits below the limit is kept.
    pub fn output(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), LogError> {
        let side = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let (mut shown, mut out) = (Vec::new(), Vec::new());
        side.redacted.push(chunk, &mut shown);
        side.lines.push(&shown, &mut out);
        self.append(&out)
    }

    /// Writes a line of the executor's own, without prefix.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn note(&mut self, line: &str) -> Result<(), LogError> {
        let mut out = Vec::new();
        self.notes.push(line.as_bytes(), &mut out);
        self.notes.push(b"\n", &mut out);
        self.append(&out)
    }

    /// Ends the entry.
    pub fn close(mut self, exit_code: i64) {
        self.end(exit_code);
    }

    fn end(&mut self, exit_code: i64) {
        let (mut shown, mut out) = (Vec::new(), Vec::new());
        self.notes.finish(&mut out);
        for side in [&mut self.stdout, &mut self.stderr] {
            side.redacted.finish(&mut shown);
            side.lines.push(&shown, &mut out);
            side.lines.finish(&mut out);
            shown.clear();
        }
        // Past the limit, or on a full disk, the entry ends with what it has.
        if let Err(error) = self.append(&out) {
            tracing::debug!(key = self.entry.key, %error, "the end of a log entry was cut");
        }
        let duration_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let _ = self.entry.end.set(EntryEnd { exit_code, duration_ms });
        self.spool.news.notify_one();
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let wanted = bytes.len() as u64;
        let granted = self.spool.take_budget(wanted);
        let fitting = &bytes[..usize::try_from(granted).expect("at most the length of a slice")];
        self.file.write_all(fitting)?;
        self.entry.length.fetch_add(granted, Ordering::Release);
        self.spool.news.notify_one();
        if granted < wanted { Err(LogError::Limit) } else { Ok(()) }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if self.entry.end.get().is_none() {
            self.end(-1);
        }
    }
}
