//! Nothing of a log is lost or repeated, whatever the connection does.

use std::collections::BTreeMap;

use executor::client::{Client, JobClient};
use executor::config::{Queues, Secret};
use executor::logs::{JobLog, LogError, Redactor, SendError, SendMode, Stream};
use serde_json::json;

use crate::fake::{Fake, Fault, SECRET};

async fn job(fake: &Fake, id: i64) -> JobClient {
    let client =
        Client::new(fake.url.clone(), Secret::new(SECRET), "executor-1".to_owned()).unwrap();
    client.ping(&Queues::One("jobs".to_owned())).await.unwrap();
    fake.lock().processing.insert(id, "executor-1".to_owned());
    client.job("jobs", id, &format!("token-{id}"))
}

fn redactor() -> Redactor {
    Redactor::new(&BTreeMap::from([("hunter2".to_owned(), "***".to_owned())]))
}

#[tokio::test]
async fn an_appended_log_survives_a_bad_connection() {
    let fake = Fake::start().await;
    fake.lock().append_logs = true;
    let client = job(&fake, 7).await;
    let dir = tempfile::tempdir().unwrap();
    let log = JobLog::start(&dir.path().join("log"), client, SendMode::Append, redactor(), 1 << 20)
        .unwrap();
    let faults = [Fault::Cut, Fault::CutAnswer, Fault::Status(500), Fault::Status(503)];
    for fault in faults {
        fake.fault("addExecutionLogEntry", fault);
        fake.fault("/log/", fault);
    }
    let mut entry =
        log.entry("step.docker.0", Some(&["echo".to_owned(), "hunter2".to_owned()])).unwrap();
    let mut expected = String::new();
    for number in 0..300 {
        entry.output(Stream::Stdout, format!("line {number} hun").as_bytes()).unwrap();
        entry.output(Stream::Stdout, b"ter2\n").unwrap();
        expected.push_str(&format!("stdout: line {number} ***\n"));
        if number % 100 == 50 {
            // Something is on its way while more is written.
            fake.wait_for("output", |inner| {
                let entries = inner.entries.get(&7)?;
                entries[0].out.contains(&format!("line {number} ")).then_some(())
            })
            .await;
            fake.fault("/log/", Fault::CutAnswer);
        }
    }
    entry.close(3);
    log.flush().await.unwrap();
    let entry = fake.entry(7, "step.docker.0");
    assert_eq!(entry.out, expected);
    assert_eq!(entry.exit_code, Some(3));
    assert_eq!(entry.command, json!(["echo", "***"]));
    fake.assert_nothing_wrong();
}

#[tokio::test]
async fn an_instance_that_lost_bytes_gets_them_again() {
    let fake = Fake::start().await;
    fake.lock().append_logs = true;
    let client = job(&fake, 7).await;
    let dir = tempfile::tempdir().unwrap();
    let log = JobLog::start(dir.path(), client, SendMode::Append, redactor(), 1 << 20).unwrap();
    let mut entry = log.entry("k", None).unwrap();
    entry.output(Stream::Stdout, b"first\n").unwrap();
    fake.wait_for("the first line", |inner| {
        let entry = inner.entries.get_mut(&7)?.first_mut()?;
        // A crash before the last write reached the disk.
        (entry.out == "stdout: first\n").then(|| entry.out.truncate(3))
    })
    .await;
    entry.output(Stream::Stderr, b"second").unwrap();
    entry.close(0);
    log.flush().await.unwrap();
    assert_eq!(fake.entry(7, "k").out, "stdout: first\nstderr: second\n");
}

#[tokio::test]
async fn a_stock_instance_gets_the_whole_entry() {
    let fake = Fake::start().await;
    let client = job(&fake, 7).await;
    let dir = tempfile::tempdir().unwrap();
    let log = JobLog::start(dir.path(), client, SendMode::Whole, redactor(), 1 << 20).unwrap();
    fake.fault("updateExecutionLogEntry", Fault::Cut);
    fake.fault("updateExecutionLogEntry", Fault::CutAnswer);
    let mut first = log.entry("setup.image.0", None).unwrap();
    let mut second = log.entry("setup.image.1", None).unwrap();
    second.output(Stream::Stderr, b"two").unwrap();
    first.note("one").unwrap();
    first.close(0);
    // Dropped, as when its job is cancelled.
    drop(second);
    log.flush().await.unwrap();
    let first = fake.entry(7, "setup.image.0");
    assert_eq!((first.out.as_str(), first.exit_code), ("one\n", Some(0)));
    let second = fake.entry(7, "setup.image.1");
    assert_eq!((second.out.as_str(), second.exit_code), ("stderr: two\n", Some(-1)));
    fake.assert_nothing_wrong();
}

#[tokio::test]
async fn a_lost_lease_ends_the_delivery() {
    let fake = Fake::start().await;
    let client = job(&fake, 7).await;
    fake.lock().processing.clear();
    let dir = tempfile::tempdir().unwrap();
    let log = JobLog::start(dir.path(), client, SendMode::Whole, redactor(), 1 << 20).unwrap();
    log.entry("k", None).unwrap().close(0);
    assert!(matches!(log.flush().await, Err(SendError::LeaseLost(_))));
}

#[tokio::test]
async fn output_over_the_limit_is_cut_and_reported() {
    let fake = Fake::start().await;
    fake.lock().append_logs = true;
    let client = job(&fake, 7).await;
    let dir = tempfile::tempdir().unwrap();
    let log = JobLog::start(dir.path(), client, SendMode::Append, redactor(), 20).unwrap();
    let mut entry = log.entry("k", None).unwrap();
    entry.output(Stream::Stdout, b"12345\n").unwrap();
    let result = entry.output(Stream::Stdout, b"1234567890\n");
    assert!(matches!(result, Err(LogError::Limit)));
    entry.close(-1);
    log.flush().await.unwrap();
    assert_eq!(fake.entry(7, "k").out, "stdout: 12345\nstdout");
}
