//! How jobs end.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::program::run_command;
use e2e::world::{IMAGE, PATIENCE, World, job};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_a_repository_succeeds() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;

    let submitted = world
        .api
        .submit(&json!({
            "name": "count",
            "repository": "sample",
            "revision": "main",
            "steps": [
                {
                    "name": "count",
                    "image": IMAGE,
                    "run": "uname -sr\ncat * | wc -l > ../lines\necho $GREETING >&2",
                    "dir": "src",
                    "env": { "GREETING": "hello from the environment" },
                },
                { "name": "show", "image": IMAGE, "run": "echo there are $(cat lines) lines; pwd" },
            ],
            "artifacts": ["lines"],
        }))
        .await;
    let done = submitted.reaches("completed", PATIENCE).await;

    assert_eq!(done["commit"], world.commit);
    assert_eq!(done["attempt"], 1);
    let phases: Vec<_> =
        done["phases"].as_array().unwrap().iter().map(|phase| phase["phase"].clone()).collect();
    assert_eq!(phases, ["preparing", "booting", "running", "collecting", "reporting"]);
    let log = submitted.log().await;
    assert!(log.contains("Linux "), "{log}");
    assert!(log.contains("there are 3 lines"), "{log}");
    assert!(log.contains("stdout: /data\n"), "{log}");
    assert!(log.contains("stderr: hello from the environment\n"), "{log}");
    let artifact = world.api.text(&format!("/jobs/{}/artifacts/lines", submitted.id)).await;
    assert_eq!(artifact, "3\n");
    executor.leaves_nothing(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_ends_its_job_with_its_exit_code() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;

    let failing = world
        .api
        .submit(&json!({
            "repository": "sample",
            "steps": [
                { "name": "first", "image": IMAGE, "run": "echo before\nexit 7" },
                { "name": "second", "image": IMAGE, "run": "echo after" },
            ],
        }))
        .await;
    let done = failing.reaches("failed", PATIENCE).await;

    assert_eq!(done["reason"], "step_failed");
    assert_eq!(done["exitCode"], 7);
    let log = failing.log().await;
    assert!(log.contains("before") && !log.contains("after"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_follows_a_job_and_ends_with_its_exit_code() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;
    let file = world.path().join("job.json");
    std::fs::write(&file, job("echo hello from the guest\nexit 3").to_string()).unwrap();

    let mut submit = world.instance.command("job");
    let output = submit.arg("submit").arg(&file).arg("--follow").output().unwrap();

    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello from the guest"), "{output:?}");
    let list = run_command(world.instance.command("job").arg("list"));
    assert!(list.contains("failed"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_fails_the_job_at_once() {
    let world = World::new().await;
    let _executor = world.executor("one", &[]).await;

    let missing = world
        .api
        .submit(&json!({
            "steps": [{ "name": "main", "image": "executors.internal/nothing:1", "run": "true" }],
        }))
        .await;
    let done = missing.reaches("failed", PATIENCE).await;

    assert_eq!(done["reason"], "image_not_found");
    assert_eq!(done["attempt"], 1, "it was tried again: {done:#}");
    let message = done["message"].as_str().unwrap();
    assert!(message.contains("executors.internal/nothing:1"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_can_be_canceled() {
    let world = World::new().await;
    let waiting = world.submit("echo never").await;
    assert_eq!(waiting.state().await, "queued");

    waiting.cancel().await;

    let done = waiting.reaches("canceled", Duration::from_secs(5)).await;
    assert_eq!(done["attempt"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_can_be_canceled() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;
    let running = world.submit("echo started\nsleep 600\necho never").await;
    running.prints("started", PATIENCE).await;

    let asked = Instant::now();
    running.cancel().await;

    let done = running.reaches("canceled", Duration::from_secs(10)).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    assert_eq!(done["reason"], "canceled");
    executor.leaves_nothing(Duration::from_secs(10)).await;
    // The slot is free again.
    world.submit("true").await.reaches("completed", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_is_a_normal_work_tree() {
    let world = World::new().await;
    world.instance.import_image("base");
    let _executor = world.executor("one", &[]).await;

    let status = world
        .api
        .submit(&json!({
            "repository": "sample",
            "steps": [{
                "name": "git",
                "image": "executors.internal/base:1",
                "run": "git status --porcelain\ngit log -1 --format='%H %s'\ngit ls-files | wc -l",
            }],
        }))
        .await;
    status.reaches("completed", PATIENCE).await;

    let log = status.log().await;
    assert!(log.contains(&format!("{} A sample", world.commit)), "{log}");
    assert!(!log.contains("??") && !log.contains(" M "), "the work tree is not clean: {log}");
    // The same as git on the host sees.
    let mut git = Command::new("git");
    let listed = run_command(git.arg("-C").arg(world.path().join("sample")).arg("ls-files"));
    assert!(log.contains(&listed.lines().count().to_string()), "{log}");
}
