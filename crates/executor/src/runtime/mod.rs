//! What isolates a job. The known runtimes are an enum: adding one makes the compiler name every
//! place that must know it.

pub mod containers;
mod micro_vms;
mod network;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use microvm::agent::AgentError;
use microvm::guest_client::{ExecResult, Usage};
use microvm::images::{Image, ImageError};
use microvm::net::{EgressPolicy, NetworkError, NetworkUsage};
use microvm::{BootError, ExecSpec, GuestClient, GuestError, OutputChunk, Vm, VmExit};
use tokio::sync::Mutex;

use crate::config::{Config, RuntimeChoice};
use crate::metrics::{Metrics, Running};
use containers::{
    ContainerExec, ContainerInput, ContainerMachine, Containers, EngineError, LoadError,
};
pub use micro_vms::MicroVms;
use network::MachineNetwork;
pub use terminal::{DEFAULT_PATH, Terminal, TerminalInput, TerminalSize, exit_code};

/// How often, and how long at most, [`Runtime::settled`] looks.
const SETTLE_STEP: Duration = Duration::from_millis(50);
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A way to run jobs.
#[expect(clippy::large_enum_variant, reason = "there is one for the life of the program")]
pub enum Runtime {
    /// One microVM per job.
    MicroVms(MicroVms),
    /// Containers on the host's own kernel.
    Containers(Containers),
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
    /// Images of the steps.
    pub images: Vec<Image>,
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
    /// The container engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An image could not be given to the container engine.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The agent of a job's containers.
    #[error(transparent)]
    Agent(#[from] AgentError),
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
    /// Files that steps leave behind belong to root, or to whomever the engine maps it to.
    #[error("plain containers need root: nobody else can remove what steps write")]
    NotRoot,
    /// There is no container engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Runtime {
    /// Makes the configured runtime ready, and removes what dead executors left of theirs.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn open(config: &Config) -> Result<Self, RuntimeError> {
        match config.runtime {
            RuntimeChoice::MicroVms(_) => MicroVms::open(config).await.map(Self::MicroVms),
            RuntimeChoice::Docker => Containers::open(config).await.map(Self::Containers),
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MicroVms(vms) => vms.name(),
            Self::Containers(_) => "docker",
        }
    }

    /// How guest code is executed, for people; empty where there is no guest.
    pub fn acceleration(&self) -> &'static str {
        match self {
            Self::MicroVms(vms) => vms.acceleration(),
            Self::Containers(_) => "",
        }
    }

    /// Version of the container engine; empty where none is used.
    pub fn engine_version(&self) -> &str {
        match self {
            Self::MicroVms(_) => "",
            Self::Containers(containers) => containers.engine_version(),
        }
    }

    /// Time a machine has to become ready.
    pub fn boot_timeout(&self) -> Duration {
        match self {
            Self::MicroVms(vms) => vms.boot_timeout(),
            Self::Containers(containers) => containers.ready_timeout(),
        }
    }

    /// Why machines have no network here, whatever their jobs ask for; `None` = they can have one.
    pub fn network_problem(&self) -> Option<&str> {
        match self {
            Self::MicroVms(vms) => vms.network_problem(),
            Self::Containers(containers) => containers.network_problem(),
        }
    }

    /// Starts a machine. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, spec: MachineSpec, metrics: &Metrics) -> Result<Machine, StartError> {
        let (kind, network) = match self {
            Self::MicroVms(vms) => {
                let (vm, network) = vms.start(spec, metrics).await?;
                (Kind::Vm(vm), network)
            }
            Self::Containers(containers) => {
                let (machine, network) = containers.start(spec, metrics).await?;
                (Kind::Containers(machine), network)
            }
        };
        Ok(Machine { kind, network: Mutex::new(network), _running: metrics.vm_running() })
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
            Self::Containers(containers) => containers.is_empty(),
        }
    }

    /// Removes what dead executors left behind.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub async fn reclaim(&self) -> std::io::Result<()> {
        match self {
            Self::MicroVms(vms) => vms.reclaim().await,
            Self::Containers(containers) => containers.reclaim().await,
        }
    }
}

/// A running machine. Dropping it kills it; [`Machine::destroy`] also waits and tidies up.
pub struct Machine {
    kind: Kind,
    /// Outlives what runs in its namespace.
    network: Mutex<Option<MachineNetwork>>,
    _running: Running,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each job, behind its machine")]
enum Kind {
    Vm(Vm),
    Containers(ContainerMachine),
}

/// A running command. Dropping it kills it, at the latest with its machine.
#[expect(clippy::large_enum_variant, reason = "one for each running command, and it is not moved")]
pub enum Exec {
    /// In a guest.
    Guest(microvm::Exec),
    /// In a container of its own.
    Container(ContainerExec),
}

/// What a running command reads, or its terminal. Cheap to clone.
#[derive(Clone)]
pub enum Input {
    /// In a guest.
    Guest(microvm::guest_client::Input),
    /// In a container of its own.
    Container(ContainerInput),
}

impl Machine {
    /// Talks to the guest, or to what stands for it beside the containers: for the workspace and the gateway.
    pub fn guest(&self) -> &GuestClient {
        match &self.kind {
            Kind::Vm(vm) => vm.guest(),
            Kind::Containers(machine) => machine.guest(),
        }
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
        Terminal::open(self, spec, size).await
    }

    /// Starts a command in a step's image.
    ///
    /// # Errors
    /// It cannot be run, or the machine is gone.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec, GuestError> {
        match &self.kind {
            Kind::Vm(vm) => vm.guest().exec(spec).await.map(Exec::Guest),
            Kind::Containers(machine) => machine.exec(spec).await.map(Exec::Container),
        }
    }

    /// What all steps used so far.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn usage(&self) -> Result<Usage, GuestError> {
        match &self.kind {
            Kind::Vm(vm) => vm.guest().usage().await,
            Kind::Containers(machine) => Ok(machine.usage()),
        }
    }

    /// What it is made of, for people.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Vm(_) => "microVM and its disk",
            Kind::Containers(_) => "containers and the workspace",
        }
    }

    /// Where the time of its start went, for people.
    pub fn boot_report(&self) -> String {
        let vm = match &self.kind {
            Kind::Vm(vm) => vm,
            Kind::Containers(machine) => return machine.report(),
        };
        let timings = vm.boot_timings();
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
        match &self.kind {
            Kind::Vm(vm) => vm.exited().await,
            Kind::Containers(machine) => machine.exited().await,
        }
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
        match &self.kind {
            Kind::Vm(vm) => vm.destroy().await,
            Kind::Containers(machine) => machine.destroy().await,
        }
        if let Some(network) = self.network.lock().await.take() {
            network.remove().await;
        }
    }
}

impl Exec {
    /// What it reads. Of use only if the spec asked for `stdin` or `tty`.
    pub fn input(&self) -> Input {
        match self {
            Self::Guest(exec) => Input::Guest(exec.input()),
            Self::Container(exec) => Input::Container(exec.input()),
        }
    }

    /// The next output, or `None` when the command ended.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        match self {
            Self::Guest(exec) => exec.next().await,
            Self::Container(exec) => exec.next().await,
        }
    }

    /// Kills every process of the command; [`Exec::wait`] then tells `killed`.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn kill(&self) -> Result<(), GuestError> {
        match self {
            Self::Guest(exec) => exec.kill().await,
            Self::Container(exec) => exec.kill().await,
        }
    }

    /// How it ended. Output not yet taken is discarded.
    ///
    /// # Errors
    /// It never ran, or the machine is gone.
    pub async fn wait(self) -> Result<ExecResult, GuestError> {
        match self {
            Self::Guest(exec) => exec.wait().await,
            Self::Container(exec) => exec.wait().await,
        }
    }
}

impl Input {
    /// Writes; waits while the command does not read.
    ///
    /// # Errors
    /// The command ended, or the machine.
    pub async fn send(&self, data: &[u8]) -> Result<(), GuestError> {
        match self {
            Self::Guest(input) => input.send(data).await,
            Self::Container(input) => input.send(data).await,
        }
    }

    /// Changes the size of its terminal; a command that ended is fine.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), GuestError> {
        match self {
            Self::Guest(input) => input.resize(size).await,
            Self::Container(input) => input.resize(size).await,
        }
    }

    /// Ends what the command reads. A terminal is hung up: its program is told, and killed if it is still
    /// there seconds later.
    pub async fn end(&self) {
        match self {
            Self::Guest(input) => input.end().await,
            Self::Container(input) => input.end().await,
        }
    }
}

/// Serial by which the guest finds a step image.
pub fn image_serial(index: usize) -> String {
    format!("image-{index}")
}
