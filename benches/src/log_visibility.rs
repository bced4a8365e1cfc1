//! From a line that an executor sends to a reader of the live log who sees it, with many jobs streaming.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::events::Events;
use e2e::scripted::ScriptedExecutor;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::report::{Goal, Quantity, Report, Row};
use crate::samples::Samples;
use crate::system::{PATIENCE, System, smallest_job};

const JOBS: usize = 50;
const LINES: usize = 200;
/// Each job writes ten lines a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Adds rows for both databases.
pub async fn measure(report: &mut Report) {
    for system in [System::on_sqlite().await, System::on_postgres().await] {
        let round_trips = system.round_trips(1000).await;
        let (samples, lost) = stream(&system).await;
        report.add(Row {
            what: format!("log line → reader, {}, p99", system.database),
            measured: Some(samples.percentile(99)),
            yardstick: Some(("loopback round trip, p99".to_owned(), round_trips.percentile(99))),
            goal: Goal::AtMost(300.0),
            note: format!("{JOBS} jobs × {LINES} lines at 10/s, p50 {}", samples.percentile(50)),
        });
        report.add(Row {
            what: format!("log lines lost or doubled, {}", system.database),
            measured: Some(Quantity { value: lost as f64, unit: "lines" }),
            yardstick: None,
            goal: Goal::AtMost(0.0),
            note: String::new(),
        });
    }
}

async fn stream(system: &System) -> (Samples, usize) {
    let api = system.instance.api();
    let mut streams = JoinSet::new();
    for number in 0..JOBS {
        let (url, token) = (system.instance.url(), system.instance.access_token.clone());
        let admin = system.instance.admin_token.clone();
        api.submit(&smallest_job("jobs")).await;
        streams.spawn(async move {
            let name = format!("bench-{number}");
            let executor = ScriptedExecutor::connect(&url, &token, "jobs", &name).await;
            let job = executor.dequeue(Duration::from_secs(20)).await.expect("a job for each");
            let reader = Events::follow(&url, &admin, job.id).await;
            let sent = Arc::new(Mutex::new(Vec::with_capacity(LINES)));
            let reading = tokio::spawn(read(reader, Arc::clone(&sent)));
            let entry = executor.begin_log(&job, "step.docker.main").await;
            let (mut offset, mut ticks) = (0, interval(PAUSE));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for line in 0..LINES {
                ticks.tick().await;
                if line % 50 == 49 {
                    executor.beat(&[job.id]).await; // every five seconds
                }
                let text = format!("stdout: line {line}.\n");
                let length = text.len();
                sent.lock().await.push(Instant::now());
                executor.append(&job, entry, offset, text, line + 1 == LINES).await;
                offset += length;
            }
            executor.complete(&job).await;
            let reading = tokio::time::timeout(PATIENCE, reading).await;
            reading.expect("the stream ends with the job").expect("the reader does not panic")
        });
    }
    let mut durations = Vec::new();
    let mut lost = 0;
    for (seen, wrong) in streams.join_all().await {
        durations.extend(seen);
        lost += wrong;
    }
    (durations.into_iter().collect(), lost)
}

/// Reads to the end; gives each line's delay, and how many lines are not where they belong.
async fn read(mut events: Events, sent: Arc<Mutex<Vec<Instant>>>) -> (Vec<Duration>, usize) {
    let mut text = String::new();
    let mut delays = Vec::with_capacity(LINES);
    while let Some(event) = events.next().await {
        if event.name == "end" {
            break;
        }
        if event.name != "log" {
            continue;
        }
        text.push_str(event.data["text"].as_str().expect("text"));
        let now = Instant::now();
        let whole = text.matches('\n').count().min(LINES);
        let sent = sent.lock().await;
        while delays.len() < whole {
            delays.push(now - sent[delays.len()]);
        }
    }
    let expected = (0..LINES).map(|line| format!("stdout: line {line}."));
    let wrong = text.lines().zip(expected).filter(|(seen, expected)| *seen != *expected).count();
    (delays, wrong + text.lines().count().abs_diff(LINES))
}
