//! A user of its own for each VMM: what one breaks out of its guest, it cannot touch another's process.
//!
//! Ids come from a range that no distribution hands out. A locked file stands for each id in use, so that
//! several executors share the range; the kernel frees the lock when an executor dies. Its VMMs may live on
//! until they are reclaimed: an id that a process has is not free either.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::own_files;

/// Above the ranges of systemd (524 288 to 1 879 048 191 has its containers' ids, of which these were never
/// allocated) and within what jailer and kernel take.
const RANGE: Range<u32> = 1_861_000_000..1_861_065_536;
const PARENT: &str = "/run/executors";
const DIR: &str = "/run/executors/users";

/// A user and group id, ours as long as the value lives.
#[derive(Debug)]
pub struct UserId {
    id: u32,
    _lock: File,
}

impl UserId {
    /// Takes the first that is free on this machine. Blocking.
    ///
    /// # Errors
    /// The folder of locks cannot be used, holds what is not ours, or every id is taken.
    pub fn take() -> io::Result<Self> {
        own_files::dir(Path::new(PARENT))?;
        Self::take_from(Path::new(DIR), RANGE)
    }

    pub(super) fn take_from(dir: &Path, range: Range<u32>) -> io::Result<Self> {
        own_files::dir(dir)?;
        let of_processes = users_of_processes()?;
        for id in range {
            if of_processes.contains(&id) {
                continue;
            }
            let lock = own_files::open_or_create(&dir.join(id.to_string()))?;
            if lock.try_lock().is_ok() {
                return Ok(Self { id, _lock: lock });
            }
        }
        Err(io::Error::other("every user id for VMMs is taken"))
    }

    /// The number.
    pub fn get(&self) -> u32 {
        self.id
    }
}

fn users_of_processes() -> io::Result<HashSet<u32>> {
    let processes = fs::read_dir("/proc")?.flatten();
    // Some end while we look.
    Ok(processes.filter_map(|entry| Some(entry.metadata().ok()?.uid())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_files::planting::{ALL, expect_refusals};

    #[test]
    fn an_id_is_one_vm_s_until_it_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let take = || UserId::take_from(dir.path(), 1_861_000_000..1_861_000_002);
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_ne!(first.get(), second.get());
        assert!(take().is_err());
        let id = first.get();
        drop(first);
        // Other tests fork: until they exec, their children hold the lock, too.
        let again = std::iter::repeat_with(take).find_map(Result::ok).unwrap();
        assert_eq!(again.get(), id);
    }

    #[test]
    fn an_id_of_a_running_process_is_not_free() {
        let own = nix::unistd::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        assert!(UserId::take_from(dir.path(), own..own + 1).is_err());
    }

    #[test]
    fn what_is_planted_among_the_locks_is_refused() {
        let take = |dir: &Path| UserId::take_from(&dir.join("users"), RANGE).map(drop);
        expect_refusals(&["users", "users/1861000000"], &ALL, take);
    }
}
