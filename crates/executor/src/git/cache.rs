//! A directory of things that can be made again, with a quota: the least recently used go first,
//! what is in use stays.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

/// Things that are being made; removed at start.
const UNFINISHED: &str = "tmp-";

/// One directory; entries are files or directories in it.
pub(super) struct Cache {
    dir: PathBuf,
    in_use: Mutex<BTreeMap<String, Weak<()>>>,
}

/// While one exists its entry stays. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InUse {
    _token: Arc<()>,
}

impl Cache {
    /// Opens the directory and removes what a dead process left unfinished.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove(&entry.path())?;
            }
        }
        Ok(Self { dir: dir.to_owned(), in_use: Mutex::default() })
    }

    /// Where an entry is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new place to make something in; renamed to an entry when finished.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join(format!("{UNFINISHED}{}", uuid::Uuid::new_v4()))
    }

    /// Marks an entry as used now and keeps it.
    pub(super) fn hold(&self, name: &str) -> InUse {
        let mut in_use = self.in_use.lock().expect("no panic while held");
        in_use.retain(|_, token| token.strong_count() > 0);
        let token = in_use.get(name).and_then(Weak::upgrade).unwrap_or_default();
        in_use.insert(name.to_owned(), Arc::downgrade(&token));
        let path = self.path(name);
        if let Ok(file) = fs::File::open(&path) {
            // Only the order of eviction depends on it.
            let _ = file.set_modified(now());
        }
        InUse { _token: token }
    }

    /// Bytes of all entries.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.entries()?.iter().map(|entry| entry.bytes).sum())
    }

    /// Removes entries that are not in use, the least recently used first, until `bytes` are freed.
    /// Answers how many were.
    pub(super) fn free(&self, bytes: u64) -> io::Result<u64> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut freed = 0;
        for entry in entries {
            if freed >= bytes {
                break;
            }
            let in_use = self.in_use.lock().expect("no panic while held");
            if in_use.get(&entry.name).is_some_and(|token| token.strong_count() > 0) {
                continue;
            }
            // Under the lock: nobody can begin to use what is being removed.
            remove(&self.path(&entry.name))?;
            freed += entry.bytes;
        }
        Ok(freed)
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                continue;
            }
            let metadata = entry.metadata()?;
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry { bytes: bytes_of(&entry.path())?, name, used });
        }
        Ok(entries)
    }
}

struct Entry {
    name: String,
    bytes: u64,
    used: SystemTime,
}

fn now() -> SystemTime {
    let since_1970 = crate::clock::now().as_millisecond();
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(since_1970).unwrap_or(0))
}

/// Bytes on disk below a path; links are not followed.
fn bytes_of(path: &Path) -> io::Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += bytes_of(&entry?.path())?;
    }
    Ok(bytes)
}

/// Removes a file or a directory; absent is fine. Links are not followed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        for (name, age) in [("old", 300), ("older", 400), ("held", 500), ("new", 100)] {
            fs::write(cache.path(name), vec![0; 1000]).unwrap();
            let used = now() - Duration::from_secs(age);
            fs::File::open(cache.path(name)).unwrap().set_modified(used).unwrap();
        }
        let held = cache.hold("held");
        assert_eq!(cache.size().unwrap(), 4000);
        assert_eq!(cache.free(1500).unwrap(), 2000);
        let left = ["old", "older", "held", "new"].map(|name| cache.path(name).exists());
        assert_eq!(left, [false, false, true, true]);
        drop(held);
        assert_eq!(cache.free(u64::MAX).unwrap(), 2000);
    }

    #[test]
    fn unfinished_things_are_removed_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        fs::create_dir_all(cache.unfinished().join("deep")).unwrap();
        fs::write(cache.path("done"), "x").unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(cache.size().unwrap(), 1);
    }
}
