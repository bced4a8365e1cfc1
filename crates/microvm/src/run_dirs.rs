//! Which VM belongs to which executor, and what a dead one left behind.
//!
//! `<state>/vms/<executor>/owner.lock` is locked as long as the executor lives; the kernel frees the lock
//! when it dies, however it dies. `<state>/vms/<executor>/<vm>/` is a VM's run directory, and the VMM's
//! working directory: so its processes are found without any record of their ids, which could be missing
//! (killed before it was written) or stale (the id now another's).

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup;
use crate::firecracker::jail;
use crate::{orphans, own_files};

const VMS: &str = "vms";
const LOCK: &str = "owner.lock";

/// This executor's run directories; holds its lock.
#[derive(Debug)]
pub struct RunDirs {
    dir: PathBuf,
    _lock: File,
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
    /// If the folder cannot be made, or what is there is not ours.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).create(state_dir)?;
        let vms = state_dir.join(VMS);
        own_files::dir(&vms)?;
        // A reclaim that looks before the lock is held takes the folder away; then again.
        loop {
            let dir = vms.join(uuid::Uuid::now_v7().to_string());
            own_files::new_dir(&dir)?;
            let path = dir.join(LOCK);
            let lock = match own_files::new_file(&path, 0o600) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            lock.lock()?;
            if path.exists() {
                let dir = fs::canonicalize(dir)?;
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Names this executor among all that ever used the state directory.
    pub fn owner(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether the executor of that name, see [`Self::owner`], lives.
    pub fn is_alive(state_dir: &Path, owner: &str) -> bool {
        let lock = own_files::open(&state_dir.join(VMS).join(owner).join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The run directory for a VM of that name, not yet made.
    pub fn path(&self, vm: &str) -> PathBuf {
        self.dir.join(vm)
    }

    /// Whether no VM of this executor is left.
    pub fn is_empty(&self) -> bool {
        vms(&self.dir).is_ok_and(|vms| vms.is_empty())
    }

    /// Kills and removes what executors that no longer live left under `state_dir`. Never touches what a
    /// living one owns. Blocking.
    ///
    /// # Errors
    /// If the folder cannot be read or is not ours; single leftovers that resist are logged and tried again
    /// next time.
    pub fn reclaim(state_dir: &Path) -> io::Result<Reclaimed> {
        let found = fs::canonicalize(state_dir).map(|dir| dir.join(VMS));
        let vms = match found.and_then(|vms| own_files::check_dir(&vms).map(|()| vms)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Reclaimed::default());
            }
            vms => vms?,
        };
        let mut reclaimed = Reclaimed::default();
        for entry in fs::read_dir(&vms)? {
            let dir = entry?.path();
            if let Err(error) = reclaim_executor(&dir, &mut reclaimed) {
                tracing::warn!(path = %dir.display(), %error, "not reclaimed; tried again later");
            }
        }
        Ok(reclaimed)
    }
}

impl Drop for RunDirs {
    fn drop(&mut self) {
        // Only if no VM is left in it; otherwise it is reclaimed.
        let only_lock = fs::read_dir(&self.dir).is_ok_and(|entries| entries.count() == 1);
        if only_lock {
            let _: io::Result<()> = fs::remove_dir_all(&self.dir);
        }
    }
}

fn reclaim_executor(dir: &Path, reclaimed: &mut Reclaimed) -> io::Result<()> {
    own_files::check_dir(dir)?;
    // A folder whose lock is not there yet is being made, or being removed; both are another's business.
    let lock = match own_files::open(&dir.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return remove_if_stale(dir),
        lock => lock?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    reclaimed.processes += kill_all_in(dir)?;
    for path in vms(dir)? {
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            cgroup::remove(name)?;
        }
        fs::remove_dir_all(&path)?;
        reclaimed.run_dirs += 1;
    }
    fs::remove_dir_all(dir)
}

/// The run directories in `dir`.
fn vms(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(dir)?.collect();
    // Not what a link leads to.
    let folders = entries?.into_iter().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

/// An executor that died between making its folder and its lock left an empty one.
fn remove_if_stale(dir: &Path) -> io::Result<()> {
    let age = fs::metadata(dir)?.modified()?.elapsed().unwrap_or_default();
    if age > Duration::from_secs(20) { fs::remove_dir(dir) } else { Ok(()) }
}

/// Kills every process of a VM below `dir`, and waits until they are gone.
fn kill_all_in(dir: &Path) -> io::Result<usize> {
    let jails: Vec<_> = vms(dir)?.iter().flat_map(|vm| jail::roots(vm)).collect();
    orphans::kill_all(|pid| lives_in(pid, dir, &jails))
}

/// A VMM works in its run directory; one in a jail has the jail for its root.
fn lives_in(pid: i32, dir: &Path, jails: &[(u64, u64)]) -> bool {
    let works = fs::read_link(format!("/proc/{pid}/cwd"));
    let jailed = || {
        let root = fs::metadata(format!("/proc/{pid}/root"));
        root.is_ok_and(|root| jails.contains(&(root.dev(), root.ino())))
    };
    works.is_ok_and(|cwd| cwd.starts_with(dir) && cwd != dir) || jailed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Child, Command};
    use std::time::Instant;

    use super::*;
    use crate::own_files::planting::{ALL, expect_refusals};

    const PATIENCE: Duration = Duration::from_secs(5);

    fn sleeper(dir: &Path) -> Child {
        Command::new("sleep").arg("600").current_dir(dir).spawn().unwrap()
    }

    #[test]
    fn what_the_dead_left_goes_and_the_living_keep_theirs() {
        let state = tempfile::tempdir().unwrap();
        let living = RunDirs::open(state.path()).unwrap();
        let dead = RunDirs::open(state.path()).unwrap();
        let (theirs, ours) = (dead.path("vm"), living.path("vm"));
        fs::create_dir(&theirs).unwrap();
        fs::create_dir(&ours).unwrap();
        fs::write(theirs.join("disk"), "x").unwrap();
        let (mut orphan, mut child) = (sleeper(&theirs), sleeper(&ours));
        assert!(RunDirs::is_alive(state.path(), dead.owner()));
        let name = dead.owner().to_owned();
        drop(dead);

        // Other tests fork: until they exec, their children hold the lock, too.
        let deadline = Instant::now() + PATIENCE;
        let mut reclaimed = Reclaimed::default();
        while reclaimed == Reclaimed::default() && Instant::now() < deadline {
            reclaimed = RunDirs::reclaim(state.path()).unwrap();
        }

        assert_eq!(reclaimed, Reclaimed { processes: 1, run_dirs: 1 });
        assert!(!RunDirs::is_alive(state.path(), &name));
        assert!(RunDirs::is_alive(state.path(), living.owner()));
        assert!(!orphan.wait().unwrap().success());
        assert!(!theirs.exists() && ours.exists());
        assert!(child.try_wait().unwrap().is_none(), "the living executor's VM runs on");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(RunDirs::reclaim(state.path()).unwrap(), Reclaimed::default());
    }

    #[test]
    fn a_clean_end_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        drop(RunDirs::open(state.path()).unwrap());
        assert_eq!(fs::read_dir(state.path().join(VMS)).unwrap().count(), 0);
        assert_eq!(RunDirs::reclaim(&state.path().join("none")).unwrap(), Reclaimed::default());
    }

    #[test]
    fn what_is_planted_among_run_directories_is_refused() {
        expect_refusals(&[VMS], &ALL, |state| RunDirs::open(state).map(drop));
        expect_refusals(&[VMS], &ALL, |state| RunDirs::reclaim(state).map(drop));
        let single = |state: &Path| {
            let vms = state.join(VMS);
            fs::set_permissions(&vms, fs::Permissions::from_mode(0o700))?;
            let reclaimed = RunDirs::reclaim(state)?;
            assert_eq!(reclaimed, Reclaimed::default());
            assert!(!RunDirs::is_alive(state, "dead"));
            reclaim_executor(&vms.join("dead"), &mut Reclaimed::default())
        };
        expect_refusals(&["vms/dead", "vms/dead/owner.lock"], &ALL, single);
    }

    #[test]
    fn a_dead_executor_s_folder_does_not_lead_to_another_s() {
        let state = tempfile::tempdir().unwrap();
        let living = RunDirs::open(state.path()).unwrap();
        let vm = living.path("vm");
        fs::create_dir_all(vm.join("jail/firecracker/vm/root")).unwrap();
        let dead = state.path().join(VMS).join("dead");
        fs::create_dir_all(dead.join("one/jail")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        symlink(&vm, dead.join("two")).unwrap();
        symlink(vm.join("jail/firecracker"), dead.join("one/jail/firecracker")).unwrap();
        assert_eq!(jail::roots(&vm).len(), 1);
        assert!(jail::roots(&dead.join("one")).is_empty());
        assert_eq!(
            RunDirs::reclaim(state.path()).unwrap(),
            Reclaimed { processes: 0, run_dirs: 1 }
        );
        assert!(!dead.exists() && vm.join("jail/firecracker/vm/root").exists());
    }
}
