//! What isolates a job. The known runtimes are an enum: adding one makes the compiler name every
//! place that must know it.

mod micro_vms;
mod network;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use microvm::images::{Image, ImageError};
use microvm::net::{EgressPolicy, NetworkError, NetworkUsage};
use microvm::{BootError, ExecSpec, GuestClient, GuestError, VmExit};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::metrics::{Metrics, Running};
pub use micro_vms::MicroVms;
use network::MachineNetwork;
pub use terminal::{DEFAULT_PATH, Terminal, TerminalInput, TerminalSize, exit_code};

/// How often, and how long at most, [`Runtime::settled`] looks.
const SETTLE_STEP: Duration = Duration::from_millis(50);
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A way to run jobs.
pub enum Runtime {
    /// One microVM per job.
    MicroVms(MicroVms),
}

/// What a job's machine is made of.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Unique on this host; letters, digits and dashes.
    pub name: String,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Scratch disk in MiB.
    pub disk_mib: u64,
    /// Processes and threads.
    pub max_processes: u32,
    /// Root file systems of the steps.
    pub images: Vec<PathBuf>,
    /// Initial content of the workspace.
    pub workspace: Option<PathBuf>,
    /// What it may reach; `None` = it has no network.
    pub network: Option<EgressPolicy>,
}

/// The machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A fault of the host: disk, missing program.
    #[error("{0}")]
    Host(String),
    /// Its network could not be made.
    #[error("its network: {0}")]
    Network(#[from] NetworkError),
    /// The guest did not become ready.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The guest could not assemble its disks.
    #[error("the guest could not prepare its disks: {0}")]
    Prepare(GuestError),
}

/// The runtime cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no kernel to boot.
    #[error(transparent)]
    Kernel(#[from] microvm::kernel::KernelError),
    /// The image cache.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// Files of this machine.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// `EXECUTOR_ACCELERATION=kvm`, and no guest runs under KVM.
    #[error("KVM does not work here: {0}")]
    NoKvm(String),
    /// `EXECUTOR_RUNTIME=firecracker`, and it does not run here.
    #[error("Firecracker does not work here: {0}")]
    NoFirecracker(String),
}

impl Runtime {
    /// Makes the configured runtime ready, and removes what dead executors left of theirs.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn open(config: &Config) -> Result<Self, RuntimeError> {
        MicroVms::open(config).await.map(Self::MicroVms)
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MicroVms(vms) => vms.name(),
        }
    }

    /// How guest code is executed, for people.
    pub fn acceleration(&self) -> &'static str {
        match self {
            Self::MicroVms(vms) => vms.acceleration(),
        }
    }

    /// Time a machine has to become ready.
    pub fn boot_timeout(&self) -> Duration {
        match self {
            Self::MicroVms(vms) => vms.boot_timeout(),
        }
    }

    /// Why machines have no network here, whatever their jobs ask for; `None` = they can have one.
    pub fn network_problem(&self) -> Option<&str> {
        match self {
            Self::MicroVms(vms) => vms.network_problem(),
        }
    }

    /// Starts a machine. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, spec: MachineSpec, metrics: &Metrics) -> Result<Machine, StartError> {
        match self {
            Self::MicroVms(vms) => vms.start(spec, metrics).await,
        }
    }

    /// Waits until nothing is left of the machines of this executor; `false` if that takes too long. A start
    /// that was given up tidies up behind itself.
    pub async fn settled(&self) -> bool {
        let settled = async {
            while !self.is_empty() {
                tokio::time::sleep(SETTLE_STEP).await;
            }
        };
        tokio::time::timeout(SETTLE_LIMIT, settled).await.is_ok()
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::MicroVms(vms) => vms.is_empty(),
        }
    }

    /// Removes what dead executors left behind.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub async fn reclaim(&self) -> std::io::Result<()> {
        match self {
            Self::MicroVms(vms) => vms.reclaim().await,
        }
    }
}

/// A running machine. Dropping it kills it; [`Machine::destroy`] also waits and tidies up.
pub struct Machine {
    vm: microvm::Vm,
    /// Outlives the VM, which runs in its namespace.
    network: Mutex<Option<MachineNetwork>>,
    _running: Running,
}

impl Machine {
    /// Talks to the guest.
    pub fn guest(&self) -> &GuestClient {
        self.vm.guest()
    }

    /// Opens a shell on a terminal in the image with that index, with the image's environment and user,
    /// and nothing of any step: no variable of one comes along.
    ///
    /// # Errors
    /// The machine is gone. That there is no shell is told by [`Terminal::wait`].
    pub async fn terminal(
        &self,
        image_index: usize,
        image: &Image,
        cwd: &str,
        size: TerminalSize,
    ) -> Result<Terminal, GuestError> {
        self.on_terminal(terminal::shell(image_index, image, cwd), size).await
    }

    /// Runs a program on a terminal.
    ///
    /// # Errors
    /// The machine is gone. That the program could not start is told by [`Terminal::wait`].
    pub async fn on_terminal(
        &self,
        spec: ExecSpec,
        size: TerminalSize,
    ) -> Result<Terminal, GuestError> {
        Terminal::open(self.guest(), spec, size).await
    }

    /// Where the boot's time went, for people.
    pub fn boot_report(&self) -> String {
        let timings = self.vm.boot_timings();
        let ms = |time: Duration| time.as_millis();
        format!(
            "ready in {} ms: starting {} ms, kernel {} ms, guest {} ms",
            ms(timings.spawn + timings.vmm + timings.guest),
            ms(timings.spawn),
            ms(timings.vmm),
            ms(timings.guest)
        )
    }

    /// Waits until it ended by itself.
    pub async fn exited(&self) -> VmExit {
        self.vm.exited().await
    }

    /// What it did on the network; `None` = it has none.
    pub async fn network_usage(&self) -> Option<NetworkUsage> {
        match &*self.network.lock().await {
            Some(network) => Some(network.usage().await),
            None => None,
        }
    }

    /// Kills it and removes what it left on the host. Safe to call twice.
    pub async fn destroy(&self) {
        self.vm.destroy().await;
        if let Some(network) = self.network.lock().await.take() {
            network.remove().await;
        }
    }
}

/// Serial by which the guest finds a step image.
pub fn image_serial(index: usize) -> String {
    format!("image-{index}")
}
