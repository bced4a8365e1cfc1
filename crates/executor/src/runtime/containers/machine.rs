//! The containers of one running job.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use microvm::guest_client::{Failure, FailureKind, Usage};
use microvm::{ExecSpec, ExitReason, GuestClient, GuestError, VmExit};

use super::disk::DiskWatch;
use super::engine::{Container, MACHINE_LABEL};
use super::step::{self, ContainerExec, StepUsage, Surroundings};
use super::workspace::Etc;
use crate::runtime::image_serial;
use crate::runtime::network::MachineNetwork;

/// A job's containers.
pub struct ContainerMachine {
    pub(super) guest: GuestClient,
    pub(super) around: Surroundings,
    pub(super) etc: Etc,
    /// The engine's name of each image, in the order of the job's.
    pub(super) images: Vec<String>,
    pub(super) run_dir: PathBuf,
    pub(super) disk: DiskWatch,
    pub(super) steps: Mutex<Vec<Container>>,
    pub(super) used: Arc<Mutex<StepUsage>>,
    pub(super) report: String,
    pub(super) destroyed: AtomicBool,
}

impl ContainerMachine {
    pub(in crate::runtime) fn guest(&self) -> &GuestClient {
        &self.guest
    }

    pub(in crate::runtime) fn report(&self) -> String {
        self.report.clone()
    }

    pub(in crate::runtime) async fn exec(
        &self,
        spec: ExecSpec,
    ) -> Result<ContainerExec, GuestError> {
        let index = (0..self.images.len()).find(|&index| image_serial(index) == spec.image);
        let image = index.map(|index| self.images[index].clone()).unwrap_or_default();
        let around = Surroundings { image, ..self.around.clone() };
        self.etc.write().map_err(|error| {
            let message = format!("{}: {error}", self.run_dir.display());
            GuestError::Failed(Failure { kind: FailureKind::Internal, message })
        })?;
        let number = self.steps.lock().expect("no panic while held").len();
        let machine = &around.labels[MACHINE_LABEL];
        let body = step::body(&spec, &around);
        let made = self.around.agent.engine.create(&format!("{machine}-{number}"), body).await;
        let container = made.map_err(|error| step::engine_failure(&error))?;
        self.steps.lock().expect("no panic while held").push(container.clone());
        self.disk.step(Some(container.clone()));
        let used = Arc::clone(&self.used);
        ContainerExec::start(container, &spec, &around, self.disk.full(), used).await
    }

    pub(in crate::runtime) fn usage(&self) -> Usage {
        let used = *self.used.lock().expect("no panic while held");
        Usage {
            cpu_ms: used.cpu_ms,
            peak_memory_bytes: used.peak_memory_bytes,
            disk_bytes: self.disk.used(),
            ..Usage::default()
        }
    }

    /// Waits until the agent is gone.
    pub(in crate::runtime) async fn exited(&self) -> VmExit {
        let why = self.guest.gone().await;
        VmExit {
            reason: ExitReason::Silent(format!("the container of the job's agent ended: {why}")),
            console_tail: String::new(),
        }
    }

    pub(in crate::runtime) async fn destroy(&self) {
        remove(self.containers(), Some(self.run_dir.clone())).await;
        self.destroyed.store(true, Ordering::Relaxed);
    }

    /// Its containers, the agent's last.
    fn containers(&self) -> Vec<Container> {
        let steps = self.steps.lock().expect("no panic while held");
        steps.iter().chain([&self.around.agent]).cloned().collect()
    }
}

impl Drop for ContainerMachine {
    fn drop(&mut self) {
        if !self.destroyed.load(Ordering::Relaxed) {
            let (containers, run_dir) = (self.containers(), Some(self.run_dir.clone()));
            Parts { containers, run_dir, network: None }.abandon();
        }
    }
}

/// What a start has made so far; removed with it, unless it is kept.
#[derive(Default)]
pub(super) struct Parts {
    pub containers: Vec<Container>,
    pub run_dir: Option<PathBuf>,
    pub network: Option<MachineNetwork>,
}

impl Parts {
    pub(super) fn keep(mut self) -> (Vec<Container>, Option<MachineNetwork>) {
        self.run_dir = None;
        (std::mem::take(&mut self.containers), self.network.take())
    }

    fn abandon(&mut self) {
        let (containers, run_dir) = (std::mem::take(&mut self.containers), self.run_dir.take());
        let network = self.network.take();
        if containers.is_empty() && run_dir.is_none() && network.is_none() {
            return;
        }
        // Without a runtime everything is ending; the next start reclaims.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                remove(containers, run_dir).await;
                if let Some(network) = network {
                    network.remove().await;
                }
            });
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.abandon();
    }
}

async fn remove(containers: Vec<Container>, run_dir: Option<PathBuf>) {
    for container in containers {
        if let Err(error) = container.remove().await {
            tracing::warn!(%error, "left for the next start to remove");
        }
    }
    let Some(dir) = run_dir else { return };
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    match removed.map_err(io::Error::other).and_then(|removed| removed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a job's folder is left for the next start to remove");
        }
        _ => {}
    }
}
