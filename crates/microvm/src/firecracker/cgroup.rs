//! Limits of a VMM on the host, by cgroups of either version. The jailer makes them; we remove them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::spec::VmSpec;

/// The cgroup that holds those of all VMs.
const PARENT: &str = "executors";
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
                "cgroup" if ["memory", "pids", "cpu"].iter().any(|name| has(name)) => {
                    v1.push((PathBuf::from(mount), has("memory"), has("pids")));
                }
                _ => {}
            }
        }
        if let Some(root) = v2 {
            let controllers = controllers_of(&root);
            let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
            if has("memory") && has("pids") && has("cpu") {
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

/// What the jailer is told; nothing where there are no cgroups.
pub fn jailer_arguments(hierarchy: &Hierarchy, spec: &VmSpec) -> Vec<(&'static str, String)> {
    let (version, memory) = match hierarchy {
        Hierarchy::V1 { .. } => ("1", "memory.limit_in_bytes"),
        Hierarchy::V2 { .. } => ("2", "memory.max"),
        Hierarchy::None => return Vec::new(),
    };
    let limits = &spec.host_limits;
    let mut arguments =
        vec![("--cgroup-version", version.to_owned()), ("--parent-cgroup", PARENT.to_owned())];
    if let Some(overhead) = limits.memory_overhead_mib {
        let bytes = (spec.memory_mib + overhead) << 20;
        arguments.push(("--cgroup", format!("{memory}={bytes}")));
    }
    if let Some(tasks) = limits.tasks {
        arguments.push(("--cgroup", format!("pids.max={tasks}")));
    }
    if let Some(percent) = limits.cpu_percent {
        let quota = u64::from(percent) * PERIOD_US / 100;
        arguments.push((
            "--cgroup",
            match hierarchy {
                Hierarchy::V1 { .. } => format!("cpu.cfs_quota_us={quota}"),
                Hierarchy::V2 { .. } | Hierarchy::None => format!("cpu.max={quota} {PERIOD_US}"),
            },
        ));
    }
    arguments
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
