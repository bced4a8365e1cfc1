//! Firecracker in its jail, on a machine with KVM.

use std::time::Duration;

use e2e::api::Job;
use e2e::kvm_box::{Firecracker, HOST, KvmBox, VM_IMAGE};
use e2e::wait::until_true;
use e2e::world::{IMAGE, World, job};
use serde_json::json;

/// Two emulated machines on top of each other take their time.
const PATIENCE: Duration = Duration::from_secs(240);

struct Host<'a> {
    world: &'a World,
    machine: KvmBox,
}

impl Host<'_> {
    /// Starts an executor with two slots; gives its process id.
    async fn executor(&self) -> String {
        let before = self.world.api.executors().await.len();
        let (port, token) =
            (self.world.instance.address().port(), &self.world.instance.access_token);
        let pid = self.machine.run(&format!(
            "EXECUTOR_FRONTEND_URL=http://{HOST}:{port} EXECUTOR_FRONTEND_PASSWORD={token} \
             EXECUTOR_QUEUE_NAME=jobs EXECUTOR_STATE_DIR=/var/lib/executor EXECUTOR_KERNEL_DIR={VM_IMAGE} \
             EXECUTOR_RUNTIME=firecracker EXECUTOR_MAXIMUM_NUM_JOBS=2 EXECUTOR_JOB_NUM_CPUS=1 \
             EXECUTOR_JOB_MEMORY=256M EXECUTOR_FIRECRACKER_DISK_SPACE=256M EXECUTOR_VM_BOOT_TIMEOUT=60s \
             setsid executor run </dev/null >>/executor.log 2>&1 & echo $!"
        ));
        until_true("the executor is seen", PATIENCE, async || {
            let (code, _) = self.machine.try_run(&format!("kill -0 {pid}"));
            assert_eq!(
                code,
                0,
                "it ended at once:\n{}",
                self.machine.run("tail -20 /executor.log")
            );
            self.world.api.executors().await.len() > before
        })
        .await;
        pid
    }

    /// What there is of virtual machines on the host, one line each.
    fn remains(&self) -> String {
        self.machine.run(
            "pgrep -l firecracker; ls /run/netns 2>/dev/null; ls -d /var/lib/executor/vms/*/*/ 2>/dev/null; \
             find /sys/fs/cgroup/executors -mindepth 1 -type d 2>/dev/null; true",
        )
    }

    async fn leaves_nothing(&self) {
        let mut remains = String::new();
        until_true("nothing of a virtual machine is left", PATIENCE, async || {
            remains = self.remains();
            remains.is_empty()
        })
        .await;
    }

    async fn ends(&self, job: &Job, state: &str) -> String {
        let done = job.reaches(state, PATIENCE).await;
        done["reason"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_jailed_firecrackers_and_leave_nothing() {
    let Some(programs) = Firecracker::given() else { return };
    let world = World::new().await;
    world.instance.import_image("base");
    let host = Host { world: &world, machine: KvmBox::boot(world.path(), &programs).await };
    let pid = host.executor().await;

    let two_images = json!({
        "repository": "sample",
        "steps": [
            { "name": "count", "image": IMAGE, "run": "uname -sr\ngrep -cwE 'svm|vmx' /proc/cpuinfo | sed 's/^/virtualization: /'\ncat src/* | wc -l > lines" },
            { "name": "show", "image": "executors.internal/base:1", "run": "echo there are $(cat lines) lines; git log -1 --format=%H" },
        ],
        "artifacts": ["lines"],
    });
    let two_images = world.api.submit(&two_images).await;
    two_images.reaches("completed", PATIENCE).await;
    let log = two_images.log().await;
    assert!(log.contains("firecracker (kvm)"), "{log}");
    assert!(log.contains("stdout: virtualization: 0"), "{log}");
    assert!(log.contains("there are 3 lines") && log.contains(&world.commit), "{log}");
    let artifact = world.api.text(&format!("/jobs/{}/artifacts/lines", two_images.id)).await;
    assert_eq!(artifact, "3\n");

    // Two at once: one that fails, one that runs out of memory.
    let failing = world.submit("exit 7").await;
    let hungry = world.submit("tail /dev/zero").await;
    assert_eq!(host.ends(&failing, "failed").await, "step_failed");
    assert_eq!(host.ends(&hungry, "failed").await, "guest_oom");

    let mut limited = job("sleep 600");
    limited["timeout"] = json!("40s");
    let limited = world.api.submit(&limited).await;
    let canceled = world.submit("echo started; sleep 600").await;
    canceled.prints("started", PATIENCE).await;
    canceled.cancel().await;
    canceled.reaches("canceled", PATIENCE).await;
    assert_eq!(host.ends(&limited, "failed").await, "timeout");
    host.leaves_nothing().await;

    // Two at once with a network: each has a namespace, a user and a jail of its own.
    let script = "ls /sys/class/net; for ip in 192.0.2.1 169.254.169.254 10.0.2.2; do \
                  timeout 5 wget -q -O - http://$ip/ || echo $ip refused; done; echo looked; sleep 600";
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let mut job = job(script);
        job["network"] = json!("egress");
        jobs.push(world.api.submit(&job).await);
    }
    for job in &jobs {
        job.prints("looked", PATIENCE).await;
        let log = job.log().await;
        for expected in ["eth0", "192.0.2.1 refused", "169.254.169.254 refused", "10.0.2.2 refused"]
        {
            assert!(log.contains(expected), "{expected}?\n{log}");
        }
    }
    let users = host.machine.run("ps -o uid= -C firecracker | sort -u | wc -l");
    assert_eq!(users.trim(), "2", "a user for each");
    assert_eq!(host.machine.run("ls /run/netns | wc -l"), "2");
    let links = host.machine.run("for ns in $(ls /run/netns); do ip -n $ns -o link; done");
    assert_eq!(links.lines().count(), 4, "lo and the TAP, nothing else:\n{links}");
    let limits = host.machine.run("cat /sys/fs/cgroup/executors/*/memory.max");
    assert_eq!(limits.lines().collect::<Vec<_>>(), ["536870912"; 2], "256 MiB and as much on top");
    let roots = host.machine.run(
        "for pid in $(pgrep firecracker); do ls /proc/$pid/root/; grep -E '^(Seccomp|NSpid|CapEff)' /proc/$pid/status; done",
    );
    assert_eq!(roots.matches("Seccomp:\t2").count(), 2, "{roots}");
    assert_eq!(roots.matches("CapEff:\t0000000000000000").count(), 2, "{roots}");
    assert!(!roots.contains("etc"), "a jail has no system in it:\n{roots}");

    // kill -9: the next executor removes it all, and the jobs run again.
    host.machine.run(&format!("kill -9 {pid}"));
    let old = host.remains();
    // The guests end by themselves when nobody holds their channel, sooner or later.
    assert!(old.lines().count() >= 6, "the dead cannot tidy up:\n{old}");
    for job in &jobs {
        job.cancel().await;
    }
    host.executor().await;
    host.leaves_nothing().await;
}
