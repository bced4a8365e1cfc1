//! Which phase a job is in: timed, and reported where the instance takes that.

use std::sync::Mutex;

use protocol::{Phase, PhaseReport};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::JobClient;
use crate::metrics::Metrics;

/// The phases of one job. Reports leave in order, by a task of their own: nobody waits for them.
pub struct Phases<'a> {
    started: Instant,
    current: Mutex<Option<(Phase, Instant)>>,
    reports: Option<mpsc::UnboundedSender<PhaseReport>>,
    executor_name: String,
    metrics: &'a Metrics,
}

impl<'a> Phases<'a> {
    /// Phases of a job that was dequeued at `started`.
    pub fn new(client: &JobClient, granted: bool, started: Instant, metrics: &'a Metrics) -> Self {
        let reports = granted.then(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(send(client.clone(), receiver));
            sender
        });
        let executor_name = client.executor_name().to_owned();
        Self { started, current: Mutex::new(None), reports, executor_name, metrics }
    }

    /// A phase begins, and the one before it ends.
    pub fn enter(&self, phase: Phase) {
        let now = Instant::now();
        let former = self.current.lock().expect("no panic while held").replace((phase, now));
        if let Some((former, since)) = former {
            self.metrics.phase_ended(former, now - since);
        }
        if let Some(reports) = &self.reports {
            let elapsed = (now - self.started).as_millis();
            let report = PhaseReport {
                executor_name: self.executor_name.clone(),
                phase,
                elapsed_ms: i64::try_from(elapsed).unwrap_or(i64::MAX),
            };
            // The task ends with the sender.
            let _ = reports.send(report);
        }
    }

    /// The last phase ends.
    pub fn end(&self) {
        if let Some((phase, since)) = self.current.lock().expect("no panic while held").take() {
            self.metrics.phase_ended(phase, since.elapsed());
        }
    }
}

async fn send(client: JobClient, mut reports: mpsc::UnboundedReceiver<PhaseReport>) {
    while let Some(report) = reports.recv().await {
        if let Err(error) = client.phase(&report).await {
            tracing::debug!(job = client.id(), %error, "a phase could not be reported");
        }
    }
}
