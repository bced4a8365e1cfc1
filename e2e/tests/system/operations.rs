//! What an operator does to executors.

use std::time::{Duration, Instant};

use e2e::wait::{until_true, while_true};
use e2e::world::{PATIENCE, World};
use nix::sys::signal::Signal;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let running = world.submit("echo started\nsleep 5\necho finished").await;
    let waiting = world.submit("true").await;
    running.prints("started", PATIENCE).await;

    executor.program().signal(Signal::SIGTERM);

    let done = running.reaches("completed", PATIENCE).await;
    assert_eq!(done["attempt"], 1);
    assert!(running.log().await.contains("finished"));
    let status = executor.program().ended(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(waiting.state().await, "queued");
    executor.leaves_nothing(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_stops_at_once() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let running = world.submit("echo started\nsleep 600").await;
    running.prints("started", PATIENCE).await;

    let asked = Instant::now();
    executor.program().signal(Signal::SIGTERM);
    until_true("it says that it drains", PATIENCE, async || executor.log().contains("drain")).await;
    executor.program().signal(Signal::SIGTERM);

    executor.program().ended(Duration::from_secs(20)).await;
    assert!(asked.elapsed() < Duration::from_secs(15), "it took {:?}", asked.elapsed());
    executor.leaves_nothing(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_admin_drains_an_executor_and_lets_it_go_on() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;
    let name = world.api.executors().await[0]["name"].as_str().unwrap().to_owned();

    world.api.post(&format!("/executors/{name}/drain"), &Value::Null).await;
    until_true("it drains", PATIENCE, async || world.api.executors().await[0]["draining"] == true)
        .await;
    let waiting = world.submit("true").await;
    while_true("it takes no job", Duration::from_secs(3), async || {
        waiting.state().await == "queued"
    })
    .await;

    world.api.post(&format!("/executors/{name}/undrain"), &Value::Null).await;
    waiting.reaches("completed", PATIENCE).await;
}
