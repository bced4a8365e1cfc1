//! From dequeue to the first output of a job's first step, its image cached. The yardstick is the bare VMM
//! booting the same kernel, with the same processor and memory, to an init that prints a line.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::events::Events;
use e2e::executor::Executor;
use e2e::folder::Folder;
use e2e::wait::until;
use e2e::world::{PATIENCE, World};
use serde_json::Value;

use crate::report::{Goal, Report, Row};
use crate::samples::Samples;

mod initramfs;

const RUNS: usize = 7;

/// Adds one row.
pub async fn measure(report: &mut Report) {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;
    let command = vmm_command(&world, &executor).await; // this first job also fills the caches

    // One after the other, so that whatever else the machine does hits both alike.
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(until_first_output(&world).await);
        bare.push(until_init_prints(&command));
    }
    let (ours, bare): (Samples, Samples) = (ours.into_iter().collect(), bare.into_iter().collect());
    report.add(Row {
        what: "cold start: dequeue → first output, p50".to_owned(),
        measured: Some(ours.percentile(50)),
        yardstick: Some(("bare QEMU to init, p50".to_owned(), bare.percentile(50))),
        goal: Goal::RatioAtMost(1.25),
        note: format!("{RUNS} runs in turn; worst {}", ours.percentile(100)),
    });
}

/// The instance notes when a job was dequeued; the reader of the live log sees when its first line is there.
pub async fn until_first_output(world: &World) -> Duration {
    let job = world.submit("echo first output").await;
    let mut events =
        Events::follow(&world.instance.url(), &world.instance.admin_token, job.id).await;
    let seen = loop {
        let event = events.next().await.expect("the job prints before it ends");
        if event.data["text"].as_str().is_some_and(|text| text.contains("first output")) {
            break now();
        }
    };
    let done = job.reaches("completed", PATIENCE).await;
    seen.saturating_sub(dequeued_at(&done))
}

/// Time since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "compared with the instance's clock on the same machine"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

fn dequeued_at(job: &Value) -> Duration {
    let text = job["startedAt"].as_str().expect("it ran");
    let output = Command::new("date").args(["-d", text, "+%s%N"]).output().expect("date runs");
    let digits = String::from_utf8(output.stdout).expect("digits");
    Duration::from_nanos(digits.trim().parse().expect("digits"))
}

/// The command line of the VMM while a job runs.
async fn vmm_command(world: &World, executor: &Executor) -> Vec<String> {
    let job = world.submit("echo started\nsleep 2").await;
    job.prints("started", PATIENCE).await;
    let pid = until("a virtual machine runs", PATIENCE, async || {
        executor.virtual_machines().first().map(|process| process.pid)
    })
    .await;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
    job.reaches("completed", PATIENCE).await;
    let command = String::from_utf8(command).expect("our arguments are UTF-8");
    command.split_terminator('\0').map(str::to_owned).collect()
}

/// Boots the same kernel on the same machine type with nothing but a serial port.
fn until_init_prints(command: &[String]) -> Duration {
    let folder = Folder::new();
    let initrd = folder.path().join("initramfs");
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    std::fs::write(&initrd, initramfs::with_init(&busybox)).expect("the folder is writable");

    let mut bare = Command::new("timeout"); // a guest that hangs must not hang the measurement
    bare.arg("60").arg(&command[0]).args([
        "-nodefaults",
        "-no-user-config",
        "-nographic",
        "-no-reboot",
        "-serial",
        "stdio",
    ]);
    for option in ["-M", "-machine", "-accel", "-cpu", "-m", "-smp", "-kernel", "-append"] {
        if let Some(at) = command.iter().position(|argument| argument == option) {
            bare.args(&command[at..=at + 1]);
        }
    }
    bare.arg("-initrd").arg(&initrd);
    boot(&mut bare, folder.path())
}

fn boot(bare: &mut Command, folder: &Path) -> Duration {
    let started = Instant::now();
    bare.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = bare.spawn().expect("QEMU starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let printed = output.lines().map_while(Result::ok).any(|line| line.contains("init is here"));
    let elapsed = started.elapsed();
    child.wait().expect("it is our child"); // the init powers off
    assert!(printed, "the bare kernel never reached its init: {bare:?}");
    elapsed
}
