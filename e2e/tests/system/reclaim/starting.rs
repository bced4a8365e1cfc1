//! Points of an executor's start, most of them while it clears up after the one before.

use e2e::stand_ins::When::{After, Before};
use e2e::world::job;
use serde_json::json;

use super::stage::{Point, Stage};

const POINTS: [(&str, Point); 3] = [
    ("it tries whether it can make networks", Point::Program("ip", After, "* netns add *")),
    (
        "it is about to remove a dead one's network",
        Point::Program("ip", Before, "* netns del *-jobs-*"),
    ),
    ("it has removed a dead one's network", Point::Program("ip", After, "* netns del *-jobs-*")),
];

#[tokio::test(flavor = "multi_thread")]
async fn while_it_starts() {
    let Some(mut stage) = Stage::new("reclaim-starting", true).await else { return };
    let mut file = job("echo first; sleep 600");
    file["network"] = json!("egress");
    for (name, point) in &POINTS {
        let job = stage.world.api.submit(&file).await;
        job.prints("stdout: first", e2e::world::PATIENCE).await;
        stage.killed_at_start(name, point).await;
        job.cancel().await;
    }
    file["steps"][0]["run"] = json!("echo first");
    stage.completes(&file).await;
    stage.ends().await;
}
