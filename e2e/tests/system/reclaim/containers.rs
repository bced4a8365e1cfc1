//! Points of a job whose steps run in containers.

use e2e::gate::Closed;
use e2e::stand_ins::When::{After, Before};

use super::running::with_network;
use super::stage::{Point, Stage};

const ANY: &str = "echo first; sleep 600";

const POINTS: [(&str, Point, &str); 11] = [
    ("the engine waits for an image", Point::Program("sqfs2tar", Before, "*"), ANY),
    ("the engine has most of an image", Point::Program("sqfs2tar", After, "*"), ANY),
    ("the workspace is about to be written", Point::Program("unsquashfs", Before, "*"), ANY),
    ("the workspace is written", Point::Program("unsquashfs", After, "*"), ANY),
    ("the agent runs", Point::Host(|stage| !stage.containers().is_empty()), ANY),
    ("the agent's network has a name", Point::Program("ip", After, "* netns attach *"), ANY),
    ("it has no rules yet", Point::Program("ip", Before, "* netns exec * nft -f *"), ANY),
    ("the first step runs", Point::Line("stdout: first"), ANY),
    ("the second step runs", Point::Line("stdout: second"), "true"),
    (
        "a step has left processes behind",
        Point::Line("stdout: first"),
        "sleep 600 & echo first; wait",
    ),
    (
        "a request of a step waits for the instance",
        Point::Request(Closed::Request("/results HTTP")),
        "wget -q -O - --post-data '{}' http://instance.internal/results",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_runs_in_containers() {
    let Some(mut stage) = Stage::with_containers("reclaim-containers").await else { return };
    for (name, point, script) in &POINTS {
        stage.killed_in_job(name, point, &with_network(script)).await;
    }
    stage.completes(&with_network("echo first")).await;
    stage.ends().await;
}
