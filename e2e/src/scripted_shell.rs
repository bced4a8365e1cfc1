//! The executor's side of a hold, played: a machine that is kept, and a shell of a few lines in each of its
//! terminals. It survives the restart of its instance, as the real one does.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hold::{HoldEnd, HoldRequest, HoldResponse, InputRequest, InputResponse};
use protocol::{FailureReason, HeartbeatResponse, Job, MarkRequest, headers, routes};
use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::scripted::ScriptedExecutor;
use crate::wait::pass;

/// Asked again for so long when the instance is away.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);
/// Each question is held open for so long.
const WAIT: &str = "wait=2";

/// What a line that was typed prints; `None` ends the shell with exit code 0.
pub type Answer = fn(line: &str) -> Option<Vec<u8>>;

/// A kept machine. Dropping it makes the executor silent.
pub struct Held {
    _tasks: JoinSet<()>,
}

impl ScriptedExecutor {
    /// Says that it runs `job`, and hears how long its machine shall be kept if it fails, in seconds.
    pub async fn wished_hold(&self, job: &Job) -> Option<u64> {
        let answer: HeartbeatResponse = self.beat(&[job.id]).await;
        answer.holds.first().map(|wish| wish.seconds)
    }

    /// Reports that the job failed and that its machine is kept, and serves it from now on.
    pub async fn fail_and_hold(self: &Arc<Self>, job: &Job, seconds: u64, answer: Answer) -> Held {
        let mark = MarkRequest {
            executor_name: self.name.clone(),
            job_id: job.id,
            error_message: "step 0 failed".to_owned(),
            reason: Some(FailureReason::StepFailed),
            exit_code: Some(1),
            hold_seconds: Some(seconds),
            ..MarkRequest::default()
        };
        let path = format!("{}/{}/markFailed", routes::QUEUE, self.queue());
        let answered = self.of_job(job, &path).json(&mark).send().await;
        let status = answered.expect("the instance answers").status();
        assert_eq!(status, StatusCode::NO_CONTENT, "markFailed");
        let mut tasks = JoinSet::new();
        tasks.spawn(hold(Arc::clone(self), job.clone(), answer));
        Held { _tasks: tasks }
    }

    /// Asks a route of the hold until the instance answers; `None` when the hold or terminal is over.
    async fn on_hold(&self, job: &Job, path: &str, body: Vec<u8>) -> Option<Vec<u8>> {
        let started = Instant::now();
        loop {
            let request = self.of_job(job, path).header(headers::PREFER, WAIT);
            let status = match request.body(body.clone()).send().await {
                Ok(response) => match (response.status(), response.bytes().await) {
                    (StatusCode::OK, Ok(bytes)) => return Some(bytes.to_vec()),
                    (StatusCode::GONE, _) => return None,
                    (status, _) => status.to_string(),
                },
                Err(error) => error.to_string(),
            };
            assert!(started.elapsed() < PATIENCE, "{path}: {status}");
            pass(RETRY).await;
        }
    }
}

async fn hold(executor: Arc<ScriptedExecutor>, job: Job, answer: Answer) {
    let path = routes::hold(executor.queue(), job.id);
    let mut shells = JoinSet::new();
    let mut started = HashSet::new();
    let mut known = Vec::new();
    loop {
        let request = HoldRequest {
            executor_name: executor.name.clone(),
            known_terminals: known,
            ended: None,
        };
        let body = serde_json::to_vec(&request).expect("a document");
        let Some(told) = executor.on_hold(&job, &path, body).await else { return };
        let told: HoldResponse = serde_json::from_slice(&told).expect("an answer");
        if told.release || told.remaining_ms == 0 {
            let end = if told.release { HoldEnd::Released } else { HoldEnd::Expired };
            let last = HoldRequest {
                executor_name: executor.name.clone(),
                ended: Some(end),
                ..HoldRequest::default()
            };
            let body = serde_json::to_vec(&last).expect("a document");
            executor.on_hold(&job, &path, body).await;
            return;
        }
        known = told.terminals.iter().map(|terminal| terminal.id).collect();
        for terminal in &known {
            if started.insert(*terminal) {
                shells.spawn(shell(Arc::clone(&executor), job.clone(), *terminal, answer));
            }
        }
    }
}

/// Echoes what is typed and answers each line; says its size when that changes.
async fn shell(executor: Arc<ScriptedExecutor>, job: Job, terminal: i64, answer: Answer) {
    let path = routes::terminal_input(executor.queue(), job.id, terminal);
    let (mut typed, mut printed, mut line) = (0, 0, Vec::new());
    let mut size = (0, 0);
    loop {
        let request = InputRequest {
            executor_name: executor.name.clone(),
            offset: typed,
            cols: size.0,
            rows: size.1,
        };
        let body = serde_json::to_vec(&request).expect("a document");
        let Some(told) = executor.on_hold(&job, &path, body).await else { return };
        let told: InputResponse = serde_json::from_slice(&told).expect("an answer");
        if told.closed {
            return;
        }
        let mut out = Vec::new();
        if size == (0, 0) {
            out.extend(b"$ ");
        } else if size != (told.cols, told.rows) {
            out.extend(format!("[size {}x{}]\r\n$ ", told.cols, told.rows).bytes());
        }
        size = (told.cols, told.rows);
        typed += told.data.len() as u64;
        let mut exit = false;
        for byte in told.data {
            if byte != b'\r' {
                out.push(byte);
                line.push(byte);
                continue;
            }
            out.extend(b"\r\n");
            match answer(&String::from_utf8_lossy(&line)) {
                Some(text) => out.extend([text, b"$ ".to_vec()].concat()),
                None => exit = true,
            }
            line.clear();
        }
        if out.is_empty() && !exit {
            continue;
        }
        let mut path = routes::terminal_output(executor.queue(), job.id, terminal);
        path += &format!("?offset={printed}{}", if exit { "&exitCode=0" } else { "" });
        printed += out.len();
        if executor.on_hold(&job, &path, out).await.is_none() || exit {
            return;
        }
    }
}
