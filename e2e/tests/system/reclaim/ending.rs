//! Points after the last step.

use e2e::gate::Closed;
use e2e::stand_ins::When::{After, Before};
use e2e::world::job;
use serde_json::json;

use super::stage::{Point, Stage};

const POINTS: [(&str, Point); 8] = [
    ("an artifact is on its way", Point::Request(Closed::Request("/artifacts/big"))),
    (
        "an artifact has arrived, and nobody says so",
        Point::Request(Closed::Answer("/artifacts/big", 0)),
    ),
    ("the machine is gone, its network is not", Point::Program("ip", Before, "* netns del *")),
    ("machine and network are gone", Point::Program("ip", After, "* netns del *")),
    ("the end of the log is on its way", Point::Request(Closed::Request("teardown.fs"))),
    ("the end is being reported", Point::Request(Closed::Request("markComplete"))),
    ("the end has arrived, and nobody says so", Point::Request(Closed::Answer("markComplete", 0))),
    ("nothing is done, after a job", Point::Host(|stage| stage.executor.run_dirs().is_empty())),
];

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_ends() {
    let Some(mut stage) = Stage::new("reclaim-ending", true).await else { return };
    let mut file = job("echo first; head -c 2000000 /dev/urandom > big");
    file["artifacts"] = json!(["big"]);
    file["network"] = json!("egress");
    for (name, point) in &POINTS {
        match point {
            Point::Host(_) => {
                stage.completes(&file).await;
                stage.kill_and_look(name, point, None).await;
            }
            _ => {
                let job = stage.killed_in_job(name, point, &file).await;
                let state = job.state().await;
                let arrived = matches!(point, Point::Request(Closed::Answer("markComplete", _)));
                assert_eq!(state == "completed", arrived, "{name}: {state}");
            }
        }
    }
    stage.completes(&file).await;
    stage.ends().await;
}
