//! The cache directory: finished images and downloaded blobs by scope and digest, with a hard quota.
//!
//! ```text
//! lock                                   held for as long as the cache is open
//! images/<scope>/<hex>/rootfs.squashfs   with record.json: what it must be
//! blobs/<scope>/<hex>                    layers, configurations, manifests
//! tmp/                                   work in progress; emptied when the cache is opened
//! ```
//!
//! The *scope* is where content came from (registry host and platform). Content is shared only within a
//! scope: otherwise a registry of an attacker could claim to have a digest that only another registry's
//! private image has.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::reference::Digest;
use super::request::ImageConfig;

/// Raised when the conversion changes what it produces; older images are then made anew.
const RECORD_VERSION: u32 = 1;
const ROOTFS: &str = "rootfs.squashfs";
const RECORD: &str = "record.json";

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A download. Evicted first: it only saves another download.
    Blob,
    /// A finished image.
    Image,
}

/// Names an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Where it came from, hashed.
    pub scope: String,
    /// Of the blob or manifest.
    pub digest: Digest,
}

/// What a finished image must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// How to run it.
    pub config: ImageConfig,
    /// Bytes of the squashfs file.
    pub size: u64,
    /// Digest of the squashfs file.
    pub squashfs: String,
}

impl Record {
    /// Of a conversion's result.
    pub fn new(config: ImageConfig, size: u64, squashfs: &Digest) -> Self {
        Self { version: RECORD_VERSION, config, size, squashfs: squashfs.to_string() }
    }
}

#[derive(Debug)]
struct Item {
    bytes: u64,
    /// Higher is later.
    used: u64,
    pins: usize,
}

#[derive(Debug, Default)]
struct State {
    items: HashMap<Key, Item>,
    /// Of all items.
    bytes: u64,
    /// Promised to work in progress.
    reserved: u64,
    uses: u64,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    quota: u64,
    state: Mutex<State>,
    _lock: Flock<File>,
}

/// Keeps an entry from eviction.
#[derive(Debug)]
pub struct Pin {
    cache: Arc<Cache>,
    key: Key,
    /// The blob, or the image's directory.
    path: PathBuf,
}

/// Room promised to work in progress.
#[derive(Debug)]
pub struct Reservation {
    cache: Arc<Cache>,
    bytes: Mutex<u64>,
}

impl Cache {
    /// Opens the directory; removes what a dead process left and what is not whole.
    pub fn open(dir: &Path, quota: u64) -> Result<Arc<Self>, ImageError> {
        for sub in ["", "tmp", "images", "blobs"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(ImageError::io("make", &sub))?;
        }
        let lock_path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(ImageError::io("open", &lock_path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| ImageError::Locked { dir: dir.to_owned() })?;
        let tmp = dir.join("tmp");
        fs::remove_dir_all(&tmp).map_err(ImageError::io("empty", &tmp))?;
        fs::create_dir(&tmp).map_err(ImageError::io("make", &tmp))?;
        let cache =
            Arc::new(Self { dir: dir.to_owned(), quota, state: Mutex::default(), _lock: lock });
        cache.scan()?;
        cache.make_room(&mut cache.state(), 0);
        Ok(cache)
    }

    fn scan(&self) -> Result<(), ImageError> {
        let mut found: Vec<(SystemTime, Key, u64)> = Vec::new();
        for (kind, name) in [(Kind::Blob, "blobs"), (Kind::Image, "images")] {
            for scope in list(&self.dir.join(name))? {
                if !scope.is_dir() {
                    remove(&scope)?;
                    continue;
                }
                for path in list(&scope)? {
                    match self.inspect(kind, &scope, &path) {
                        Some((key, bytes, used)) => found.push((used, key, bytes)),
                        None => {
                            tracing::warn!(path = %path.display(), "removing a damaged entry of the image cache");
                            remove(&path)?;
                        }
                    }
                }
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        let mut state = self.state();
        for (_, key, bytes) in found {
            state.insert(key, bytes, 0);
        }
        Ok(())
    }

    /// What a path of the cache is; `None` when it is not what it should be.
    fn inspect(&self, kind: Kind, scope: &Path, path: &Path) -> Option<(Key, u64, SystemTime)> {
        let digest = Digest::parse(&format!("sha256:{}", path.file_name()?.to_str()?)).ok()?;
        let key = Key { kind, scope: scope.file_name()?.to_str()?.to_owned(), digest };
        let metadata = fs::symlink_metadata(path).ok()?;
        let bytes = match kind {
            Kind::Blob if metadata.is_file() => metadata.len(),
            Kind::Image if metadata.is_dir() => check_image(path)?.size,
            _ => return None,
        };
        Some((key, bytes, metadata.modified().ok()?))
    }

    /// Where work in progress goes; on the same file system as the entries.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Pins an entry if it is there and as long as it should be.
    pub fn pin(self: &Arc<Self>, key: &Key) -> Option<Pin> {
        let mut state = self.state();
        let bytes = state.items.get(key)?.bytes;
        let path = self.path(key);
        let whole = match key.kind {
            Kind::Blob => fs::metadata(&path).is_ok_and(|m| m.len() == bytes),
            Kind::Image => check_image(&path).is_some(),
        };
        if !whole {
            tracing::warn!(path = %path.display(), "removing a damaged entry of the image cache");
            self.forget(&mut state, key);
            return None;
        }
        let now = TimeSpec::UTIME_NOW;
        // Only the order of eviction after a restart depends on it.
        let _ = utimensat(nix::fcntl::AT_FDCWD, &path, &now, &now, UtimensatFlags::FollowSymlink);
        state.touch(key);
        Some(Pin { cache: Arc::clone(self), key: key.clone(), path })
    }

    /// Promises room for `bytes`, evicting what was not used for longest.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, ImageError> {
        let reservation = Reservation { cache: Arc::clone(self), bytes: Mutex::new(0) };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Moves a finished file or directory into place; it must be synced already. Its room comes out of
    /// the reservation.
    pub fn publish(
        self: &Arc<Self>,
        key: &Key,
        from: &Path,
        bytes: u64,
        reservation: Reservation,
    ) -> Result<Pin, ImageError> {
        let path = self.path(key);
        let scope = path.parent().expect("entries lie in a scope").to_owned();
        fs::create_dir_all(&scope).map_err(ImageError::io("make", &scope))?;
        let mut state = self.state();
        state.reserved -= reservation.take();
        let pins = state.items.get(key).map_or(0, |item| item.pins);
        if pins == 0 || key.kind == Kind::Blob {
            self.forget(&mut state, key);
            fs::rename(from, &path).map_err(ImageError::io("rename", from))?;
            sync_dir(&scope)?;
            state.insert(key.clone(), bytes, pins);
        }
        state.touch(key);
        // A result may be larger than was promised for it.
        self.make_room(&mut state, 0);
        Ok(Pin { cache: Arc::clone(self), key: key.clone(), path })
    }

    /// Removes an entry unless somebody uses it.
    pub fn discard(&self, key: &Key) {
        let mut state = self.state();
        if state.items.get(key).is_some_and(|item| item.pins == 0) {
            self.forget(&mut state, key);
        }
    }

    /// All entries.
    pub fn keys(&self) -> Vec<Key> {
        self.state().items.keys().cloned().collect()
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    fn path(&self, key: &Key) -> PathBuf {
        let kind = match key.kind {
            Kind::Blob => "blobs",
            Kind::Image => "images",
        };
        self.dir.join(kind).join(&key.scope).join(key.digest.hex())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts until `more` bytes fit; whether they do.
    fn make_room(&self, state: &mut State, more: u64) -> bool {
        while state.bytes.saturating_add(state.reserved).saturating_add(more) > self.quota {
            let victim = state
                .items
                .iter()
                .filter(|(_, item)| item.pins == 0)
                .min_by_key(|(key, item)| (key.kind, item.used))
                .map(|(key, _)| key.clone());
            let Some(victim) = victim else { return false };
            self.forget(state, &victim);
        }
        true
    }

    fn forget(&self, state: &mut State, key: &Key) {
        if let Some(item) = state.items.remove(key) {
            state.bytes -= item.bytes;
        }
        let path = self.path(key);
        if let Err(error) = remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an entry of the image cache");
        }
    }
}

impl State {
    fn insert(&mut self, key: Key, bytes: u64, pins: usize) {
        self.uses += 1;
        self.bytes += bytes;
        self.items.insert(key, Item { bytes, used: self.uses, pins });
    }

    fn touch(&mut self, key: &Key) {
        self.uses += 1;
        if let Some(item) = self.items.get_mut(key) {
            item.used = self.uses;
            item.pins += 1;
        }
    }
}

impl Pin {
    /// The blob, or the image's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the blob or manifest.
    pub fn digest(&self) -> &Digest {
        &self.key.digest
    }

    /// The squashfs file of an image.
    pub fn rootfs(&self) -> PathBuf {
        self.path.join(ROOTFS)
    }

    /// The record of an image.
    pub fn record(&self) -> Option<Record> {
        check_image(&self.path)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(item) = self.cache.state().items.get_mut(&self.key) {
            item.pins = item.pins.saturating_sub(1);
        }
    }
}

impl Reservation {
    /// Promises room for more.
    pub fn grow(&self, more: u64) -> Result<(), ImageError> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = self.cache.quota;
        if bytes.saturating_add(more) > quota {
            return Err(ImageError::TooLarge {
                what: "bytes of the image cache's quota",
                limit: quota,
            });
        }
        let mut state = self.cache.state();
        if !self.cache.make_room(&mut state, more) {
            return Err(ImageError::CacheFull { quota });
        }
        state.reserved += more;
        *bytes += more;
        Ok(())
    }
}

impl Reservation {
    fn take(&self) -> u64 {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let bytes = self.take();
        self.cache.state().reserved -= bytes;
    }
}

/// Writes an image's directory; the squashfs file is in it already.
pub fn write_record(dir: &Path, record: &Record) -> Result<(), ImageError> {
    let path = dir.join(RECORD);
    let json = serde_json::to_vec_pretty(record).expect("strings and numbers");
    fs::write(&path, json).map_err(ImageError::io("write", &path))?;
    for name in [RECORD, ROOTFS] {
        let path = dir.join(name);
        File::open(&path).and_then(|f| f.sync_all()).map_err(ImageError::io("sync", &path))?;
    }
    sync_dir(dir)
}

/// Where [`write_record`] expects the squashfs file.
pub fn rootfs_in(dir: &Path) -> PathBuf {
    dir.join(ROOTFS)
}

/// The record, if the squashfs file looks as it says: size, and the size in its superblock.
fn check_image(dir: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()?;
    let mut file = File::open(dir.join(ROOTFS)).ok()?;
    let length = file.metadata().ok()?.len();
    let mut superblock = [0; 96];
    file.read_exact(&mut superblock).ok()?;
    let used = u64::from_le_bytes(superblock[40..48].try_into().expect("eight bytes"));
    let whole = superblock.starts_with(b"hsqs") && used <= length && length == record.size;
    (whole && record.version == RECORD_VERSION).then_some(record)
}

fn sync_dir(dir: &Path) -> Result<(), ImageError> {
    File::open(dir).and_then(|f| f.sync_all()).map_err(ImageError::io("sync", dir))
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = fs::read_dir(dir).map_err(ImageError::io("list", dir))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(ImageError::io("list", dir))).collect()
}

fn remove(path: &Path) -> Result<(), ImageError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(ImageError::io("read", path)(e)),
    };
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(ImageError::io("remove", path))
}
