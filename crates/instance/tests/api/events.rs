//! The event stream of a job.

use protocol::Phase;
use serde_json::Value;

use super::jobs::FILE;
use super::people::Person;
use crate::support::{Instance, PATIENCE};

#[derive(Debug)]
struct Event {
    id: i64,
    name: String,
    data: Value,
}

struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(instance: &Instance, person: &Person, job: i64, after: Option<i64>) -> Self {
        let mut request = instance
            .http
            .get(format!("{}/api/v1/jobs/{job}/logs", instance.url))
            .header("authorization", format!("Bearer {}", person.token))
            .header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let piece = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let piece = piece.expect("an event in time").unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// All events up to the end of the stream.
    async fn rest(mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    };
    Event {
        id: field("id").parse().unwrap_or(0),
        name: field("event"),
        data: serde_json::from_str(&field("data")).unwrap(),
    }
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn text(events: &[Event]) -> String {
    let logs = events.iter().filter(|event| event.name == "log");
    logs.map(|event| event.data["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_follower_sees_everything_live_and_the_stream_ends_with_the_job() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let mut events = Events::open(&instance, &ada, id, None).await;
    assert_eq!(events.next().await.unwrap().data["state"], "queued");
    let run = instance.run().await;
    assert_eq!(events.next().await.unwrap().data["state"], "processing");
    run.phase(Phase::Running, 5).await;
    assert_eq!(events.next().await.unwrap().data["phase"], "running");
    let entry = run.entry("step.docker.a").await;
    assert_eq!(events.next().await.unwrap().data["key"], "step.docker.a");
    run.output(entry, 0, "stdout: é\n".as_bytes(), None).await;
    let log = events.next().await.unwrap();
    assert_eq!((log.name.as_str(), log.data["text"].as_str()), ("log", Some("stdout: é\n")));
    assert_eq!((log.data["entry"].as_i64(), log.data["offset"].as_i64()), (Some(1), Some(0)));
    run.output(entry, 11, b"", Some(4)).await;
    run.fails(4).await;
    let rest = events.rest().await;
    assert_eq!(names(&rest), ["entry", "state", "end"]);
    let end = &rest[2].data;
    assert_eq!((end["state"].as_str(), end["exitCode"].as_i64()), (Some("failed"), Some(4)));
    assert_eq!(end["reason"], "step_failed");
}

#[tokio::test]
async fn reconnecting_at_any_event_repeats_and_loses_nothing() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let run = instance.run().await;
    let entry = run.entry("step.docker.a").await;
    // Characters are cut at every possible place.
    let bytes = "stdout: aé€😀\n".as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        run.output(entry, at as u64, &[*byte], None).await;
    }
    run.output(entry, bytes.len() as u64, b"", Some(0)).await;
    run.completes().await;
    let all = Events::open(&instance, &ada, id, None).await.rest().await;
    assert_eq!(text(&all), "stdout: aé€😀\n");
    assert_eq!(all.last().unwrap().name, "end");
    for cut in 0..all.len() - 1 {
        let after = all[cut].id;
        let rest = Events::open(&instance, &ada, id, Some(after)).await.rest().await;
        assert_eq!(names(&rest), names(&all[cut + 1..]), "after {after}");
        assert_eq!(text(&all[..=cut]) + &text(&rest), "stdout: aé€😀\n", "after {after}");
    }
}

#[tokio::test]
async fn an_ended_job_is_told_from_the_start_and_streams_end_at_shutdown() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let canceled = ada.submit(&instance, FILE).await;
    ada.post(&instance, &format!("/jobs/{canceled}/cancel")).await;
    let events = Events::open(&instance, &ada, canceled, None).await.rest().await;
    assert_eq!(events.last().unwrap().data["state"], "canceled");

    let waiting = ada.submit(&instance, FILE).await;
    let mut events = Events::open(&instance, &ada, waiting, None).await;
    assert_eq!(events.next().await.unwrap().data["state"], "queued");
    instance.stop().await.unwrap();
    assert!(events.next().await.is_none());
}
