//! Jobs in plain containers, beside what the engine does by itself: a container of the same image with the same
//! limits, and a pull of the same image from the same registry.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::engine::Engine;
use e2e::images;
use e2e::registry::Registry;
use e2e::world::{PATIENCE, World};
use serde_json::json;

use crate::cold_start::until_first_output;
use crate::report::{Goal, Quantity, Report, Row};
use crate::samples::Samples;

const RUNS: usize = 7;
/// How the executor's images are called in the engine.
const IMAGES: &str = "executors.invalid/image";

/// Adds two rows, or none without root.
pub async fn measure(report: &mut Report) {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let registry = Registry::start(world.path()).await;
    let image = registry.push(&engine, &images::tar("base"), "base:1");
    let auth = registry.auth_config();
    let settings = [("EXECUTOR_DOCKER_AUTH_CONFIG", auth.as_str())];
    let _executor = world.executor_on(Some(&engine), "one", &settings).await;
    until_first_output(&world).await; // fills the caches
    let loaded = engine.run(&["images", "--format", "{{.Repository}}:{{.Tag}}", IMAGES]);

    let (mut ours, mut engines) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(until_first_output(&world).await);
        engines.push(until_container_prints(&engine, loaded.trim()));
    }
    let (ours, engines): (Samples, Samples) =
        (ours.into_iter().collect(), engines.into_iter().collect());
    report.add(Row {
        what: "container: dequeue → first output, p50".to_owned(),
        measured: Some(ours.percentile(50)),
        yardstick: Some(("docker run of the same image, p50".to_owned(), engines.percentile(50))),
        goal: Goal::RatioAtMost(1.3),
        note: format!("{RUNS} runs in turn; worst {}", ours.percentile(100)),
    });
    first_use(report, &world, &engine, &image).await;
}

/// Once each: what is there already would not count.
async fn first_use(report: &mut Report, world: &World, engine: &Engine, image: &str) {
    let started = Instant::now();
    engine.run(&["pull", "--quiet", image]);
    let pull = started.elapsed();
    let file = json!({ "steps": [{ "name": "main", "image": image, "run": "true" }] });
    let job = world.api.submit(&file).await;
    let done = job.reaches("completed", PATIENCE).await;
    let entries = done["entries"].as_array().expect("a list of entries");
    let fetched = entries.iter().find(|entry| entry["key"] == "setup.image.0");
    let fetched = fetched.and_then(|entry| entry["durationMs"].as_u64()).expect("it was fetched");
    report.add(Row {
        what: "first use of an image from a local registry".to_owned(),
        measured: Some(Quantity::milliseconds(Duration::from_millis(fetched))),
        yardstick: Some(("docker pull of it".to_owned(), Quantity::milliseconds(pull))),
        goal: Goal::RatioAtMost(1.0),
        note: "a read-only disk for all machines; for a container the engine takes it over at its start".to_owned(),
    });
}

fn until_container_prints(engine: &Engine, image: &str) -> Duration {
    let started = Instant::now();
    let mut docker = engine.command();
    docker.args(["run", "--rm", "--network", "none", "--cpus", "1", "--memory", "384m"]);
    docker.args([image, "/bin/sh", "-c", "echo first output"]);
    let mut child = docker.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut line).expect("it prints");
    let took = started.elapsed();
    assert_eq!(line, "first output\n");
    child.wait().expect("it ends");
    took
}
