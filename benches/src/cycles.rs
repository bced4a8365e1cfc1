//! Whole job cycles per second through HTTP: enqueue, dequeue, log, complete. The yardsticks are queues that
//! others use, on the same PostgreSQL; they have no HTTP between, and no log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::scripted::ScriptedExecutor;
use tokio::task::JoinSet;

use crate::peers;
use crate::report::{Goal, Quantity, Report, Row};
use crate::system::{System, smallest_job};

const JOBS: usize = 3000;
const WORKERS: usize = 16;
const PEERS: [&str; 2] = ["pg-boss", "graphile-worker"];

/// Adds rows for both databases.
pub async fn measure(report: &mut Report) {
    let system = System::on_postgres().await;
    let postgres = system.postgres.as_ref().expect("it is on PostgreSQL");
    let mut note = String::new();
    let mut best: Option<(String, Quantity)> = None;
    for peer in PEERS {
        match peers::cycles_per_second(peer, postgres, JOBS, WORKERS) {
            Ok(value) => {
                let quantity = Quantity { value, unit: "/s" };
                note.push_str(&format!("{peer} {quantity}; "));
                if best.as_ref().is_none_or(|(_, best)| best.value < value) {
                    best = Some((peer.to_owned(), quantity));
                }
            }
            Err(reason) => note.push_str(&format!("{peer} NOT MEASURED: {reason}; ")),
        }
    }
    add(report, &system, best.clone(), &note).await;
    drop(system);
    add(report, &System::on_sqlite().await, best, "the yardstick is on PostgreSQL; ").await;
}

async fn add(report: &mut Report, system: &System, best: Option<(String, Quantity)>, note: &str) {
    report.add(Row {
        what: format!("job cycles through HTTP, {}", system.database),
        measured: Some(Quantity { value: cycles_per_second(system).await, unit: "/s" }),
        yardstick: best,
        goal: Goal::RatioAtLeast(1.0),
        note: format!("{note}{JOBS} jobs, {WORKERS} at a time"),
    });
}

async fn cycles_per_second(system: &System) -> f64 {
    let started = Instant::now();
    let api = system.instance.api();
    let left = Arc::new(AtomicUsize::new(JOBS));
    let mut senders = JoinSet::new();
    for _ in 0..WORKERS {
        let (api, left) = (api.clone(), Arc::clone(&left));
        senders.spawn(async move {
            while take_one(&left) {
                api.submit(&smallest_job("jobs")).await;
            }
        });
    }
    senders.join_all().await;

    let left = Arc::new(AtomicUsize::new(JOBS));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (url, token) = (system.instance.url(), system.instance.access_token.clone());
        let left = Arc::clone(&left);
        workers.spawn(async move {
            let name = format!("bench-{number}");
            let executor = ScriptedExecutor::connect(&url, &token, "jobs", &name).await;
            while take_one(&left) {
                let job = executor.dequeue(Duration::from_secs(20)).await.expect("a job is left");
                let entry = executor.begin_log(&job, "step.docker.main").await;
                executor.append(&job, entry, 0, "stdout: done\n".to_owned(), true).await;
                executor.complete(&job).await;
            }
        });
    }
    workers.join_all().await;
    JOBS as f64 / started.elapsed().as_secs_f64()
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
