//! The configuration in use, and how it follows the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::parse::parse;
use super::{SiteConfig, file};
use crate::problems::Problems;

/// How often the file is looked at; a look is one `stat`.
pub const POLL: Duration = Duration::from_secs(1);

/// Why an instance cannot start with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read the site configuration {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// At start there is no last good one to keep.
    #[error("{path} has mistakes:\n{problems}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Each with line and column.
        problems: Problems,
    },
}

/// What a look at the file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing new.
    Unchanged,
    /// A new valid text is in use.
    Applied {
        /// Names the text.
        etag: String,
    },
    /// The new text has mistakes; the last good one stays in use.
    Refused(Problems),
    /// The file cannot be read; the last good one stays in use.
    Unreadable(String),
}

/// A cheap, shared view of the configuration in use.
#[derive(Clone, Debug)]
pub struct SiteConfigHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    current: watch::Sender<Arc<SiteConfig>>,
    /// What the last look saw. Blocking lock: held for a file read only, never across an await.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stamp: Option<(SystemTime, u64)>,
    etag: String,
    last: Option<Reload>,
}

impl SiteConfigHandle {
    /// Reads the file of a data folder, creating the default at first start.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let path = file::path(data_dir);
        let stamp = file::stamp(data_dir);
        let text = file::read_or_create(data_dir)
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let config = parse(&text).map_err(|problems| OpenError::Invalid { path, problems })?;
        let seen = Seen { stamp, etag: file::etag(&text), last: None };
        let inner = Inner {
            data_dir: data_dir.to_owned(),
            current: watch::Sender::new(Arc::new(config)),
            seen: Mutex::new(seen),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration in use now.
    pub fn current(&self) -> Arc<SiteConfig> {
        Arc::clone(&self.inner.current.borrow())
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<SiteConfig>> {
        self.inner.current.subscribe()
    }

    /// The folder that holds the file.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// What is wrong with the file on disk, if it is not the one in use.
    pub fn problem(&self) -> Option<String> {
        let seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &seen.last {
            Some(Reload::Refused(problems)) => Some(problems.to_string()),
            Some(Reload::Unreadable(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Reads the file again, changed or not.
    pub fn reload(&self) -> Reload {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.stamp = file::stamp(&self.inner.data_dir);
        let outcome = match file::read(&self.inner.data_dir) {
            Err(error) => Reload::Unreadable(format!("cannot read the file: {error}")),
            Ok(text) => {
                let etag = file::etag(&text);
                if etag == seen.etag {
                    return Reload::Unchanged;
                }
                seen.etag.clone_from(&etag);
                match parse(&text) {
                    Ok(config) => {
                        self.inner.current.send_replace(Arc::new(config));
                        Reload::Applied { etag }
                    }
                    Err(problems) => Reload::Refused(problems),
                }
            }
        };
        seen.last = Some(outcome.clone());
        outcome
    }

    /// One look: reads the file if its time or length changed, or if it could not be read before.
    pub fn poll(&self) -> Reload {
        let stamp = file::stamp(&self.inner.data_dir);
        {
            let seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let unreadable = matches!(seen.last, Some(Reload::Unreadable(_)));
            if stamp == seen.stamp && !unreadable {
                return Reload::Unchanged;
            }
        }
        self.reload()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) {
        std::fs::write(file::path(dir), text).unwrap();
    }

    #[test]
    fn a_bad_file_keeps_the_last_good_one_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let handle = SiteConfigHandle::open(dir.path()).unwrap();
        let mut changes = handle.subscribe();
        assert_eq!(handle.poll(), Reload::Unchanged);

        write(dir.path(), "{ \"jobs.retentionDays\": 9 }");
        assert!(matches!(handle.poll(), Reload::Applied { .. }));
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow_and_update().jobs_retention_days, 9);

        write(dir.path(), "{ \"jobs.retentionDays\": 99999 }");
        assert!(matches!(handle.poll(), Reload::Refused(_)));
        assert_eq!(handle.current().jobs_retention_days, 9);
        assert!(handle.problem().unwrap().contains("line 1, column 25"));

        std::fs::remove_file(file::path(dir.path())).unwrap();
        assert!(matches!(handle.poll(), Reload::Unreadable(_)));
        write(dir.path(), "{ \"jobs.retentionDays\": 10 }");
        assert!(matches!(handle.poll(), Reload::Applied { .. }));
        assert_eq!(handle.problem(), None);
        assert_eq!(handle.current().jobs_retention_days, 10);
    }

    #[test]
    fn an_instance_does_not_start_with_a_bad_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "{ \"nope\": 1 }");
        let error = SiteConfigHandle::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("site-config.jsonc has mistakes:\nline 1, column 3: nope"),
            "{error}"
        );
    }
}
