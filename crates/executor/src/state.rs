//! The state directory: one executor at a time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use microvm::images::{ImageError, ImageStore};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
use crate::git::Repositories;
use crate::job::Tools;
use crate::runtime::{Runtime, RuntimeError};

/// What may outlive an executor that was killed: programs that work on its caches for a while, by the names of
/// their processes (cut after 15 bytes).
const HELPERS: &[&str] = &["git", "git-remote-http", "mksquashfs", "mkfs.ext4", "sqfs2tar"];

/// The executor cannot use its directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another executor has it.
    #[error(
        "another executor uses {}: stop it, or give this one its own EXECUTOR_STATE_DIR", .0.display()
    )]
    Locked(PathBuf),
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The runtime is not ready.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The image cache is not ready.
    #[error(transparent)]
    Images(#[from] ImageError),
}

/// Holds the state directory until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

impl StateLock {
    /// Makes the directory if it is missing, readable by its owner only, and locks it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn take(dir: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let path = dir.join("executor.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(StateError::Locked(dir.to_owned())),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

/// Opens everything that jobs need in `dir` and removes what dead jobs left there. The caller holds
/// the lock.
///
/// # Errors
/// See [`StateError`].
pub async fn open_tools(
    config: Arc<Config>,
    dir: &Path,
    _lock: &StateLock,
) -> Result<Tools, StateError> {
    let jobs_dir = dir.join("jobs");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { path, source }
    };
    if jobs_dir.exists() {
        fs::remove_dir_all(&jobs_dir).map_err(io(&jobs_dir))?;
    }
    fs::create_dir_all(&jobs_dir).map_err(io(&jobs_dir))?;
    for sub in ["repositories", "images", "disks"] {
        let killed = microvm::kill_helpers(&dir.join(sub), HELPERS).map_err(io(&dir.join(sub)))?;
        if killed > 0 {
            tracing::info!(killed, folder = sub, "killed the helpers of a dead executor");
        }
    }
    let repositories = Repositories::open(&dir.join("repositories"), config.repository_cache_bytes)
        .map_err(io(&dir.join("repositories")))?;
    let images = ImageStore::open(&dir.join("images"), config.image_cache_bytes)?;
    let runtime = Runtime::open(&config).await?;
    Ok(Tools { config, runtime, images, repositories, jobs_dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_executor_per_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let lock = StateLock::take(&path).unwrap();
        assert!(matches!(StateLock::take(&path), Err(StateError::Locked(_))));
        drop(lock);
        StateLock::take(&path).unwrap();
    }
}
