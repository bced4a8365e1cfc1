//! Machines of failed jobs that are held for people to look into.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake::{Fake, Fault};
use crate::fake_hold::FakeTerminal;
use crate::image::{IMAGE, publish_image};
use crate::world::World;

/// Nothing that all these tests wait for takes this long.
const PATIENCE: Duration = Duration::from_secs(120);
const MINUTES: u64 = 30 * 60;

async fn world(settings: &[(&'static str, &str)]) -> World {
    let fake = Fake::start().await;
    fake.change(|inner| {
        (inner.append_logs, inner.hold) = (true, true);
        inner.held.remaining_ms = MINUTES * 1000;
    });
    let prepared = fake.clone();
    tokio::task::spawn_blocking(move || publish_image(&prepared)).await.unwrap();
    let mut all = vec![("EXECUTOR_QUEUE_NAME", "jobs")];
    all.extend_from_slice(settings);
    World::with(fake, &all).await
}

/// A job whose second step fails, and that wants its machine to be held.
fn job(id: i64, seconds: u64) -> Value {
    let step = |key: &str, commands: &[&str], dir: &str| {
        json!({"key": key, "image": IMAGE, "commands": commands, "dir": dir,
            "env": ["OWN=of the step"]})
    };
    let steps = [
        step("first", &["mkdir -p sub; echo left behind > sub/note"], ""),
        step("second", &["cat note; exit 3"], "sub"),
        step("third", &["echo never"], ""),
    ];
    json!({"version": 2, "id": id, "token": format!("token-{id}"), "dockerSteps": steps,
        "extensions": {"holdSeconds": seconds}})
}

impl World {
    /// Waits until the machine of the job is held; the body of its mark.
    async fn held(&self, id: i64) -> Value {
        let (verb, body) = self.fake.ended(id).await;
        assert_eq!(verb, "markErrored", "{body}");
        self.fake
            .wait_for("the executor asks about the hold", |inner| {
                (inner.held.polls > 0).then_some(())
            })
            .await;
        body
    }

    async fn shows(&self, terminal: i64, text: &str) {
        let what = format!("{text:?} on terminal {terminal}");
        let shown = self
            .fake
            .wait_for(&what, |inner| inner.held.shown(terminal).contains(text).then_some(()));
        shown.await;
    }

    async fn hold_ended(&self) -> String {
        self.fake.wait_for("the last call", |inner| inner.held.ended.clone()).await
    }

    fn teardown(&self, id: i64) -> String {
        self.fake.entry(id, "teardown.fs").out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_the_machine_as_the_job_left_it() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, MINUTES));
    let mark = world.held(7).await;
    assert_eq!((&mark["holdSeconds"], &mark["exitCode"]), (&json!(MINUTES), &json!(3)));
    let teardown = world.teardown(7);
    assert!(teardown.contains("held for 30m0s"), "{teardown}");

    // Answers that are lost on the way change nothing.
    for part in ["/hold", "/input", "/output"] {
        world.fake.fault(part, Fault::CutAnswer);
    }
    world.fake.fault("/output", Fault::Status(503));
    let open =
        |id| world.fake.change(|inner| _ = inner.held.terminals.insert(id, FakeTerminal::new()));
    let press = |id, keys: &str| world.fake.change(|inner| inner.held.types(id, keys));
    open(1);
    // The failed step's directory and image, and nothing of its environment.
    press(1, "pwd; cat note; echo [$FROM_IMAGE] [$OWN]; stty size; tty\r");
    world.shows(1, "\r\n/data/sub\r\nleft behind\r\n[yes] []\r\n37 91\r\n/dev/pts/0\r\n").await;
    world.fake.change(|inner| {
        let terminal = inner.held.terminals.get_mut(&1).unwrap();
        (terminal.cols, terminal.rows) = (132, 50);
    });
    press(1, "until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo re''sized\r");
    world.shows(1, "\r\nresized\r\n").await;

    // A second one beside it: much output, an end of its own.
    open(2);
    press(2, "seq 1 40000; exit 4\r");
    let terminal = world.fake.wait_for("the second shell's end", |inner| {
        Some(inner.held.terminals[&2].clone()).filter(|terminal| terminal.exit_code.is_some())
    });
    let terminal = terminal.await;
    assert_eq!(terminal.exit_code, Some(4));
    let shown = String::from_utf8(terminal.output).unwrap();
    let expected: String = (1..=40_000).map(|number| format!("{number}\r\n")).collect();
    assert!(shown.contains(&format!("exit 4\r\n{expected}")), "{} bytes", shown.len());

    // One that is closed from outside while a program runs in it, and the machine is fine after it.
    open(3);
    press(3, "trap '' HUP; sleep 600\r");
    world.shows(3, "sleep 600\r\n").await;
    world.fake.change(|inner| inner.held.terminals.get_mut(&3).unwrap().closed = true);
    press(1, "\x03echo still he''re\r");
    world.shows(1, "\r\nstill here\r\n").await;

    // The slot is taken, and no heartbeat counts the job.
    let last = world.fake.lock().heartbeats.last().unwrap().clone();
    assert_eq!(last["jobIds"], Value::Null);
    assert!(last["prometheusMetrics"].as_str().unwrap().contains("executor_held_machines 1"));

    world.fake.change(|inner| inner.held.release = true);
    assert_eq!(world.hold_ended().await, "released");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_admin_wishes_it_and_the_executor_sets_the_limit() {
    let world = world(&[("EXECUTOR_MAXIMUM_HOLD", "10m")]).await;
    world.fake.change(|inner| inner.held.wishes = json!([{"id": "7", "seconds": 7200}]));
    let mut job = job(7, 0);
    // It hangs, so its time ends it: long enough for the machine to start, wherever this runs.
    job["dockerSteps"][1]["commands"] = json!(["sleep 600"]);
    job["extensions"]["timeoutSeconds"] = json!(30);
    world.fake.enqueue(job);
    let mark = world.held(7).await;
    assert_eq!((&mark["holdSeconds"], &mark["reason"]), (&json!(600), &json!("timeout")));
    let teardown = world.teardown(7);
    assert!(teardown.contains("2h0m0s were wished, EXECUTOR_MAXIMUM_HOLD"), "{teardown}");
    // The job's own time is over, the hold's is not.
    world.fake.change(|inner| _ = inner.held.terminals.insert(1, FakeTerminal::new()));
    world.fake.change(|inner| inner.held.types(1, "echo a''live\r"));
    world.shows(1, "\r\nalive\r\n").await;
    // Now its time is over.
    world.fake.change(|inner| inner.held.remaining_ms = 0);
    assert_eq!(world.hold_ended().await, "expired");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_cannot_keep_it_longer() {
    let world = world(&[]).await;
    world.fake.change(|inner| inner.held.remaining_ms = 2000);
    world.fake.enqueue(job(7, MINUTES));
    world.held(7).await;
    // All that it asks from now on is refused, until the last call.
    for _ in 0..6 {
        world.fake.fault("/hold", Fault::Status(503));
    }
    assert_eq!(world.hold_ended().await, "expired");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_held_goes_at_once() {
    let world = world(&[("EXECUTOR_MAXIMUM_HOLD", "0")]).await;
    // The executor allows none.
    world.fake.enqueue(job(7, MINUTES));
    let (_, mark) = world.fake.ended(7).await;
    assert_eq!(mark.get("holdSeconds"), None);
    assert!(world.teardown(7).contains("not held: EXECUTOR_MAXIMUM_HOLD is 0"));
    world.finish().await;

    let world = self::world(&[]).await;
    // One that succeeds.
    let mut fine = job(8, MINUTES);
    fine["dockerSteps"] = json!([fine["dockerSteps"][0]]);
    world.fake.enqueue(fine);
    let (verb, mark) = world.fake.ended(8).await;
    assert_eq!((verb.as_str(), mark.get("holdSeconds")), ("markComplete", None));
    // One that somebody cancels.
    let mut canceled = job(9, MINUTES);
    canceled["dockerSteps"][1]["commands"] = json!(["echo begun; sleep 600"]);
    world.fake.enqueue(canceled);
    let begun = world.fake.wait_for("the step", |inner| {
        let entries = inner.entries.get(&9)?;
        entries.iter().any(|entry| entry.out.contains("stdout: begun")).then_some(())
    });
    begun.await;
    world.fake.change(|inner| inner.cancel = vec![9]);
    let (verb, mark) = world.fake.ended(9).await;
    assert_eq!((verb.as_str(), mark.get("holdSeconds")), ("markFailed", None));
    // One whose admin changed his mind.
    world.fake.change(|inner| inner.held.wishes = json!([{"id": "10", "seconds": 0}]));
    let mut unwanted = job(10, MINUTES);
    unwanted["dockerSteps"][1]["commands"] = json!(["sleep 2; exit 3"]);
    world.fake.enqueue(unwanted);
    let (_, mark) = world.fake.ended(10).await;
    assert_eq!(mark.get("holdSeconds"), None);
    // One without a machine.
    let mut imageless = job(11, MINUTES);
    imageless["dockerSteps"][0]["image"] = json!("executors.internal/nothing:1");
    world.fake.enqueue(imageless);
    let (_, mark) = world.fake.ended(11).await;
    assert_eq!((mark.get("holdSeconds"), &mark["reason"]), (None, &json!("image_not_found")));
    // One whose instance does not know what that is.
    world.fake.change(|inner| inner.hold = false);
    world.fake.enqueue(job(12, MINUTES));
    let (_, mark) = world.fake.ended(12).await;
    assert_eq!(mark.get("holdSeconds"), None);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_told_to_stop_releases_it() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, MINUTES));
    world.held(7).await;
    world.fake.change(|inner| _ = inner.held.terminals.insert(1, FakeTerminal::new()));
    world.fake.change(|inner| inner.held.types(1, "echo up; sleep 600\r"));
    world.shows(1, "\r\nup\r\n").await;
    let fake = world.fake.clone();
    tokio::time::timeout(PATIENCE, world.finish()).await.expect("it waits for no hold");
    assert_eq!(fake.lock().held.ended.as_deref(), Some("executor_stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_runs_again_while_its_machine_is_held() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, MINUTES));
    world.held(7).await;
    let mut again = job(7, 0);
    again["dockerSteps"] = json!([again["dockerSteps"][0]]);
    world.fake.enqueue(again);
    let second = world.fake.wait_for("the second attempt's end", |inner| {
        inner.marks.get(1).map(|(id, verb, _)| (*id, verb.clone()))
    });
    assert_eq!(second.await, (7, "markComplete".to_owned()));
    world.fake.change(|inner| inner.held.release = true);
    assert_eq!(world.hold_ended().await, "released");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ends_by_itself_ends_its_hold() {
    let world = world(&[]).await;
    world.fake.enqueue(job(7, MINUTES));
    world.held(7).await;
    world.kill_machines();
    assert_eq!(world.hold_ended().await, "machine_gone");
    world.finish().await;
}
