//! The access token that executors present.

use std::process::Command;
use std::time::Duration;

use e2e::executor::Executor;
use e2e::program::run_command;
use e2e::wait::until_true;
use e2e::world::{PATIENCE, World};

const NEW_TOKEN: &str = "a-brand-new-token-of-many-characters";

/// Rewrites the site configuration, as an admin with an editor does.
fn configure(world: &World, text: &str) {
    std::fs::write(world.path().join("instance/site-config.jsonc"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_clearly() {
    let world = World::new().await;
    let mut executor = Executor::start(
        world.path(),
        "stranger",
        &world.instance.url(),
        "this-is-not-the-right-token",
        &[],
    );

    until_true("the executor says what is wrong", Duration::from_secs(30), async || {
        executor.log().contains("executors.accessToken")
    })
    .await;

    assert!(world.api.executors().await.is_empty());
    assert!(!executor.log().contains("this-is-not-the-right-token"), "a secret is in the log");
    let _ = executor.program().is_running(); // whether it gives up or asks again is its own choice
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_needs_no_restart() {
    let world = World::new().await;
    let old = world.executor("old", &[]).await;
    let before = &world.instance.access_token;
    let tomorrow = Command::new("date").args(["-u", "-d", "tomorrow", "+%FT%TZ"]).output().unwrap();
    let tomorrow = String::from_utf8(tomorrow.stdout).unwrap();

    configure(
        &world,
        &format!(
            r#"{{ "executors.accessToken": "{NEW_TOKEN}",
                  "executors.previousAccessToken": {{ "value": "{before}", "validUntil": "{}" }} }}"#,
            tomorrow.trim()
        ),
    );
    let new = Executor::start(world.path(), "new", &world.instance.url(), NEW_TOKEN, &[]);
    until_true("the new token is accepted", PATIENCE, async || {
        world.api.executors().await.len() == 2
    })
    .await;
    let jobs = [world.submit("true").await, world.submit("true").await];
    for job in &jobs {
        job.reaches("completed", PATIENCE).await;
    }

    // The former token's time is over.
    configure(&world, &format!(r#"{{ "executors.accessToken": "{NEW_TOKEN}" }}"#));
    until_true("the old token is refused", PATIENCE, async || {
        old.log().contains("executors.accessToken")
    })
    .await;
    world.submit("true").await.reaches("completed", PATIENCE).await;
    assert!(new.log().contains("job ended"), "the new executor took none of the jobs");
    run_command(world.instance.command("config").arg("validate"));
}
