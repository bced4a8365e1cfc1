//! The network between executor and instance fails for ten seconds while a job streams its log.

use std::time::Duration;

use e2e::proxy::{Proxy, Weather};
use e2e::wait::while_true;
use e2e::world::{PATIENCE, World};

use crate::instance_killed::{COUNTING, assert_counted};

const CUT: Duration = Duration::from_secs(10);

async fn survives(weather: Weather) {
    let world = World::new().await;
    let proxy = Proxy::start(world.instance.address()).await;
    let executor = world.executor_at(&proxy.url(), "one", &[]);
    let counting = world.submit(COUNTING).await;
    counting.prints("line 50.", PATIENCE).await;

    proxy.set(weather);
    while_true("the job stays with its executor", CUT, async || {
        counting.state().await == "processing"
    })
    .await;
    proxy.set(Weather::Fair);

    let done = counting.reaches("completed", PATIENCE).await;
    assert_eq!(done["attempt"], 1, "{done:#}");
    assert_counted(&counting.log().await);
    executor.leaves_nothing(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_closed_and_refused() {
    survives(Weather::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_swallowed_in_silence() {
    survives(Weather::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_only_delays() {
    let world = World::new().await;
    let proxy = Proxy::start(world.instance.address()).await;
    proxy.set(Weather::Slow(Duration::from_millis(150)));
    let _executor = world.executor_at(&proxy.url(), "one", &[]);
    let counting = world.submit(COUNTING).await;

    let done = counting.reaches("completed", PATIENCE).await;

    assert_eq!(done["attempt"], 1, "{done:#}");
    assert_counted(&counting.log().await);
}
