//! Resident memory of the two programs.

use std::time::Duration;

use e2e::wait::until_true;
use e2e::world::{PATIENCE, World};

use crate::report::{Goal, Quantity, Report, Row};

const VIRTUAL_MACHINES: usize = 4;

/// Adds the three rows.
pub async fn measure(report: &mut Report) {
    let mut world = World::new().await;
    let slots = VIRTUAL_MACHINES.to_string();
    let settings = [("EXECUTOR_MAXIMUM_NUM_JOBS", slots.as_str()), ("EXECUTOR_JOB_MEMORY", "256M")];
    let mut executor = world.executor("one", &settings).await;
    // One job first: what is loaded once must not count as a machine's share.
    world.submit("true").await.reaches("completed", PATIENCE).await;

    let executor_pid = executor.program().pid();
    let idle = settled(executor_pid).await;
    row(report, "idle instance", settled(world.instance.program().pid()).await, 40.0, "");
    row(report, "idle executor", idle, 25.0, "");

    let mut jobs = Vec::new();
    for _ in 0..VIRTUAL_MACHINES {
        jobs.push(world.submit("echo started\nsleep 300").await);
    }
    for job in &jobs {
        job.prints("started", PATIENCE).await;
    }
    let share = (settled(executor_pid).await - idle).max(0.0) / VIRTUAL_MACHINES as f64;
    row(report, "executor, per running VM", share, 8.0, "its own process, without the VM's");
    for job in &jobs {
        job.cancel().await;
        job.reaches("canceled", PATIENCE).await;
    }
}

fn row(report: &mut Report, what: &str, mebibytes: f64, goal: f64, note: &str) {
    report.add(Row {
        what: format!("memory: {what}"),
        measured: Some(Quantity { value: mebibytes, unit: "MiB" }),
        yardstick: None,
        goal: Goal::AtMost(goal),
        note: note.to_owned(),
    });
}

/// The resident memory of a process, in MiB, once it no longer changes.
async fn settled(pid: u32) -> f64 {
    let mut last = resident(pid);
    let mut steady = 0;
    until_true("memory no longer changes", Duration::from_secs(60), async || {
        let now = resident(pid);
        steady = if (now - last).abs() < 0.1 { steady + 1 } else { 0 };
        last = now;
        steady >= 20 // a second
    })
    .await;
    last
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes / 1024.0
}
