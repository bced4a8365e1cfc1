//! From enqueue to an executor that has the job, with many executors waiting and many rows in the table.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::program::run_command;
use e2e::scripted::ScriptedExecutor;
use tokio::sync::mpsc;

use crate::report::{Goal, Report, Row};
use crate::samples::Samples;
use crate::system::{System, smallest_job};

const EXECUTORS: usize = 100;
const BACKLOG: usize = 100_000;
const JOBS: usize = 500;

/// Adds rows for both databases.
pub async fn measure(report: &mut Report) {
    for system in [System::on_sqlite().await, System::on_postgres().await] {
        fill_backlog(&system).await;
        let round_trips = system.round_trips(1000).await;
        let samples = dispatch(&system).await;
        let what = format!("enqueue → executor has it, {}", system.database);
        for (percent, goal) in [(50, Goal::None), (99, Goal::AtMost(20.0))] {
            report.add(Row {
                what: format!("{what}, p{percent}"),
                measured: Some(samples.percentile(percent)),
                yardstick: Some((
                    format!("loopback round trip, p{percent}"),
                    round_trips.percentile(percent),
                )),
                goal,
                note: format!("{EXECUTORS} waiting, {BACKLOG} rows queued, {} jobs", samples.len()),
            });
        }
    }
}

/// One job after the other; each executor asks again as soon as it has one.
async fn dispatch(system: &System) -> Samples {
    let (received, mut arrivals) = mpsc::unbounded_channel();
    let mut executors = Vec::new();
    for number in 0..EXECUTORS {
        let (url, token) = (system.instance.url(), system.instance.access_token.clone());
        let received = received.clone();
        let name = format!("bench-{number}");
        let executor = Arc::new(ScriptedExecutor::connect(&url, &token, "jobs", &name).await);
        executors.push(tokio::spawn(async move {
            while !received.is_closed() {
                let Some(job) = executor.dequeue(Duration::from_secs(20)).await else { continue };
                if received.send((job.id, Instant::now())).is_err() {
                    return;
                }
                executor.complete(&job).await;
            }
        }));
    }
    let api = system.instance.api();
    let mut durations = Vec::with_capacity(JOBS);
    let mut early: HashMap<i64, Instant> = HashMap::new();
    for number in 0..JOBS + EXECUTORS {
        let started = Instant::now();
        let job = api.submit(&smallest_job("jobs")).await;
        let arrived = loop {
            if let Some(arrived) = early.remove(&job.id) {
                break arrived;
            }
            let (id, at) = arrivals.recv().await.expect("the executors live");
            early.insert(id, at);
        };
        if number >= EXECUTORS {
            durations.push(arrived - started); // the first ones found executors that were still arriving
        }
    }
    for executor in executors {
        executor.abort();
    }
    durations.into_iter().collect()
}

/// Another queue of the same table is full, with the jobs of a hundred users. Multiplies one real job in the
/// database itself: sending so many would take minutes and measure nothing.
async fn fill_backlog(system: &System) {
    let job = system.instance.api().submit(&smallest_job("batches")).await.id;
    match &system.postgres {
        Some(postgres) => {
            let sql = format!(
                "INSERT INTO jobs OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(jobs, \
                 jsonb_build_object('id', id + n, 'creator_id', 1000 + n % 100, 'lane', 1000 + n % 100))).* \
                 FROM jobs, generate_series(1, {BACKLOG}) n WHERE id = {job}; \
                 SELECT setval(pg_get_serial_sequence('jobs', 'id'), (SELECT max(id) FROM jobs)); \
                 ANALYZE jobs"
            );
            let mut psql = Command::new("psql");
            run_command(psql.args([&postgres.url(), "-q", "-v", "ON_ERROR_STOP=1", "-c", &sql]));
        }
        None => {
            let file = system.folder.path().join("instance/instance.db");
            let columns = "SELECT group_concat(name) FROM pragma_table_info('jobs') \
                           WHERE name NOT IN ('id', 'creator_id', 'lane')";
            let columns = run_command(Command::new("sqlite3").arg(&file).arg(columns));
            let columns = columns.trim();
            let sql = format!(
                "PRAGMA busy_timeout = 10000; \
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BACKLOG}) \
                 INSERT INTO jobs (creator_id, lane, {columns}) \
                 SELECT 1000 + i % 100, 1000 + i % 100, {columns} FROM jobs, n WHERE id = {job}; ANALYZE"
            );
            run_command(Command::new("sqlite3").arg(&file).arg(sql));
        }
    }
}
