//! The machine with KVM, and the executors on it.

use std::time::Duration;

use e2e::api::Job;
use e2e::kvm_box::{Firecracker, HOST, KvmBox, VM_IMAGE};
use e2e::wait::until_true;
use e2e::world::World;

/// Two emulated machines on top of each other take their time.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub struct Host {
    pub world: World,
    pub machine: KvmBox,
}

/// What is different about an executor.
#[derive(Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Of the instance, as seen from this machine; 0 = the instance's own.
    pub port: u16,
    /// More variables, separated by spaces.
    pub more: &'a str,
}

impl Host {
    /// `None`, with a word about it, without Firecracker.
    pub async fn boot() -> Option<Self> {
        let programs = Firecracker::given()?;
        let world = World::new().await;
        let machine = KvmBox::boot(world.path(), &programs).await;
        Some(Self { world, machine })
    }

    /// Starts one called `name` with two slots, and waits until the instance sees it; gives its process id.
    pub async fn executor(&self, name: &str, settings: Settings<'_>) -> String {
        let before = self.world.api.executors().await.len();
        let pid = self.start(name, settings);
        until_true("the executor is seen", PATIENCE, async || {
            self.runs(name, &pid);
            self.world.api.executors().await.len() > before
        })
        .await;
        pid
    }

    /// Starts one, and does not wait. Its state directory is `/var/lib/<name>`, its log `/<name>.log`.
    pub fn start(&self, name: &str, settings: Settings<'_>) -> String {
        let own = self.world.instance.address().port();
        let port = if settings.port == 0 { own } else { settings.port };
        let token = &self.world.instance.access_token;
        let more = settings.more;
        self.machine.run(&format!(
            "EXECUTOR_FRONTEND_URL=http://{HOST}:{port} EXECUTOR_FRONTEND_PASSWORD={token} \
             EXECUTOR_QUEUE_NAME=jobs EXECUTOR_STATE_DIR=/var/lib/{name} EXECUTOR_KERNEL_DIR={VM_IMAGE} \
             EXECUTOR_RUNTIME=firecracker EXECUTOR_MAXIMUM_NUM_JOBS=2 EXECUTOR_JOB_NUM_CPUS=1 \
             EXECUTOR_JOB_MEMORY=256M EXECUTOR_FIRECRACKER_DISK_SPACE=256M EXECUTOR_VM_BOOT_TIMEOUT=60s \
             {more} setsid executor run </dev/null >>/{name}.log 2>&1 & echo $!"
        ))
    }

    /// Fails with its last words if it ended.
    pub fn runs(&self, name: &str, pid: &str) {
        let (code, _) = self.machine.try_run(&format!("kill -0 {pid}"));
        let log = || self.machine.run(&format!("tail -20 /{name}.log"));
        assert_eq!(code, 0, "{name} ended at once:\n{}", log());
    }

    /// What there is of virtual machines of the executor of that name, one line each. Processes work in its state
    /// directory, or have a jail in it for their root; namespaces have its hash in their names, cgroups the names of its machines.
    pub fn remains(&self, name: &str) -> String {
        self.machine.run(&format!(
            "state=/var/lib/{name}; \
             hash=$(printf %s $state | sha256sum | cut -c1-8); \
             roots=$(stat -c %d:%i $state/vms/*/*/jail/*/*/root 2>/dev/null); \
             for pid in $(pgrep -x firecracker; pgrep -x jailer); do \
                 root=$(stat -Lc %d:%i /proc/$pid/root) cwd=$(readlink /proc/$pid/cwd); \
                 case $cwd in $state/*) echo process $pid;; \
                     *) echo \"$roots\" | grep -qx $root && echo process $pid;; esac; done; \
             ls /run/netns 2>/dev/null | grep ^executor-$hash-; \
             ls -d $state/vms/*/*/ $state/jobs/*/ 2>/dev/null; \
             for group in /sys/fs/cgroup/executors/*/; do \
                 case $group in */{name}-*) echo $group;; esac; done; \
             grep $state/vms /proc/mounts; true"
        ))
    }

    /// Waits until there is nothing of them.
    pub async fn leaves_nothing(&self, name: &str) {
        let mut remains = String::new();
        until_true(
            &format!("nothing of a virtual machine of {name} is left"),
            PATIENCE,
            async || {
                let now = self.remains(name);
                if now != remains {
                    eprintln!("left of {name}:\n{now}");
                    remains = now;
                }
                remains.is_empty()
            },
        )
        .await;
    }

    /// Waits until it ended, and gives the reason.
    pub async fn ends(&self, job: &Job, state: &str) -> String {
        let done = job.reaches(state, PATIENCE).await;
        done["reason"].as_str().unwrap_or_default().to_owned()
    }
}
