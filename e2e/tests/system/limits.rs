//! Jobs that take too much.

use std::time::{Duration, Instant};

use e2e::world::{PATIENCE, World, job};
use serde_json::{Value, json};

fn limited(script: &str, key: &str, limit: Value) -> Value {
    let mut job = job(script);
    job[key] = limit;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_at_its_time_limit() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;

    let slow = limited("trap '' TERM\necho started\nsleep 600", "timeout", json!("20s"));
    let slow = world.api.submit(&slow).await;
    slow.prints("started", PATIENCE).await;
    let started = Instant::now();
    let done = slow.reaches("failed", Duration::from_secs(40)).await;

    assert_eq!(done["reason"], "timeout");
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    executor.leaves_nothing(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_all_memory_is_told_so() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;

    let greedy = world.submit("echo started\ntail /dev/zero\necho survived").await;
    let done = greedy.reaches("failed", PATIENCE).await;

    assert_eq!(done["reason"], "guest_oom", "{done:#}");
    executor.leaves_nothing(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fills_its_disk_is_told_so() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;

    let filling = "echo started\ndd if=/dev/zero of=fill bs=1M";
    let filling = limited(filling, "resources", json!({ "disk": "256M" }));
    let done = world.api.submit(&filling).await.reaches("failed", PATIENCE).await;

    assert_eq!(done["reason"], "disk_full", "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_guest_is_told_apart_from_a_failing_script() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;

    let crashing = world.submit("echo started\necho c > /proc/sysrq-trigger\nsleep 60").await;
    crashing.prints("started", PATIENCE).await;
    let started = Instant::now();
    let done = crashing.reaches("failed", PATIENCE).await;

    let reason = done["reason"].as_str().unwrap();
    if reason == "step_failed" {
        // The sandbox inside the guest does not even let the step write there.
        assert!(crashing.log().await.contains("sysrq-trigger"), "{done:#}");
    } else {
        assert_eq!(reason, "guest_crashed", "{done:#}");
        assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    }
    executor.leaves_nothing(Duration::from_secs(10)).await;
}
