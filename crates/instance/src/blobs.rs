//! Files of the data folder that are too large for the database: artifacts, index uploads, image blobs.
//!
//! A blob appears under its key whole or not at all: bytes go to `tmp/`, are hashed on the way, flushed,
//! and renamed. What a killed process leaves in `tmp/` is removed by [`Blobs::sweep_tmp`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Names one blob: two to four path segments of `[A-Za-z0-9._-]`, for example
/// `artifacts/12-1/0190…` or `sha256/3f/3f…`. Cannot leave the blob folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobKey(String);

impl BlobKey {
    /// A key that nothing else has: `<folder>/<owner>/<uuid v7>`. The owner tells which row must name
    /// the blob; if none does, nobody will.
    pub fn unique(folder: &'static str, owner: &str) -> Self {
        debug_assert!(is_segment(owner), "{owner:?} is no segment of a key");
        Self(format!("{folder}/{owner}/{}", uuid::Uuid::now_v7()))
    }

    /// The key of content addressed by its SHA-256, as image blobs are.
    pub fn sha256(digest: &[u8; 32]) -> Self {
        let hex = hex::encode(digest);
        Self(format!("sha256/{}/{hex}", &hex[..2]))
    }

    /// Reads a key as it was stored; `None` when it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let count = text.split('/').count();
        ((2..=4).contains(&count) && text.split('/').all(is_segment)).then(|| Self(text.to_owned()))
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The blob folder.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// Why a blob was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More bytes than allowed.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk.
    #[error("blob: {0}")]
    Io(#[from] io::Error),
}

impl Blobs {
    /// Opens (and makes) the folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(root.join("tmp"))?;
        Ok(Self { root })
    }

    /// Starts a blob of at most `limit` bytes. Dropping the writer discards it.
    ///
    /// # Errors
    /// When the temporary file cannot be made.
    pub async fn create(&self, limit: u64) -> io::Result<BlobWriter> {
        let tmp = self.root.join("tmp").join(uuid::Uuid::now_v7().to_string());
        let file = File::options().write(true).create_new(true).open(&tmp).await?;
        Ok(BlobWriter {
            root: self.root.clone(),
            tmp: Some(tmp),
            file,
            hash: Sha256::new(),
            size: 0,
            limit,
        })
    }

    /// Opens a blob and tells its size; `None` when there is none.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn read(&self, key: &BlobKey) -> io::Result<Option<(File, u64)>> {
        match File::open(self.root.join(key.as_str())).await {
            Ok(file) => {
                let size = file.metadata().await?.len();
                Ok(Some((file, size)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Size of a blob; `None` when there is none.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn size(&self, key: &BlobKey) -> io::Result<Option<u64>> {
        match tokio::fs::metadata(self.root.join(key.as_str())).await {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes a blob; one that is already gone is no error.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn remove(&self, key: &BlobKey) -> io::Result<()> {
        let path = self.root.join(key.as_str());
        match tokio::fs::remove_file(&path).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        if let Some(folder) = path.parent() {
            // Refused while others are in it.
            drop(tokio::fs::remove_dir(folder).await);
        }
        Ok(())
    }

    /// Owners that have blobs in `folder`.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn owners(&self, folder: &str) -> io::Result<Vec<String>> {
        names(&self.root.join(folder)).await
    }

    /// Blobs of an owner that were written before `time`.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn written_before(
        &self,
        folder: &str,
        owner: &str,
        time: SystemTime,
    ) -> io::Result<Vec<BlobKey>> {
        let mut keys = Vec::new();
        for name in names(&self.root.join(folder).join(owner)).await? {
            let Some(key) = BlobKey::parse(&format!("{folder}/{owner}/{name}")) else { continue };
            let meta = tokio::fs::metadata(self.root.join(key.as_str())).await;
            if meta.and_then(|m| m.modified()).is_ok_and(|written| written < time) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Removes unfinished blobs that nobody has written to for `age`: their process is gone.
    ///
    /// # Errors
    /// On a disk error.
    pub async fn sweep_tmp(&self, now: SystemTime, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        let mut entries = tokio::fs::read_dir(self.root.join("tmp")).await?;
        while let Some(entry) = entries.next_entry().await? {
            let Ok(modified) = entry.metadata().await.and_then(|m| m.modified()) else { continue };
            if now.duration_since(modified).is_ok_and(|idle| idle > age)
                && tokio::fs::remove_file(entry.path()).await.is_ok()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A blob on its way to disk.
#[derive(Debug)]
pub struct BlobWriter {
    root: PathBuf,
    tmp: Option<PathBuf>,
    file: File,
    hash: Sha256,
    size: u64,
    limit: u64,
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// Over the limit, or on a disk error; the blob is then lost.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(WriteError::TooLarge { limit: self.limit });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await?;
        Ok(())
    }

    /// What was written so far; lets a caller compare a digest before it publishes.
    pub fn written(&self) -> Written {
        Written { size: self.size, sha256: self.hash.clone().finalize().into() }
    }

    /// Flushes to disk and publishes under `key`, replacing what was there.
    ///
    /// # Errors
    /// On a disk error; nothing is published then.
    pub async fn publish(mut self, key: &BlobKey) -> io::Result<Written> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let target = self.root.join(key.as_str());
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        let tmp = self.tmp.take().expect("a writer is published once");
        let mut renamed = Err(io::ErrorKind::NotFound.into());
        // Twice, because removing the folder's last blob removes the folder.
        for _ in 0..2 {
            tokio::fs::create_dir_all(&folder).await?;
            renamed = tokio::fs::rename(&tmp, &target).await;
            if renamed.is_ok() {
                break;
            }
        }
        if let Err(e) = renamed {
            self.tmp = Some(tmp);
            return Err(e);
        }
        sync_folder(&folder).await?;
        Ok(self.written())
    }
}

/// Names in a folder; none when there is no folder.
async fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(tmp) = self.tmp.take() {
            // A failure leaves the file to `sweep_tmp`.
            drop(std::fs::remove_file(tmp));
        }
    }
}

/// Makes a rename last through a power cut.
async fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).await?.sync_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().to_owned()).unwrap();
        let key = BlobKey::unique("artifacts", "1-1");
        let mut writer = blobs.create(5).await.unwrap();
        writer.write(b"hell").await.unwrap();
        assert!(blobs.read(&key).await.unwrap().is_none());
        writer.write(b"o").await.unwrap();
        let written = writer.publish(&key).await.unwrap();
        assert_eq!(written.size, 5);
        assert_eq!(written.sha256, <[u8; 32]>::from(Sha256::digest(b"hello")));
        assert_eq!(blobs.size(&key).await.unwrap(), Some(5));
        blobs.remove(&key).await.unwrap();
        blobs.remove(&key).await.unwrap();
        assert_eq!(blobs.size(&key).await.unwrap(), None);
    }

    #[tokio::test]
    async fn too_much_is_refused_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().to_owned()).unwrap();
        let mut writer = blobs.create(3).await.unwrap();
        assert!(matches!(writer.write(b"four").await, Err(WriteError::TooLarge { limit: 3 })));
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().to_owned()).unwrap();
        std::fs::write(dir.path().join("tmp/left"), b"x").unwrap();
        let age = Duration::from_secs(3600);
        let now = crate::clock::Clock::system().now_ms().unsigned_abs();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
        assert_eq!(blobs.sweep_tmp(now, age).await.unwrap(), 0);
        assert_eq!(blobs.sweep_tmp(now + 2 * age, age).await.unwrap(), 1);
    }

    #[test]
    fn keys_cannot_leave_the_folder() {
        assert!(BlobKey::parse("artifacts/../../etc").is_none());
        assert!(BlobKey::parse("/etc/passwd").is_none());
        assert!(BlobKey::parse("artifacts").is_none());
        assert!(BlobKey::parse("artifacts/a b").is_none());
        assert!(BlobKey::parse("sha256/ab/abcd").is_some());
    }
}
