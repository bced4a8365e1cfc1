//! Jobs end as they should, one in a jail of its own each.

use e2e::world::{IMAGE, job};
use serde_json::json;

use super::host::{Host, PATIENCE, Settings};

const NAME: &str = "executor";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_jailed_firecrackers_and_leave_nothing() {
    let Some(host) = Host::boot().await else { return };
    host.world.instance.import_image("base");
    let pid = host.executor(NAME, Settings::default()).await;

    runs_with_two_images(&host).await;
    fail_for_their_own_reasons(&host).await;
    host.leaves_nothing(NAME).await;
    let jobs = [start_with_network(&host).await, start_with_network(&host).await];
    for job in &jobs {
        job.prints("looked", PATIENCE).await;
        let log = job.log().await;
        for expected in ["eth0", "192.0.2.1 refused", "169.254.169.254 refused", "10.0.2.2 refused"]
        {
            assert!(log.contains(expected), "{expected}?\n{log}");
        }
    }
    each_has_a_jail(&host);

    // kill -9: the next executor removes it all, and knows without a trial that guests run here.
    host.machine.run(&format!("kill -9 {pid}"));
    let old = host.remains(NAME);
    // The guests end by themselves when nobody holds their channel, sooner or later.
    assert!(old.lines().count() >= 6, "the dead cannot tidy up:\n{old}");
    for job in &jobs {
        job.cancel().await;
    }
    let memory = || {
        host.machine
            .run("cd /var/lib/executor; cat firecracker.json; stat -c ' %i %y' firecracker.json")
    };
    let remembered = memory();
    assert!(remembered.contains("a trial guest ran under KVM"), "{remembered}");
    host.executor(NAME, Settings::default()).await;
    host.leaves_nothing(NAME).await;
    assert_eq!(memory(), remembered, "there was another trial");
}

async fn runs_with_two_images(host: &Host) {
    let world = &host.world;
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
}

/// Two at a time.
async fn fail_for_their_own_reasons(host: &Host) {
    let world = &host.world;
    let failing = world.submit("exit 7").await;
    let hungry = world.submit("tail /dev/zero").await;
    assert_eq!(host.ends(&failing, "failed").await, "step_failed");
    assert_eq!(host.ends(&hungry, "failed").await, "guest_oom");

    let filling = world.submit("dd if=/dev/zero of=fill bs=1M").await;
    let mut limited = job("sleep 600");
    limited["timeout"] = json!("40s");
    let limited = world.api.submit(&limited).await;
    assert_eq!(host.ends(&filling, "failed").await, "disk_full");
    let canceled = world.submit("echo started; sleep 600").await;
    canceled.prints("started", PATIENCE).await;
    canceled.cancel().await;
    canceled.reaches("canceled", PATIENCE).await;
    assert_eq!(host.ends(&limited, "failed").await, "timeout");
}

async fn start_with_network(host: &Host) -> e2e::api::Job {
    let script = "ls /sys/class/net; for ip in 192.0.2.1 169.254.169.254 10.0.2.2; do \
                  timeout 5 wget -q -O - http://$ip/ || echo $ip refused; done; echo looked; sleep 600";
    let mut job = job(script);
    job["network"] = json!("egress");
    host.world.api.submit(&job).await
}

/// Each has a namespace, a user, limits and a jail of its own.
fn each_has_a_jail(host: &Host) {
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
}
