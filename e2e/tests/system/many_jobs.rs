//! Two executors share a queue.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::world::World;

const JOBS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_run_fifty_jobs_exactly_once_each() {
    let world = World::new().await;
    let mut jobs = Vec::new();
    for number in 1..=JOBS {
        jobs.push(world.submit(&format!("echo this is job {number}.")).await);
    }
    let one = world.executor("one", &[]).await;
    let two = world.executor("two", &[]).await;

    let mut executors = BTreeSet::new();
    for (index, job) in jobs.iter().enumerate() {
        let done = job.reaches("completed", Duration::from_secs(600)).await;
        assert_eq!(done["attempt"], 1, "{done:#}");
        assert_eq!(done["resets"], 0, "{done:#}");
        let log = job.log().await;
        let said = log.matches(&format!("stdout: this is job {}.", index + 1)).count();
        assert_eq!(said, 1, "job {} ran {said} times:\n{log}", index + 1);
        executors.insert(done["executor"].as_str().unwrap().to_owned());
    }
    assert_eq!(executors.len(), 2, "both took part: {executors:?}");
    one.leaves_nothing(Duration::from_secs(10)).await;
    two.leaves_nothing(Duration::from_secs(10)).await;
}
