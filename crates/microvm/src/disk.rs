//! Scratch disks: sparse ext4 images that only a guest ever mounts.

use std::path::{Path, PathBuf};

/// A scratch disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host's file system said no.
    #[error("scratch disk {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// `mkfs.ext4` is missing or failed.
    #[error("mkfs.ext4 for a scratch disk of {size_mib} MiB: {message}")]
    Mkfs {
        /// Size asked for.
        size_mib: u64,
        /// What it said, or how to get it.
        message: String,
    },
}

/// Makes scratch disks from one template per size.
#[derive(Clone, Debug)]
pub struct ScratchDisks {
    templates: PathBuf,
}

impl ScratchDisks {
    /// Templates are kept in `dir`, made if missing with mode 0700.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        Ok(Self { templates: dir.to_owned() })
    }

    /// Writes a fresh disk of `size_mib` to `path` (must not exist), readable by the owner only. Blocking.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn create(&self, path: &Path, size_mib: u64) -> Result<(), DiskError> {
        let _ = (path, size_mib, &self.templates);
        todo!("lands next")
    }
}
