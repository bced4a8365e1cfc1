//! The services as the packages' guide has an operator set them up: an instance, and two executors beside it.

use e2e::api::Api;
use e2e::http::{client, free_port};
use e2e::images;
use e2e::program::run_command;
use e2e::wait::until_true;
use e2e::world::PATIENCE;
use serde_json::json;

use crate::is_green;
use crate::root::{Booted, Root};

/// All of them.
pub const UNITS: [&str; 3] = ["instance.service", "executor.service", "executor@second.service"];

const INSTANCE: &str = r#"
sed -i "s|^INSTANCE_LISTEN=.*|INSTANCE_LISTEN=127.0.0.1:$1|" /etc/executors/instance.env
systemctl start instance
"#;

/// Prints the access token of the admin.
const SITE: &str = r#"
as_instance() { runuser -u executors-instance -- "$@" --data-dir /var/lib/executors-instance; }
token=$(as_instance instance config generate-token --save)
echo 'correct horse battery' >/var/cache/password
as_instance instance admin create admin --token --password-file /var/cache/password
as_instance instance image import /var/cache/busybox.tar busybox:1 >&2
sed -i "s|^EXECUTOR_FRONTEND_URL=.*|EXECUTOR_FRONTEND_URL=http://127.0.0.1:$1|
    s|^EXECUTOR_FRONTEND_PASSWORD=.*|EXECUTOR_FRONTEND_PASSWORD=$token|
    s|^EXECUTOR_JOB_NUM_CPUS=.*|EXECUTOR_JOB_NUM_CPUS=1|
    s|^EXECUTOR_JOB_MEMORY=.*|EXECUTOR_JOB_MEMORY=512M|
    s|^EXECUTOR_FIRECRACKER_DISK_SPACE=.*|EXECUTOR_FIRECRACKER_DISK_SPACE=256M|" /etc/executors/executor.env
echo EXECUTOR_ACCELERATION=tcg >>/etc/executors/executor.env
echo EXECUTOR_KERNEL_DIR=/var/cache/vm-image >>/etc/executors/executor.env
"#;

const EXECUTORS: &str = r#"
systemctl start executor
sed 's|^EXECUTOR_STATE_DIR=.*|&-second|' /etc/executors/executor.env >/etc/executors/second.env
systemctl enable --quiet --now executor@second
"#;

const VALIDATE: &str = "set -a; . /etc/executors/$1.env; executor validate";

/// Starts all of them; a job with a network runs under the unit, and `validate` is content.
pub async fn start(root: &Root, booted: &Booted) {
    let cache = root.path.join("var/cache");
    std::fs::copy(images::tar("busybox"), cache.join("busybox.tar")).unwrap();
    run_command(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(images::kernel())
            .arg(cache.join("vm-image")),
    );
    let port = free_port().to_string();
    booted.run("sh", &["-euc", INSTANCE, "sh", &port]);
    booted.unit_is("instance.service", "active").await;
    let ready = format!("http://127.0.0.1:{port}/readyz");
    until_true("the instance is ready", PATIENCE, async || {
        client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let admin = booted.run("sh", &["-euc", SITE, "sh", &port]);
    booted.shell(EXECUTORS);

    let api = Api::new(&format!("http://127.0.0.1:{port}"), admin.trim());
    until_true("both executors are seen", PATIENCE, async || api.executors().await.len() == 2)
        .await;
    for settings in ["executor", "second"] {
        is_green(&booted.run("sh", &["-euc", VALIDATE, "sh", settings]));
    }
    // One job for each, with a network: what the units forbid is nothing that jobs need.
    let file = json!({
        "name": "under systemd",
        "network": "egress",
        "steps": [{
            "image": "executors.internal/busybox:1",
            "run": "set -e; ip route | grep ^default; echo hello > /tmp/file; cat /tmp/file",
        }],
    });
    let jobs = [api.submit(&file).await, api.submit(&file).await];
    for job in jobs {
        job.reaches("completed", PATIENCE).await;
    }
    for unit in UNITS {
        booted.unit_is(unit, "active").await;
    }
}

/// The same packages once more: each service is started anew, and both executors come back.
pub async fn outlive_an_upgrade(booted: &Booted, packages: &[&str]) {
    let process = |unit: &&str| booted.property(unit, "MainPID");
    let before: Vec<String> = UNITS.iter().map(process).collect();
    let again = ["install", "-qq", "-y", "--reinstall"];
    booted.run("apt-get", &[&again, packages].concat());
    until_true("every service is another process", PATIENCE, async || {
        let now: Vec<String> = UNITS.iter().map(process).collect();
        now.iter().zip(&before).all(|(now, before)| now != before && now != "0")
    })
    .await;
    for unit in UNITS {
        booted.unit_is(unit, "active").await;
    }
}
