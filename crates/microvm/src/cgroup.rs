//! Limits of a VMM on the host, by cgroups of either version. For Firecracker its jailer makes them, for QEMU we
//! do; they are removed by us.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::spec::{HostLimits, VmSpec};

/// The cgroup that holds those of all VMs.
const PARENT: &str = "executors";
/// What is limited, by the names of the controllers.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Time slice of a CPU quota, the kernel's default, in microseconds.
const PERIOD_US: u64 = 100_000;
/// A cgroup is busy for a moment after its last process ended.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// How cgroups are mounted on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Controllers apart, each with its mount point; only those that are used.
    V1 {
        /// Their mount points.
        controllers: Vec<PathBuf>,
    },
    /// All in one.
    V2 {
        /// The mount point.
        root: PathBuf,
    },
    /// Neither has the controllers for memory and processes.
    None,
}

impl Hierarchy {
    /// Looks at the mounts of this machine.
    pub fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        Self::from_mounts(&mounts, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn from_mounts(mounts: &str, controllers_of: impl Fn(&Path) -> String) -> Self {
        let mut v1 = Vec::new();
        let mut v2 = None;
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, mount, kind, options, ..] = fields.as_slice() else { continue };
            let has = |name: &str| options.split(',').any(|option| option == name);
            match *kind {
                "cgroup2" => v2 = Some(PathBuf::from(mount)),
                "cgroup" if CONTROLLERS.iter().any(|name| has(name)) => {
                    v1.push((PathBuf::from(mount), has("memory"), has("pids")));
                }
                _ => {}
            }
        }
        if let Some(root) = v2 {
            let controllers = controllers_of(&root);
            let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
            if CONTROLLERS.iter().all(|name| has(name)) {
                return Self::V2 { root };
            }
        }
        if v1.iter().any(|(_, memory, _)| *memory) && v1.iter().any(|(_, _, pids)| *pids) {
            return Self::V1 { controllers: v1.into_iter().map(|(mount, ..)| mount).collect() };
        }
        Self::None
    }

    /// The cgroups of the VM of that name.
    fn folders(&self, vm: &str) -> Vec<PathBuf> {
        let roots = match self {
            Self::V1 { controllers } => controllers.as_slice(),
            Self::V2 { root } => std::slice::from_ref(root),
            Self::None => &[],
        };
        roots.iter().map(|root| root.join(PARENT).join(vm)).collect()
    }
}

/// What is written where: the names of the cgroup's files, and the limits of a VMM whose guest has so much memory.
fn limits(
    hierarchy: &Hierarchy,
    memory_mib: u64,
    wanted: &HostLimits,
) -> Vec<(&'static str, String)> {
    let v1 = matches!(hierarchy, Hierarchy::V1 { .. });
    let mut limits = Vec::new();
    if let Some(overhead) = wanted.memory_overhead_mib {
        let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        limits.push((file, ((memory_mib + overhead) << 20).to_string()));
    }
    if let Some(tasks) = wanted.tasks {
        limits.push(("pids.max", tasks.to_string()));
    }
    if let Some(percent) = wanted.cpu_percent {
        let quota = u64::from(percent) * PERIOD_US / 100;
        limits.push(match v1 {
            true => ("cpu.cfs_quota_us", quota.to_string()),
            false => ("cpu.max", format!("{quota} {PERIOD_US}")),
        });
    }
    limits
}

/// What the jailer is told; nothing where there are no cgroups, or no limits: it would put the VMM right into the
/// parent then, where no process can be beside the cgroups of others.
pub fn jailer_arguments(hierarchy: &Hierarchy, spec: &VmSpec) -> Vec<(&'static str, String)> {
    let limits = limits(hierarchy, spec.memory_mib, &spec.host_limits);
    if limits.is_empty() {
        return Vec::new();
    }
    let version = match hierarchy {
        Hierarchy::V1 { .. } => "1",
        Hierarchy::V2 { .. } => "2",
        Hierarchy::None => return Vec::new(),
    };
    let mut arguments =
        vec![("--cgroup-version", version.to_owned()), ("--parent-cgroup", PARENT.to_owned())];
    arguments
        .extend(limits.into_iter().map(|(file, value)| ("--cgroup", format!("{file}={value}"))));
    arguments
}

/// The cgroups of one VM; removed when dropped, after the VMM.
#[derive(Debug)]
pub struct Cgroups {
    vm: String,
}

impl Cgroups {
    /// Those that a jailer made for the VM of that name.
    pub fn of_jail(vm: &str) -> Self {
        Self { vm: vm.to_owned() }
    }

    /// Makes those of the VM of that name, with the limits in place and nothing in them. `None` without limits,
    /// or where there are no cgroups.
    ///
    /// # Errors
    /// The kernel says no: not root, or the hierarchy is mounted read-only.
    pub fn make(
        hierarchy: &Hierarchy,
        vm: &str,
        memory_mib: u64,
        wanted: &HostLimits,
    ) -> io::Result<Option<Self>> {
        let limits = limits(hierarchy, memory_mib, wanted);
        if *hierarchy == Hierarchy::None || limits.is_empty() {
            return Ok(None);
        }
        if let Hierarchy::V2 { root } = hierarchy {
            let parent = root.join(PARENT);
            fs::create_dir_all(&parent)?;
            // A controller is in a cgroup if the one above hands it down.
            let all = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
            for above in [root, &parent] {
                fs::write(above.join("cgroup.subtree_control"), &all)?;
            }
        }
        let made = Self { vm: vm.to_owned() };
        let folders = hierarchy.folders(vm);
        for folder in &folders {
            fs::create_dir_all(folder)?;
        }
        for (file, value) in limits {
            // Under version 1 in the one whose controller it is.
            let path = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
            let path = path.ok_or_else(|| io::Error::other(format!("no cgroup has {file}")))?;
            fs::write(path, value)?;
        }
        Ok(Some(made))
    }

    /// Puts a process with all its threads in.
    ///
    /// # Errors
    /// The kernel says no. That the process ended already is none.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for folder in Hierarchy::detect().folders(&self.vm) {
            match fs::write(folder.join("cgroup.procs"), pid.to_string()) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
                written => written?,
            }
        }
        Ok(())
    }

    /// Whether the kernel killed something in it because its memory limit was reached.
    pub fn ran_out_of_memory(&self) -> bool {
        Hierarchy::detect().folders(&self.vm).iter().any(|folder| {
            // Version 2, then version 1: lines of a name and a number.
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
                let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
                killed.is_some_and(|count| count != "0")
            })
        })
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.vm) {
            // Reclaimed with its run directory otherwise.
            tracing::warn!(vm = self.vm, %error, "cgroup not removed");
        }
    }
}

/// Whether VMMs can be limited on this machine: makes cgroups as for one, and removes them.
///
/// # Errors
/// Why not, for people.
pub fn check() -> Result<(), String> {
    let name = format!("trial-{}", std::process::id());
    let limits = HostLimits { memory_overhead_mib: Some(0), cpu_percent: None, tasks: Some(1) };
    match Cgroups::make(&Hierarchy::detect(), &name, 128, &limits) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("there are no cgroups with memory, pids and cpu".to_owned()),
        Err(error) => Err(format!("cgroups cannot be made: {error}")),
    }
}

/// Removes the cgroups of the VM of that name, whose processes are dead. Blocking.
///
/// # Errors
/// One of them is still busy, or is not ours to remove.
#[expect(
    clippy::disallowed_methods,
    reason = "off the runtime's threads; version 1 cannot be waited on"
)]
pub fn remove(vm: &str) -> io::Result<()> {
    for folder in Hierarchy::detect().folders(vm) {
        let mut tries = 0;
        loop {
            match fs::remove_dir(&folder) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
        cgroup /sys/fs/cgroup/blkio cgroup rw,blkio 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn limits_stand_before_anything_is_limited() {
        let hierarchy = Hierarchy::detect();
        let vm = format!("test-{}", std::process::id());
        let limits =
            HostLimits { memory_overhead_mib: Some(64), cpu_percent: Some(50), tasks: Some(20) };
        let made = match Cgroups::make(&hierarchy, &vm, 128, &limits) {
            Ok(Some(made)) => made,
            refused => {
                eprintln!("SKIPPED: this machine gives no cgroups: {refused:?}");
                return;
            }
        };
        let folders = hierarchy.folders(&vm);
        let read = |files: [&str; 2]| {
            let paths = folders.iter().flat_map(|folder| files.map(|file| folder.join(file)));
            paths.filter_map(|path| fs::read_to_string(path).ok()).collect::<String>()
        };
        assert_eq!(read(["memory.limit_in_bytes", "memory.max"]).trim(), (192 << 20).to_string());
        assert_eq!(read(["pids.max", ""]).trim(), "20");
        assert!(read(["cpu.cfs_quota_us", "cpu.max"]).starts_with("50000"));
        assert!(!made.ran_out_of_memory());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        made.add(child.id()).unwrap();
        assert!(read(["cgroup.procs", ""]).contains(&child.id().to_string()));
        child.kill().unwrap();
        child.wait().unwrap();
        made.add(child.id()).unwrap();
        drop(made);
        assert!(!folders.iter().any(|folder| folder.exists()));
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn the_version_that_has_the_controllers_is_used() {
        let empty = |_: &Path| String::new();
        let Hierarchy::V1 { controllers } = Hierarchy::from_mounts(V1, empty) else {
            panic!("an empty v2 hierarchy beside v1 is not used");
        };
        assert_eq!(controllers.len(), 3);
        let all = |_: &Path| "cpuset cpu io memory pids\n".to_owned();
        let v2 = Hierarchy::from_mounts("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", all);
        assert_eq!(v2, Hierarchy::V2 { root: "/sys/fs/cgroup".into() });
        assert_eq!(v2.folders("vm-1"), [PathBuf::from("/sys/fs/cgroup/executors/vm-1")]);
        assert_eq!(Hierarchy::from_mounts("", empty), Hierarchy::None);
        let partly = |_: &Path| "cpu io".to_owned();
        let mount = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(Hierarchy::from_mounts(mount, partly), Hierarchy::None);
    }
}
