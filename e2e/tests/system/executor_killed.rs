//! The executor is killed with -9 in each phase of a job: the job runs again, and nothing of the old
//! virtual machine remains.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::api::Job;
use e2e::executor::Executor;
use e2e::proxy::{Proxy, Weather};
use e2e::wait::until_true;
use e2e::world::{PATIENCE, World, job};
use serde_json::json;

/// After 25 s of silence the instance gives a job to somebody else; then it has to run.
const RESET_AND_RUN: Duration = Duration::from_secs(180);

/// What an executor had on its machine when it died.
struct Remains {
    processes: Vec<i32>,
    folders: Vec<PathBuf>,
}

/// Kills it, and gives what it leaves behind.
fn kill(executor: &mut Executor) -> Remains {
    let processes = executor.virtual_machines().iter().map(|process| process.pid).collect();
    let folders = executor.run_dirs();
    executor.program().kill();
    Remains { processes, folders }
}

/// A new executor takes over the dead one's machine: the job completes in its second attempt.
async fn another_takes_over(world: &World, job: &Job, remains: Remains) {
    let executor = world.executor_at(&world.instance.url(), "one", &[]);
    let gone = |pid: &i32| !Path::new(&format!("/proc/{pid}")).exists();
    until_true("the old virtual machine is gone", Duration::from_secs(60), async || {
        remains.processes.iter().all(gone) && !remains.folders.iter().any(|folder| folder.exists())
    })
    .await;
    let done = job.reaches("completed", RESET_AND_RUN).await;
    assert_eq!(done["attempt"], 2, "{done:#}");
    assert_eq!(done["resets"], 1, "{done:#}");
    executor.leaves_nothing(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_preparing() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let job = world.submit("true").await;
    job.enters("preparing", PATIENCE).await;
    let remains = kill(&mut executor);
    another_takes_over(&world, &job, remains).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_booting() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let job = world.submit("true").await;
    job.enters("booting", PATIENCE).await;
    let remains = kill(&mut executor);
    another_takes_over(&world, &job, remains).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_running() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let job = world.submit("echo started\nsleep 5").await;
    job.prints("started", PATIENCE).await;
    assert_eq!(executor.virtual_machines().len(), 1, "a job runs, so there is a virtual machine");
    let remains = kill(&mut executor);
    another_takes_over(&world, &job, remains).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_collecting() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let mut file = job("dd if=/dev/zero of=large bs=1M count=200"); // seconds to collect
    file["artifacts"] = json!(["large"]);
    let job = world.api.submit(&file).await;
    job.enters("collecting", PATIENCE).await;
    let remains = kill(&mut executor);
    another_takes_over(&world, &job, remains).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_reporting() {
    let world = World::new().await;
    let proxy = Proxy::start(world.instance.address()).await;
    let mut executor = world.executor_at(&proxy.url(), "one", &[]);
    let job = world.submit("echo started\nsleep 5").await;
    job.prints("started", PATIENCE).await;
    // Without a network it cannot report; its virtual machine ends all the same.
    proxy.set(Weather::Closed);
    until_true("the virtual machine ended", PATIENCE, async || {
        executor.virtual_machines().is_empty()
    })
    .await;
    let remains = kill(&mut executor);
    another_takes_over(&world, &job, remains).await;
}
