//! Whole jobs in real microVMs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::image::{IMAGE, publish_image};
use crate::world::World;

async fn world(settings: &[(&'static str, &str)]) -> World {
    let fake = Fake::start().await;
    let prepared = fake.clone();
    tokio::task::spawn_blocking(move || publish_image(&prepared)).await.unwrap();
    let mut all = vec![("EXECUTOR_QUEUE_NAME", "jobs")];
    all.extend_from_slice(settings);
    World::with(fake, &all).await
}

fn step(key: &str, commands: &[&str]) -> Value {
    json!({"key": key, "image": IMAGE, "commands": commands, "dir": "", "env": ["OWN=1"]})
}

fn job(id: i64, steps: &[Value]) -> Value {
    json!({"version": 2, "id": id, "token": format!("token-{id}"), "dockerSteps": steps,
        "redactedValues": {"hunter2": "${{ secrets.TOKEN }}"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_a_microvm() {
    let world = world(&[]).await;
    world.fake.lock().files.insert("batch-changes/S/F".into(), b"from the files route".to_vec());
    let mut job = job(
        7,
        &[
            step(
                "first",
                &[
                    "echo $FROM_IMAGE $OWN; uname -s",
                    "false",
                    "cat in/a.txt",
                    "date +%s",
                    "echo hunter2 > out",
                ],
            ),
            step("second", &["cat out fetched; stat -c %Y in/a.txt", "echo done >&2"]),
        ],
    );
    job["files"] = json!({
        "in/a.txt": {"content": BASE64.encode("literal\n"), "modifiedAt": "2023-01-02T03:04:05Z"},
        "fetched": {"bucket": "batch-changes", "key": "S/F", "modifiedAt": "0001-01-01T00:00:00Z"}});
    world.fake.enqueue(job);
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markComplete", "{body}");
    let first = world.fake.entry(7, "step.docker.first");
    assert_eq!(first.exit_code, Some(0));
    let stdout = |out: &str| -> Vec<String> {
        out.lines().filter_map(|line| line.strip_prefix("stdout: ")).map(str::to_owned).collect()
    };
    let lines = stdout(&first.out);
    assert_eq!(lines[..3], ["yes 1", "Linux", "literal"]);
    // Not the time at which the machine was started: booting takes seconds.
    let behind = executor::clock::now().as_second() - lines[3].parse::<i64>().unwrap();
    assert!((0..30).contains(&behind), "the guest's clock is {behind} s behind");
    assert!(first.out.contains("stderr: + false\n"), "{}", first.out);
    let second = world.fake.entry(7, "step.docker.second");
    assert_eq!(stdout(&second.out), ["${{ secrets.TOKEN }}", "from the files route1672628645"]);
    assert!(world.fake.entry(7, "setup.fs.extras").out.contains("Wrote fetched in "));
    assert_eq!(world.fake.entry(7, "teardown.fs").exit_code, Some(0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_ends_the_job_with_its_exit_code() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, &[step("a", &["exit 3"]), step("b", &["echo never"])]));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markErrored");
    let message = "running command \"step.docker.a\": command failed with exit code 3";
    assert_eq!(body["errorMessage"], message);
    let keys: Vec<String> =
        world.fake.lock().entries[&7].iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(keys, ["setup.image.0", "setup.vm.start", "step.docker.a", "teardown.fs"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_step_can_skip_steps() {
    let world = world(&[]).await;
    world.fake.enqueue(job(
        7,
        &[
            step("step.0.pre", &[r#"echo '{"nextStep":"step.1.run"}' > skip.json"#]),
            step("step.0.run", &["echo skipped"]),
            step("step.1.run", &["test ! -e skip.json"]),
        ],
    ));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markComplete", "{body}");
    let entries = world.fake.lock().entries[&7].clone();
    assert!(entries.iter().all(|entry| entry.key != "step.docker.step.0.run"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_step_is_cancelled() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, &[step("a", &["echo started; sleep 1000"])]));
    world
        .fake
        .wait_for("the step's output", |inner| {
            let entries = inner.entries.get(&7)?;
            entries.iter().any(|entry| entry.out.contains("stdout: started")).then_some(())
        })
        .await;
    world.fake.lock().cancel = vec![7];
    let (verb, _) = world.fake.ended(7).await;
    assert_eq!(verb, "markFailed");
    assert_eq!(world.fake.entry(7, "step.docker.a").exit_code, Some(-1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_output_ends_the_job() {
    let world = world(&[("EXECUTOR_JOB_MAX_OUTPUT", "64K")]).await;
    world.fake.enqueue(job(7, &[step("a", &["yes"])]));
    let (verb, body) = world.fake.ended(7).await;
    assert_eq!(verb, "markErrored");
    assert_eq!(body["errorMessage"], "the job printed more than it may");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_reach_the_instance_without_a_credential() {
    let world = world(&[]).await;
    world.fake.lock().files.insert("batch-changes/S/F".into(), b"by the gateway".to_vec());
    let fetch = "wget -q -O - http://instance.internal/.executors";
    let files = format!("{fetch}/files/batch-changes/S/F");
    let refused = format!("{fetch}/queue/jobs/dequeue || echo refused");
    let mut job = job(7, &[step("a", &[&files, "echo", &refused])]);
    job["files"] = json!({"x": {"bucket": "batch-changes", "key": "S/F"}});
    world.fake.enqueue(job);
    let (verb, body) = world.fake.ended(7).await;
    let out = world.fake.entry(7, "step.docker.a").out;
    assert_eq!(verb, "markComplete", "{body} {out}");
    assert!(out.contains("stdout: by the gateway\n"), "{out}");
    assert!(out.contains("stdout: refused\n"), "{out}");
    world.finish().await;
}
