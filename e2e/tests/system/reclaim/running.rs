//! Points at which there is a machine, or the beginning of one.

use std::fs;
use std::process::Command;

use e2e::gate::Closed;
use e2e::stand_ins::When::{After, Before};
use e2e::world::{IMAGE, job};
use serde_json::{Value, json};

use super::stage::{Point, Stage, namespaces};

const ANY: &str = "echo first; sleep 600";

const POINTS: [(&str, Point, &str); 14] = [
    ("a disk's template is about to be made", Point::Program("mkfs.ext4", Before, "*"), ANY),
    ("a disk's template is made and not in place", Point::Program("mkfs.ext4", After, "*"), ANY),
    ("the network is a namespace", Point::Program("ip", After, "* netns add *"), ANY),
    ("it has a TAP, and no rules", Point::Program("ip", Before, "* netns exec * nft -f *"), ANY),
    ("its rules stand", Point::Program("ip", After, "* netns exec * nft -f *"), ANY),
    ("the VMM is about to start", Point::Program("qemu-system-x86_64", Before, "*"), ANY),
    ("the guest boots", Point::Host(|stage| !stage.executor.virtual_machines().is_empty()), ANY),
    ("the guest is ready", Point::Phase("running"), ANY),
    ("the first step runs", Point::Line("stdout: first"), ANY),
    ("the second step runs", Point::Line("stdout: second"), "true"),
    ("a step prints without end", Point::Line("stdout: flood"), "yes flood"),
    (
        "lines of a step are on their way",
        Point::Request(Closed::Request("/log/")),
        "while echo line; do sleep 1; done",
    ),
    (
        "a connection over the job's network is open",
        Point::Host(has_connection),
        "sleep 600 | nc 192.0.2.1 53",
    ),
    (
        "a request of a step waits for the instance",
        Point::Request(Closed::Request("/results HTTP")),
        "wget -q -O - --post-data '{}' http://instance.internal/results",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_runs() {
    let Some(mut stage) = Stage::new("reclaim-running", true).await else { return };
    for (name, point, script) in &POINTS {
        // Made for each size once: then for this job.
        let disks = stage.state().join("disks");
        for entry in fs::read_dir(disks).into_iter().flatten().flatten() {
            fs::remove_file(entry.path()).expect("nobody uses it");
        }
        stage.killed_in_job(name, point, &with_network(script)).await;
    }
    stage.completes(&with_network("echo first")).await;
    stage.ends().await;
}

/// A job of this script and a second step, with a network.
pub fn with_network(script: &str) -> Value {
    let mut file = job(script);
    let second = if script == "true" { "echo second; sleep 600" } else { "echo second" };
    let second = json!({ "name": "second", "image": IMAGE, "run": second });
    file["steps"].as_array_mut().expect("a list of steps").push(second);
    file["network"] = json!("egress");
    file
}

/// Somebody in the job's namespace talks to the executor's sockets there.
fn has_connection(stage: &Stage) -> bool {
    namespaces(stage.state()).iter().any(|namespace| {
        let mut ask = Command::new("ip");
        ask.args(["netns", "exec", namespace, "ss", "-Htn", "state", "established"]);
        ask.output().is_ok_and(|output| !output.stdout.is_empty())
    })
}
