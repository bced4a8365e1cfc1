//! A machine prepared exactly as that of a job, for a person to look around in.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use microvm::images::Image;
use microvm::{ExecSpec, GuestError};
use protocol::Job;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::failure::Failure;
use super::phases::Phases;
use super::pipeline::Pipeline;
use super::plan::Plan;
use super::steps::spec_of;
use super::tools::{Tools, machine_name};
use crate::client::JobClient;
use crate::logs::JobLog;
use crate::metrics::Metrics;
use crate::runtime::{Machine, Terminal, TerminalSize};

/// A prepared machine.
pub struct Trial {
    /// The machine; the caller destroys it.
    pub machine: Machine,
    plan: Plan,
    images: Vec<Image>,
}

impl Trial {
    /// How to run `argv` as the job's first step would run its script.
    pub fn command(&self, argv: Vec<String>) -> ExecSpec {
        let mut step = self.plan.steps[0].clone();
        step.argv = argv;
        spec_of(&step, &self.images[step.image])
    }

    /// A shell on a terminal, where the first step would run.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn shell(&self, size: TerminalSize) -> Result<Terminal, GuestError> {
        let step = &self.plan.steps[0];
        let image = &self.images[step.image];
        self.machine.terminal(step.image, image, &step.cwd, size).await
    }
}

/// Prepares the machine of a job, which must have a step.
///
/// # Errors
/// As a job would fail.
pub async fn trial(
    job: Job,
    tools: &Tools,
    client: &JobClient,
    log: &JobLog,
) -> Result<Trial, Failure> {
    let plan = Plan::of_job(client.queue(), &job, &tools.config)?;
    let metrics = Metrics::default();
    let phases = Phases::new(client, false, Instant::now(), &metrics);
    let (images, machine) = (OnceCell::new(), OnceCell::new());
    let pipeline = Pipeline {
        job: &Arc::new(job),
        plan: &plan,
        client,
        log,
        phases: &phases,
        tools,
        metrics: &metrics,
        results: false,
        images: &images,
        machine: &machine,
        reached_step: &AtomicUsize::new(0),
        machine_name: &machine_name(&tools.config, client),
    };
    pipeline.prepare().await?;
    let machine = machine.into_inner().ok_or_else(|| Failure::executor("there is no machine"))?;
    Ok(Trial { machine, plan, images: images.into_inner().unwrap_or_default() })
}
