//! The file on disk: first creation, reading, and replacing it in one step.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// Name of the file in the data folder.
pub const FILE_NAME: &str = "site-config.jsonc";
/// Held while the file is replaced, so that two writers cannot both see the same former text.
const LOCK_NAME: &str = "site-config.lock";
/// Larger files are refused; a real one has a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// What a new instance starts with.
pub const DEFAULT: &str = include_str!("default.jsonc");

/// The path of the file in a data folder.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Identifies a text: the first 16 bytes of its SHA-256, in hexadecimal.
pub fn etag(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

/// Reads the file; a data folder without one gets the commented default first.
///
/// # Errors
/// Of the file system; [`io::ErrorKind::InvalidData`] for a file that is not UTF-8 or over 1 MiB.
pub fn read_or_create(data_dir: &Path) -> io::Result<String> {
    match read(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let _lock = lock(data_dir)?;
            if !path(data_dir).exists() {
                write(data_dir, DEFAULT)?;
            }
            read(data_dir)
        }
        other => other,
    }
}

/// Reads the file.
///
/// # Errors
/// As [`read_or_create`], and [`io::ErrorKind::NotFound`].
pub fn read(data_dir: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path(data_dir))?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 1 MiB"));
    }
    Ok(text)
}

/// When the file was last changed, and its length; `None` when it cannot be looked at.
pub fn stamp(data_dir: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path(data_dir)).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Somebody else changed it since it was read.
    #[error("the site configuration was changed by someone else meanwhile; reload and try again")]
    Changed,
    /// The file system.
    #[error("cannot write the site configuration: {0}")]
    Io(#[from] io::Error),
}

/// Replaces the file in one step, if it still is the text that `expected` (an [`etag`]) names.
///
/// # Errors
/// See [`ReplaceError`].
pub fn replace(data_dir: &Path, text: &str, expected: &str) -> Result<(), ReplaceError> {
    let _lock = lock(data_dir)?;
    if etag(&read(data_dir)?) != expected {
        return Err(ReplaceError::Changed);
    }
    Ok(write(data_dir, text)?)
}

fn lock(data_dir: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(data_dir.join(LOCK_NAME))?;
    file.lock()?;
    Ok(file)
}

/// Readable by the owner only, since it holds secrets; complete or not there at all.
fn write(data_dir: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path(data_dir)).map_err(|error| error.error)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_created_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_or_create(dir.path()).unwrap(), DEFAULT);
        let mode = fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        replace(dir.path(), "{}", &etag(DEFAULT)).unwrap();
        assert_eq!(read_or_create(dir.path()).unwrap(), "{}");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_change_by_someone_else_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        read_or_create(dir.path()).unwrap();
        let error = replace(dir.path(), "{}", &etag("what I saw")).unwrap_err();
        assert!(matches!(error, ReplaceError::Changed));
        assert_eq!(read(dir.path()).unwrap(), DEFAULT);
    }
}
