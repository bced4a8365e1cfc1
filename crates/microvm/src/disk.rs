//! Scratch disks: sparse ext4 images that only a guest ever mounts.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// What `mkfs.ext4` is told. The disk lives no longer than its VM, so it needs no journal; a new file reads
/// as zeros, so tables need no zeroing.
const FEATURES: [&str; 8] = [
    "-q",
    "-F",
    "-O",
    "^has_journal,^resize_inode,sparse_super2",
    "-E",
    "lazy_itable_init=1,nodiscard,assume_storage_prezeroed=1,root_owner=0:0",
    // One percent that steps cannot take: the guest's own.
    "-m",
    "1",
];
/// Raised when [`FEATURES`] change: templates of an older version are not used.
const VERSION: u32 = 1;
/// Begins the names of templates in the making.
const UNFINISHED: &str = "tmp-";
const COPY: usize = 1 << 20;

/// A scratch disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host's file system said no.
    #[error("scratch disk {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
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
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.and_then(|()| remove_unfinished(dir))
            .map_err(|source| DiskError::Io { path: dir.to_owned(), source })?;
        Ok(Self { templates: dir.to_owned() })
    }

    /// Writes a fresh disk of `size_mib` to `path` (must not exist), readable by the owner only. Blocking.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn create(&self, path: &Path, size_mib: u64) -> Result<(), DiskError> {
        let template = self.template(size_mib)?;
        let copy = || {
            let source = File::open(&template)?;
            let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            copy_sparse(&source, &target)
        };
        copy().map_err(|source| DiskError::Io { path: path.to_owned(), source })
    }

    fn template(&self, size_mib: u64) -> Result<PathBuf, DiskError> {
        let path = self.templates.join(format!("scratch-{VERSION}-{size_mib}.ext4"));
        if path.exists() {
            return Ok(path);
        }
        let io = |source| DiskError::Io { path: path.clone(), source };
        // Appears whole or not at all; two at once make the same.
        let fresh = unfinished_in(&self.templates).map_err(io)?;
        fresh.as_file().set_len(size_mib << 20).map_err(io)?;
        let failed = |message: String| DiskError::Mkfs { size_mib, message };
        let output = Command::new("mkfs.ext4")
            .args(FEATURES)
            .arg(fresh.path())
            // Where it works: so it is found if we die before it (`kill_helpers`).
            .current_dir(&self.templates)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(format!("{error} (package e2fsprogs)")))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        fresh.persist(&path).map_err(|error| io(error.error))?;
        Ok(path)
    }
}

/// A file for a template in the making, locked as long as its maker lives.
fn unfinished_in(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    loop {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
        file.as_file().lock()?;
        // Somebody who looked before it was locked took it away; then again.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes templates in the making whose makers died.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        // Held until it is gone: its maker looks once it has the lock.
        if file.try_lock().is_ok() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies what is not a hole. Shares the blocks where the file system can.
fn copy_sparse(source: &File, target: &File) -> io::Result<()> {
    let size = source.metadata()?.len();
    if reflink(source, target).is_ok() {
        return Ok(());
    }
    target.set_len(size)?;
    let mut buffer = vec![0; COPY];
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at)? {
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(COPY).min(COPY);
            source.read_exact_at(&mut buffer[..want], at)?;
            target.write_all_at(&buffer[..want], at)?;
            at += want as u64;
        }
    }
    Ok(())
}

fn reflink(source: &File, target: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: both descriptors are open over the call, which takes no pointers.
    let result = unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next stretch of data at or after `at`.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let seek =
        |at: u64, whence| lseek(file.as_fd(), at.cast_signed(), whence).map(i64::cast_unsigned);
    match seek(at, Whence::SeekData) {
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(start) => Ok(Some((start, seek(start, Whence::SeekHole)?))),
    }
}

/// Bytes that a file really takes on the host.
///
/// # Errors
/// If the file cannot be looked at.
pub fn allocated(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn copies_are_sparse_private_and_sound() {
        let dir = tempfile::tempdir().unwrap();
        let disks = ScratchDisks::open(&dir.path().join("templates")).unwrap();
        let path = dir.path().join("scratch");
        disks.create(&path, 10 * 1024).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 10 << 30);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(allocated(&path).unwrap() < 16 << 20, "{} bytes", allocated(&path).unwrap());
        let check = Command::new("e2fsck").args(["-f", "-n"]).arg(&path).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        assert!(matches!(disks.create(&path, 10), Err(DiskError::Io { .. })), "never overwrites");
    }

    #[test]
    fn what_a_dead_maker_left_is_removed_and_the_work_of_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let living = unfinished_in(dir.path()).unwrap();
        let dead = dir.path().join("tmp-dead");
        fs::write(&dead, "half").unwrap();
        fs::write(dir.path().join("scratch-1-10.ext4"), "whole").unwrap();
        ScratchDisks::open(dir.path()).unwrap();
        assert!(living.path().exists() && !dead.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_size_that_cannot_be_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disks = ScratchDisks::open(dir.path()).unwrap();
        let error = disks.create(&dir.path().join("scratch"), 0).unwrap_err();
        assert!(matches!(error, DiskError::Mkfs { size_mib: 0, .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
