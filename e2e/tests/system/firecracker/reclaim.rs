//! The executor is killed with -9 at named points, where they differ from those under QEMU, beside another one
//! whose job goes on. See `reclaim` beside this folder.

use e2e::gate::{Closed, Gate};
use e2e::wait::until_true;
use e2e::world::job;
use serde_json::json;

use super::host::{Host, PATIENCE, Settings};

const NAME: &str = "killed";
const NEIGHBOUR: &str = "neighbour";

enum Point {
    /// The jailer is about to start.
    Jailer,
    /// A program of that name runs for this executor.
    Runs,
    /// A step printed it.
    Line(&'static str),
    /// A request to the instance is under way.
    Request(&'static str),
}

const POINTS: [(&str, Point); 6] = [
    ("the jail is built", Point::Jailer),
    ("the guest boots in its jail", Point::Runs),
    ("a step runs", Point::Line("stdout: first")),
    ("a request of a step waits for the instance", Point::Request("/results HTTP")),
    ("an artifact is on its way", Point::Request("/artifacts/big")),
    ("the end is being reported", Point::Request("markComplete")),
];

/// In place of the jailer: waits as long as a file is there.
const JAILER: &str = "#!/bin/sh
if [ \"$1\" = --id ] && [ -e /hold ]; then
    : > /waiting
    while [ -e /hold ]; do sleep 0.1; done
fi
exec /usr/local/bin/jailer \"$@\"
";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_killed_executor_stays_and_the_other_one_works_on() {
    let Some(host) = Host::boot().await else { return };
    host.machine.run(&format!(
        "mkdir /held; printf '%s' '{}' > /held/jailer; chmod 755 /held/jailer",
        JAILER.replace('\'', "'\\''")
    ));
    let target = host.world.instance.address();
    let (gate, neighbours) = (Gate::start(target).await, Gate::start(target).await);
    neighbours.close(Closed::Request("/results HTTP"));
    let one = "EXECUTOR_VM_PREFIX=neighbour EXECUTOR_MAXIMUM_NUM_JOBS=1";
    host.executor(NEIGHBOUR, Settings { port: neighbours.port(), more: one }).await;
    let working = submit(
        &host,
        "wget -q -O /dev/null --post-data '{}' http://instance.internal/results; echo on",
    )
    .await;
    until_true("the neighbour's job waits", PATIENCE, async || neighbours.is_holding()).await;
    let has = host.remains(NEIGHBOUR);
    assert_eq!(has.lines().count(), 5, "process, namespace, run directory, job, cgroup:\n{has}");

    let more =
        "EXECUTOR_VM_PREFIX=killed EXECUTOR_JAILER_BINARY=/held/jailer EXECUTOR_MAXIMUM_NUM_JOBS=1";
    let settings = Settings { port: gate.port(), more };
    // First while it finds out whether guests run here.
    let mut pid = host.start(NAME, settings);
    until_true("a trial guest boots", PATIENCE, async || {
        host.runs(NAME, &pid);
        host.remains(NAME).contains("process")
    })
    .await;
    host.machine.run(&format!("kill -9 {pid}"));
    pid = host.executor(NAME, settings).await;
    host.leaves_nothing(NAME).await;

    for (name, point) in &POINTS {
        match point {
            Point::Jailer => drop(host.machine.run("rm -f /waiting; : > /hold")),
            Point::Request(text) => gate.close(Closed::Request(text)),
            Point::Runs | Point::Line(_) => {}
        }
        let job = submit(&host, script(point)).await;
        let what = format!("it comes to: {name}");
        match point {
            Point::Line(text) => job.prints(text, PATIENCE).await,
            Point::Request(_) => {
                until_true(&what, PATIENCE, async || gate.is_holding()).await;
            }
            Point::Jailer => {
                let waits = async || host.machine.try_run("test -e /waiting").0 == 0;
                until_true(&what, PATIENCE, waits).await;
            }
            Point::Runs => {
                let runs = async || host.remains(NAME).contains("process");
                until_true(&what, PATIENCE, runs).await;
            }
        }
        host.machine.run(&format!("kill -9 {pid}"));
        job.cancel().await;
        gate.open();
        pid = host.executor(NAME, settings).await;
        host.leaves_nothing(NAME).await;
        host.machine.run("rm -f /hold");
        assert_eq!(host.remains(NEIGHBOUR), has, "after: {name}");
    }
    submit(&host, "echo first; echo > big").await.reaches("completed", PATIENCE).await;
    host.leaves_nothing(NAME).await;
    neighbours.open();
    let done = working.reaches("completed", PATIENCE).await;
    assert_eq!(done["attempt"], 1, "{done:#}");
    host.leaves_nothing(NEIGHBOUR).await;
}

fn script(point: &Point) -> &'static str {
    match point {
        Point::Request("/results HTTP") => {
            "wget -q -O /dev/null --post-data '{}' http://instance.internal/results"
        }
        Point::Request(_) => "head -c 1000000 /dev/urandom > big",
        _ => "echo first; sleep 600",
    }
}

async fn submit(host: &Host, script: &str) -> e2e::api::Job {
    let mut file = job(script);
    file["network"] = json!("egress");
    file["artifacts"] = json!(["big"]);
    host.world.api.submit(&file).await
}
