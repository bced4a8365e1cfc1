//! A test's folder: everything the test makes is in it, and nothing of it outlives the test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::processes;

/// A temporary folder. It is kept, and its path printed, when the test fails.
pub struct Folder {
    folder: Option<TempDir>,
}

impl Folder {
    /// Makes one. The path is short: Unix sockets inside must stay under 108 bytes.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir();
        Self { folder: Some(folder.expect("the temporary folder is writable")) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("it is there until it is dropped").path()
    }

    /// A folder of this name in it.
    pub fn sub(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).expect("the test's folder is writable");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        processes::kill_all_of(self.path());
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept for inspection: {}", folder.keep().display());
        }
    }
}
