//! The dispatcher: the only one who talks to the queue. It takes jobs while slots are free, hands
//! each to a task of its own, and reports to the instance what runs.

mod dequeue;
mod heartbeat;
mod ping;
mod running;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::config::Config;
use crate::job::{Interrupt, JobRunner};
use crate::metrics::Metrics;
use crate::status::Status;
use crate::telemetry;
pub use ping::RefusedToken;
pub use running::{RunningJobs, orders};
pub use shutdown::Shutdown;

/// Time that jobs have to destroy their VMs when the executor stops at once.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Everything the dispatcher works with.
pub struct Agent {
    /// Settings.
    pub config: Arc<Config>,
    /// The instance.
    pub client: Client,
    /// Runs jobs.
    pub runner: Arc<JobRunner>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the executor says about itself.
    pub status: Arc<Status>,
    /// What to do when the instance refuses the shared secret at start.
    pub refused_token: RefusedToken,
}

/// Why the dispatcher ended without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The instance refuses the shared secret, and the caller wants to know at once.
    #[error(
        "the instance refused the access token: EXECUTOR_FRONTEND_PASSWORD must be equal to executors.accessToken in its site configuration ({0})"
    )]
    Refused(crate::client::ClientError),
}

/// What the loops of one run share.
struct Shared {
    agent: Agent,
    running: Arc<RunningJobs>,
    slots: Arc<Semaphore>,
    shutdown: Shutdown,
    /// The site admin asked to drain.
    site_drain: watch::Sender<bool>,
}

impl Agent {
    /// Runs until it is told to stop, or has run the jobs (or the time) it was started for.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn run(self, shutdown: Shutdown) -> Result<(), AgentError> {
        let engine_version = self.runner.tools().runtime.engine_version().to_owned();
        let shared = Arc::new(Shared {
            running: Arc::default(),
            slots: Arc::new(Semaphore::new(self.config.maximum_jobs)),
            site_drain: watch::Sender::new(false),
            shutdown,
            agent: self,
        });
        if !shared.ping_until_success().await? {
            return Ok(());
        }
        let telemetry = telemetry::gather(&engine_version).await;
        let no_job_left = CancellationToken::new();
        let beats = {
            let (shared, end) = (Arc::clone(&shared), no_job_left.clone());
            tokio::spawn(async move { shared.beat(telemetry, end).await })
        };
        shared.take_jobs().await;
        shared.agent.status.set_draining(true);
        shared.wait_for_jobs().await;
        no_job_left.cancel();
        // It ends by itself at once; a panic in it was logged by the runtime.
        let _ = beats.await;
        Ok(())
    }
}

impl Shared {
    /// Returns when no job runs any more, or was given its time to stop.
    async fn wait_for_jobs(&self) {
        let slots = u32::try_from(self.agent.config.maximum_jobs).unwrap_or(u32::MAX);
        let running = self.running.list().len();
        if running > 0 {
            tracing::info!(jobs = running, "draining: waiting for the running jobs");
        }
        tokio::select! {
            _ = self.slots.acquire_many(slots) => return,
            () = self.shutdown.stopping() => {}
        }
        self.running.interrupt_all(Interrupt::Stopped);
        if tokio::time::timeout(STOP_GRACE, self.slots.acquire_many(slots)).await.is_err() {
            tracing::error!("jobs did not stop in time, the next start cleans up after them");
        }
    }
}
