//! The folder of mirrors.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Upload-packs at a time: each can use much memory and a core.
const MAX_UPLOAD_PACKS: usize = 32;

/// All bare mirrors of the data folder, by repository id.
#[derive(Clone, Debug)]
pub struct Mirrors {
    root: PathBuf,
    pub(super) upload_packs: Arc<Semaphore>,
}

impl Mirrors {
    /// Opens (and makes) the folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, upload_packs: Arc::new(Semaphore::new(MAX_UPLOAD_PACKS)) })
    }

    /// Where the mirror of a repository is, or will be.
    pub fn path(&self, repository: i64) -> PathBuf {
        self.root.join(format!("{repository}.git"))
    }

    /// Whether a mirror was fetched at least once.
    pub fn exists(&self, repository: i64) -> bool {
        self.path(repository).join("fetched").exists()
    }

    /// Removes the mirror; one that is not there is no error. Waits for a running sync to end.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub async fn remove(&self, repository: i64) -> io::Result<()> {
        let this = self.clone();
        let removal = move || {
            let lock = this.lock_file(repository)?;
            lock.lock()?;
            match std::fs::remove_dir_all(this.path(repository)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            // The lock file stays: who waits for it must not end up with another file than the next.
            Ok(())
        };
        tokio::task::spawn_blocking(removal).await.map_err(io::Error::other)?
    }

    /// Removes the mirrors of repositories that are not among `ids`: their rows were removed, and then
    /// the process died.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn sweep(&self, ids: &[i64]) -> io::Result<usize> {
        let mut removed = 0;
        let mut entries = tokio::fs::read_dir(&self.root).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let id =
                name.to_str().and_then(|n| n.strip_suffix(".git")).and_then(|n| n.parse().ok());
            if let Some(id) = id.filter(|id| !ids.contains(id)) {
                self.remove(id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Takes the right to write a mirror; `None` when another task or replica has it. The kernel
    /// takes it back when the process dies.
    pub(super) fn try_lock(&self, repository: i64) -> io::Result<Option<File>> {
        let file = self.lock_file(repository)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn lock_file(&self, repository: i64) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.lock_path(repository))
    }

    fn lock_path(&self, repository: i64) -> PathBuf {
        self.root.join(format!("{repository}.lock"))
    }
}

/// Removes what a killed git left: lock files and half packs. Only while the mirror is locked.
pub(super) fn clear_leftovers(mirror: &Path) -> io::Result<()> {
    let mut folders = vec![mirror.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            // Loose objects are many and never locked.
            if kind.is_dir() && name != "objects" {
                folders.push(entry.path());
            } else if kind.is_dir() {
                folders.push(entry.path().join("pack"));
            } else if name.ends_with(".lock") || name.starts_with("tmp_") {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}
