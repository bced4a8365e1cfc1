//! Jobs that take too much.

use std::time::{Duration, Instant};

use e2e::world::{PATIENCE, World, job};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
async fn a_virtual_machine_that_dies_is_told_apart_from_a_failing_script() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;
    let running = world.submit("echo started\nsleep 600").await;
    running.prints("started", PATIENCE).await;

    let died = Instant::now();
    for machine in executor.virtual_machines() {
        kill(Pid::from_raw(machine.pid), Signal::SIGKILL).unwrap();
    }

    let done = running.reaches("failed", PATIENCE).await;
    assert_eq!(done["reason"], "guest_crashed", "{done:#}");
    assert!(died.elapsed() < Duration::from_secs(10), "it took {:?}", died.elapsed());
    executor.leaves_nothing(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_cannot_crash_the_kernel_of_its_guest() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;

    let hostile = world.submit("echo c > /proc/sysrq-trigger\necho still here").await;

    hostile.reaches("completed", PATIENCE).await;
    assert!(hostile.log().await.contains("stdout: still here"));
}
