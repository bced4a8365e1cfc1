//! The executor is killed with -9 at named points of a job's life. The next one on the same state directory
//! leaves no process, namespace, folder or disk of the dead one behind, wherever that was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::api::Job;
use e2e::executor::Executor;
use e2e::wait::until_true;
use e2e::world::{PATIENCE, World, job};
use serde_json::json;

/// The name is also the prefix of its virtual machines: nobody else's namespaces have it.
const NAME: &str = "reclaim";

/// How it is seen that a job has come to a point.
enum Seen {
    /// On the host.
    Host(fn(&Host<'_>) -> bool),
    /// The instance was told of the phase.
    Phase(&'static str),
    /// A step printed it.
    Line(&'static str),
}

/// In the order of a job's life.
const POINTS: [(&str, Seen); 12] = [
    ("the job has a folder", Seen::Host(|host| !host.folders("jobs").is_empty())),
    ("images and repository are prepared", Seen::Phase("preparing")),
    ("the network has a namespace", Seen::Host(|_| !namespaces().is_empty())),
    ("the machine has a run directory", Seen::Host(|host| !host.executor.run_dirs().is_empty())),
    ("the scratch disk is being made", Seen::Host(|host| host.has("scratch.ext4"))),
    ("the sockets of the VMM are open", Seen::Host(|host| host.has("control.sock"))),
    ("the VMM runs", Seen::Host(|host| !host.executor.virtual_machines().is_empty())),
    ("the guest boots", Seen::Phase("booting")),
    ("the guest is ready", Seen::Phase("running")),
    ("a step runs", Seen::Line("first")),
    ("the second step runs", Seen::Line("second")),
    ("artifacts are collected", Seen::Phase("collecting")),
];

struct Host<'a> {
    state: &'a Path,
    executor: &'a Executor,
}

impl Host<'_> {
    fn folders(&self, name: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state.join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Whether a run directory has this file.
    fn has(&self, name: &str) -> bool {
        self.executor.run_dirs().iter().any(|dir| dir.join(name).exists())
    }
}

fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.contains(&format!("-{NAME}-jobs-"))).collect()
}

async fn comes_to(job: &Job, seen: &Seen, host: &Host<'_>) {
    match seen {
        Seen::Host(look) => {
            until_true("the job comes to the point", PATIENCE, async || look(host)).await;
        }
        Seen::Phase(phase) => job.enters(phase, PATIENCE).await,
        Seen::Line(text) => job.prints(text, PATIENCE).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_killed_executor_stays_wherever_it_was() {
    let world = World::new().await;
    let state = world.path().join(NAME);
    let root = nix::unistd::geteuid().is_root();
    let mut file = job("echo first; sleep 1");
    let second = json!({ "name": "second", "image": e2e::world::IMAGE, "run": "echo second; head -c 8m /dev/urandom > big" });
    file["steps"].as_array_mut().unwrap().push(second);
    file["artifacts"] = json!(["big"]);
    if root {
        file["network"] = json!("egress");
    } else {
        eprintln!("SKIPPED: points of a job's network, which needs root");
    }
    let mut executor = world.executor(NAME, &[]).await;
    for (name, seen) in &POINTS {
        if !root && name.contains("network") {
            continue;
        }
        let job = world.api.submit(&file).await;
        comes_to(&job, seen, &Host { state: &state, executor: &executor }).await;
        executor.program().kill();
        job.cancel().await;
        let old: Vec<PathBuf> = Host { state: &state, executor: &executor }
            .folders("jobs")
            .into_iter()
            .chain(executor.run_dirs())
            .collect();
        executor = world.executor_at(&world.instance.url(), NAME, &[]);
        until_true(
            &format!("nothing is left after: {name}"),
            Duration::from_secs(60),
            async || {
                executor.virtual_machines().is_empty()
                    && executor.run_dirs().is_empty()
                    && namespaces().is_empty()
                    && !old.iter().any(|path| path.exists())
            },
        )
        .await;
    }
    let done = world.submit("true").await;
    done.reaches("completed", PATIENCE).await;
}
