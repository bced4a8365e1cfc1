//! Follows a job to its end over an event stream, across lost connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::{Method, Response};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::logs::PlainLog;
use crate::cli::event_stream::{Event, Parser};
use crate::cli::output::duration;
use crate::cli::remote::{ApiError, Client, send};
use crate::cli::terminal::one_line;
use crate::http::api::types::{EndEvent, EntryEvent, Job, LogEvent, PhaseEvent, StateEvent};

/// Without an answer for so long the instance counts as gone.
const GIVE_UP: Duration = Duration::from_secs(300);
/// The server sends a keep-alive every 15 s; without anything for so long the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// While a job waits, the reason is looked up so often.
const WHY: Duration = Duration::from_secs(3);
/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Prints the log to stdout and progress to stderr until the job ends; returns its exit code.
///
/// # Errors
/// When the instance refuses, or stays away for five minutes.
pub(crate) async fn follow(client: &Client, id: i64) -> anyhow::Result<ExitCode> {
    let mut follower = Follower::new(client, id);
    let interrupt = tokio::signal::ctrl_c();
    tokio::select! {
        code = follower.run() => code,
        _ = interrupt => {
            eprintln!("job {id}: goes on; stop it with: instance job cancel {id}");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

struct Follower<'a> {
    client: &'a Client,
    id: i64,
    last_id: String,
    queued: bool,
    why: String,
    attempt: i64,
    logs: BTreeMap<(i64, i64), PlainLog>,
    /// Entries whose beginning was told.
    begun: BTreeSet<(i64, i64)>,
}

impl<'a> Follower<'a> {
    fn new(client: &'a Client, id: i64) -> Self {
        Self {
            client,
            id,
            last_id: String::new(),
            queued: false,
            why: String::new(),
            attempt: 0,
            logs: BTreeMap::new(),
            begun: BTreeSet::new(),
        }
    }

    async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let mut deadline = Instant::now() + GIVE_UP;
        let mut wait = Duration::from_millis(200);
        loop {
            let before = self.last_id.clone();
            let error = match self.stream().await {
                Ok(Some(end)) => return Ok(self.ended(&end)),
                Ok(None) => anyhow::anyhow!("the connection ended"),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            if self.last_id != before {
                deadline = Instant::now() + GIVE_UP;
                wait = Duration::from_millis(200);
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("gave up following job {}", self.id)));
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// One connection; `None` when it ended before the job.
    async fn stream(&mut self) -> anyhow::Result<Option<EndEvent>> {
        let id = self.id.to_string();
        let mut request = self
            .client
            .request(Method::GET, &["jobs", &id, "logs"])
            .header("accept", "text/event-stream");
        if !self.last_id.is_empty() {
            request = request.header("last-event-id", &self.last_id);
        }
        let mut response = send(request).await?;
        let mut parser = Parser::default();
        let mut why = interval(WHY);
        why.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                piece = next(&mut response, heard + SILENCE) => {
                    let Some(piece) = piece? else { return Ok(None) };
                    heard = Instant::now();
                    for event in parser.push(&piece) {
                        if let Some(end) = self.event(&event)? {
                            return Ok(Some(end));
                        }
                    }
                }
                _ = why.tick(), if self.queued => self.tell_why().await,
            }
        }
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<Option<EndEvent>> {
        let data = event.data.as_str();
        match event.name.as_str() {
            "log" => self.log(&read::<LogEvent>(data)?)?,
            "entry" => self.entry(&read::<EntryEvent>(data)?)?,
            "phase" => {
                let phase = read::<PhaseEvent>(data)?;
                self.tell(&format!("{} …", phase.phase));
            }
            "state" => self.state(&read::<StateEvent>(data)?),
            "rewind" => self.tell("an entry's output was replaced; it follows anew"),
            "end" => return read(data).map(Some),
            _ => {}
        }
        self.last_id.clone_from(&event.id);
        Ok(None)
    }

    fn log(&mut self, log: &LogEvent) -> anyhow::Result<()> {
        let text = self.logs.entry((log.attempt, log.entry)).or_default().push(log.text.as_bytes());
        print(&text)
    }

    fn entry(&mut self, entry: &EntryEvent) -> anyhow::Result<()> {
        let place = (entry.attempt, entry.entry);
        // Of the past the stream tells how an entry is now, so its first event may have the end.
        if self.begun.insert(place) {
            self.tell(&format!("{}: {}", entry.key, entry.command.join(" ")));
            return Ok(());
        }
        let Some(exit) = entry.exit_code else { return Ok(()) };
        if let Some(mut log) = self.logs.remove(&place) {
            print(&log.finish())?;
        }
        let took = entry.duration_ms.map_or(String::new(), |ms| format!(" after {}", duration(ms)));
        self.tell(&format!("{}: exit {exit}{took}", entry.key));
        Ok(())
    }

    fn state(&mut self, state: &StateEvent) {
        self.queued = state.state == "queued";
        if state.attempt > 1 && state.attempt != self.attempt && state.state == "processing" {
            self.tell(&format!("starts over, attempt {}", state.attempt));
        } else if matches!(state.state.as_str(), "queued" | "processing" | "errored") {
            self.tell(&state.state);
        }
        self.attempt = state.attempt;
    }

    /// Says why the job waits, when that changed. A failure is no news: the stream will tell.
    async fn tell_why(&mut self) {
        let Ok(job) = self.client.get::<Job>(&["jobs", &self.id.to_string()]).await else { return };
        let why = job.why_queued.unwrap_or_default();
        if !why.is_empty() && why != self.why {
            self.tell(&format!("waits: {why}"));
            self.why = why;
        }
    }

    fn ended(&mut self, end: &EndEvent) -> ExitCode {
        for log in std::mem::take(&mut self.logs).values_mut() {
            // Stdout is gone or not; the job has ended either way.
            drop(print(&log.finish()));
        }
        let reason = end.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let message =
            if end.message.is_empty() { String::new() } else { format!(": {}", end.message) };
        self.tell(&format!("{}{reason}{message}", end.state));
        exit_code(end)
    }

    fn tell(&self, text: &str) {
        eprintln!("job {}: {}", self.id, one_line(text));
    }
}

/// 0 for a completed job, the failed step's exit code, else 1.
fn exit_code(end: &EndEvent) -> ExitCode {
    if end.state == "completed" {
        return ExitCode::SUCCESS;
    }
    let step = end.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    ExitCode::from(step.unwrap_or(1))
}

async fn next(response: &mut Response, until: Instant) -> anyhow::Result<Option<Bytes>> {
    let piece = timeout_at(until, response.chunk()).await;
    Ok(piece.context("no sign of life from the instance")??)
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> anyhow::Result<T> {
    serde_json::from_str(data).context("the instance sent an event this version does not know")
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A refusal will not change by asking again.
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|e| e.status.is_client_error())
        || error.downcast_ref::<serde_json::Error>().is_some()
        || error.downcast_ref::<std::io::Error>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_steps() {
        let end = |state: &str, exit_code| EndEvent {
            state: state.to_owned(),
            exit_code,
            ..EndEvent::default()
        };
        assert_eq!(exit_code(&end("completed", None)), ExitCode::SUCCESS);
        assert_eq!(exit_code(&end("failed", Some(3))), ExitCode::from(3));
        for odd in [None, Some(0), Some(-1), Some(256)] {
            assert_eq!(exit_code(&end("failed", odd)), ExitCode::from(1));
        }
    }
}
