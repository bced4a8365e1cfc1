//! Points before there is a machine. At each the caches are cold for its job, and the next job of the same image
//! and repository completes on what the killed executor left in them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::gate::Closed;
use e2e::images;
use e2e::program::run_command;
use e2e::stand_ins::When::{After, Before};
use serde_json::{Value, json};

use super::stage::{Point, Stage};

const POINTS: [(&str, Point); 11] = [
    ("the job's log is begun", Point::Request(Closed::Request("addExecutionLogEntry"))),
    ("the registry is asked what the image is", Point::Request(Closed::Request("/manifests/"))),
    // Manifest and configuration are smaller.
    ("a layer comes", Point::Request(Closed::Answer("/blobs/", 100_000))),
    ("the image is about to be written", Point::Program("mksquashfs", Before, "* -tar *")),
    ("the image is written and not in place", Point::Program("mksquashfs", After, "* -tar *")),
    ("the mirror is about to be made", Point::Program("git", Before, "* init *--bare*")),
    ("git fetches", Point::Request(Closed::Request("/git-upload-pack"))),
    ("what was fetched is not kept yet", Point::Program("git", Before, "* update-ref *refs/kept*")),
    ("the work tree is being written", Point::Program("git", After, "* checkout *")),
    ("the work tree is about to be packed", Point::Program("mksquashfs", Before, "*/root *")),
    ("the work tree is packed and not in place", Point::Program("mksquashfs", After, "*/root *")),
];

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_is_prepared() {
    let Some(mut stage) = Stage::new("reclaim-preparing", false).await else { return };
    for (number, (name, point)) in POINTS.iter().enumerate() {
        let file = job_of_its_own(&stage, number);
        stage.killed_in_job(name, point, &file).await;
        stage.completes(&file).await;
    }
    stage.ends().await;
}

/// A job with an image and a repository that no executor has seen.
fn job_of_its_own(stage: &Stage, number: usize) -> Value {
    let name = format!("only-{number}");
    let tar: PathBuf = stage.world.path().join(format!("{name}.tar"));
    fs::copy(images::tar("busybox"), &tar).expect("the test's folder is writable");
    let marker = stage.world.path().join(&name);
    fs::write(&marker, &name).expect("the test's folder is writable");
    let mut append = Command::new("tar");
    append.arg("-rf").arg(&tar).arg("-C").arg(stage.world.path()).arg(&name);
    run_command(&mut append);
    let mut import = stage.world.instance.command("image");
    run_command(import.arg("import").arg(&tar).arg(format!("{name}:1")));
    stage.world.instance.add_repository(&name, &stage.world.path().join("sample"));
    let script = format!("grep {name} /{name} && cat src/two");
    json!({
        "repository": name,
        "steps": [{ "name": "main", "image": format!("executors.internal/{name}:1"), "run": script }],
    })
}
