//! The work of a job, phase after phase. It can be dropped at any point: what must be tidied up is
//! owned by the caller.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use microvm::images::Image;
use microvm::net::EgressPolicy;
use protocol::{FailureReason, Job, Phase};
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use super::failure::{Failure, exit_failure, start_failure};
use super::phases::Phases;
use super::plan::Plan;
use super::tools::Tools;
use super::{collect, files, images, steps};
use crate::client::JobClient;
use crate::gateway::Gateway;
use crate::git::Workspace;
use crate::logs::{JobLog, LogWriter};
use crate::metrics::Metrics;
use crate::runtime::{Machine, MachineSpec};

/// Time to learn how a machine ended, once its guest is gone.
const EXIT_WAIT: Duration = Duration::from_secs(3);

/// What the work of one job needs.
pub(super) struct Pipeline<'a> {
    pub(super) job: &'a Arc<Job>,
    pub(super) plan: &'a Plan,
    pub(super) client: &'a JobClient,
    pub(super) log: &'a JobLog,
    pub(super) phases: &'a Phases<'a>,
    pub(super) tools: &'a Tools,
    pub(super) metrics: &'a Metrics,
    /// The instance takes artifacts.
    pub(super) results: bool,
    /// Set before there is a machine.
    pub(super) images: &'a OnceCell<Vec<Image>>,
    /// Set as soon as there is a machine.
    pub(super) machine: &'a OnceCell<Machine>,
    /// Index of the last step that was begun.
    pub(super) reached_step: &'a AtomicUsize,
    pub(super) machine_name: &'a str,
}

impl Pipeline<'_> {
    /// All of it.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let (machine, images) = self.prepare().await?;
        let _gateway = self.open_gateway(machine);
        self.phases.enter(Phase::Running);
        let result = self.explain(machine, self.run_steps(machine, images).await).await;
        // The report of a failed test run is what people look for.
        let worth_collecting =
            result.as_ref().err().is_none_or(|failure| failure.reason == FailureReason::StepFailed);
        if !worth_collecting || !self.results || self.plan.artifacts.is_empty() {
            return result;
        }
        self.phases.enter(Phase::Collecting);
        let collected = self.collect(machine).await;
        result.and(self.explain(machine, collected).await)
    }

    /// Everything up to a machine that could run steps.
    pub(super) async fn prepare(&self) -> Result<(&Machine, &[Image]), Failure> {
        self.phases.enter(Phase::Preparing);
        let (images, workspace) = tokio::try_join!(self.images(), self.workspace())?;
        self.phases.enter(Phase::Booting);
        let images = self.images.get_or_init(|| async { images }).await;
        let machine = self.boot(images, workspace.as_ref()).await?;
        Ok((machine, images))
    }

    async fn images(&self) -> Result<Vec<Image>, Failure> {
        let (store, config) = (&self.tools.images, &self.tools.config);
        images::fetch(store, &self.plan.images, self.job, config, self.client, self.log).await
    }

    async fn workspace(&self) -> Result<Option<Workspace>, Failure> {
        let Some(request) = &self.plan.checkout else { return Ok(None) };
        let workspace = self.tools.repositories.workspace(request, self.client, self.log).await;
        Ok(Some(workspace?))
    }

    async fn boot(
        &self,
        images: &[Image],
        workspace: Option<&Workspace>,
    ) -> Result<&Machine, Failure> {
        let resources = &self.plan.resources;
        let mut entry = self.log.entry("setup.vm.start", None)?;
        let network = match self.network(&mut entry) {
            Ok(network) => network,
            Err(failure) => {
                entry.note(&failure.message)?;
                entry.close(1);
                return Err(failure);
            }
        };
        let spec = MachineSpec {
            name: self.machine_name.to_owned(),
            vcpus: resources.vcpus,
            memory_mib: resources.memory_mib,
            disk_mib: resources.disk_mib,
            max_processes: resources.max_processes,
            images: images.to_vec(),
            workspace: workspace.map(|workspace| workspace.squashfs.clone()),
            network,
        };
        let runtime = match (self.tools.runtime.name(), self.tools.runtime.acceleration()) {
            (name, "") => name.to_owned(),
            (name, acceleration) => format!("{name} ({acceleration})"),
        };
        entry.note(&format!(
            "{runtime}, {} vCPUs, {} MiB of memory, {} MiB of disk, {}",
            spec.vcpus,
            spec.memory_mib,
            spec.disk_mib,
            if spec.network.is_some() { "with a network" } else { "no network" }
        ))?;
        match self.tools.runtime.start(spec, self.metrics).await {
            Ok(machine) => {
                entry.note(&machine.boot_report())?;
                entry.close(0);
                Ok(self.machine.get_or_init(|| async { machine }).await)
            }
            Err(error) => {
                entry.note(&error.to_string())?;
                entry.close(1);
                Err(start_failure(&error))
            }
        }
    }

    /// The network of the machine, unless there can be none here.
    fn network(&self, entry: &mut LogWriter) -> Result<Option<EgressPolicy>, Failure> {
        let Some(egress) = &self.plan.network else { return Ok(None) };
        match self.tools.runtime.network_problem() {
            None => Ok(Some(egress.policy.clone())),
            Some(problem) if egress.required => Err(Failure::new(
                FailureReason::NetworkUnavailable,
                format!("the job needs the network, this executor gives none: {problem}"),
            )),
            Some(problem) => {
                entry.note(&format!("this executor gives no network: {problem}"))?;
                Ok(None)
            }
        }
    }

    fn open_gateway(&self, machine: &Machine) -> AbortOnDrop {
        let gateway = Gateway::new(Arc::clone(self.job), self.client.clone());
        let guest = machine.guest().clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Some(connection) = guest.next_gateway_conn().await {
                connections.spawn(gateway.clone().serve(connection));
                while connections.try_join_next().is_some() {}
            }
        });
        AbortOnDrop(task.abort_handle())
    }

    async fn run_steps(&self, machine: &Machine, images: &[Image]) -> Result<(), Failure> {
        if !self.job.files.is_empty() {
            let mut entry = self.log.entry("setup.fs.extras", None)?;
            for (path, file) in &self.job.files {
                let written =
                    files::write(machine.guest(), self.client, path, file, &mut entry).await;
                if let Err(failure) = written {
                    entry.note(&failure.message)?;
                    entry.close(1);
                    return Err(failure);
                }
            }
            entry.close(0);
        }
        steps::run(machine, &self.plan.steps, images, self.log, self.reached_step).await
    }

    async fn collect(&self, machine: &Machine) -> Result<(), Failure> {
        let globs = &self.plan.artifacts;
        let mut entry = self.log.entry("teardown.artifacts", Some(globs))?;
        let result = collect::artifacts(machine.guest(), globs, self.client, &mut entry).await;
        entry.close(i64::from(result.is_err()));
        result
    }

    /// A guest that is gone has a reason; find it.
    async fn explain<T>(
        &self,
        machine: &Machine,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        match result {
            Err(failure) if failure.reason == FailureReason::GuestCrashed => {
                match tokio::time::timeout(EXIT_WAIT, machine.exited()).await {
                    Ok(exit) => Err(exit_failure(&exit)),
                    Err(_) => Err(failure),
                }
            }
            other => other,
        }
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
