//! One microVM per job: builds the spec of a job's microVM and starts it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use microvm::disk::ScratchDisks;
use microvm::guest_client::Prepare;
use microvm::kernel::InstalledKernel;
use microvm::net::guest_card;
use microvm::{Accel, Disk, HostLimits, Nic, RunDirs, Vm, VmSpec, Vmm, accel, kernel};

use super::network::{MachineNetwork, Networks};
use super::{MachineSpec, RuntimeError, StartError, image_serial};
use crate::config::{Acceleration, Config, PROGRAMS, RuntimeChoice, VmmChoice};
use crate::metrics::Metrics;

const SCRATCH: &str = "scratch";
const WORKSPACE: &str = "workspace";
/// What a VMM needs beside the memory of its guest, with the page cache of its disks.
const VMM_MEMORY_MIB: u64 = 256;
/// QEMU needs more under software emulation: translated code, up to 256 MiB, and what describes it.
const EMULATOR_MEMORY_MIB: u64 = 768;
/// Threads of a VMM beside its vCPUs. QEMU also reads disks with up to 64.
const VMM_THREADS: u32 = 16;
const QEMU_THREADS: u32 = 96;

/// Everything that microVMs need.
pub struct MicroVms {
    kernel: InstalledKernel,
    vmm: Vmm,
    /// Why this one, for people.
    vmm_reason: String,
    ingress: Option<u64>,
    egress: Option<u64>,
    disks: ScratchDisks,
    run_dirs: RunDirs,
    networks: Networks,
    state_dir: PathBuf,
    boot_timeout: Duration,
}

impl MicroVms {
    pub(super) async fn open(config: &Config) -> Result<Self, RuntimeError> {
        let state_dir = config.state_dir.clone();
        let kernel_dir = config.qemu.kernel_dir.clone();
        let io = |what: &str| {
            let what = format!("{what} in {}", config.state_dir.display());
            move |source| RuntimeError::Io { what, source }
        };
        std::fs::create_dir_all(&state_dir).map_err(io("state directory"))?;
        let kernel = blocking(move || kernel::open(&kernel_dir)).await.map_err(io("kernel"))??;
        let dir = state_dir.clone();
        let reclaimed = blocking(move || RunDirs::reclaim(&dir)).await.and_then(|result| result);
        let reclaimed = reclaimed.map_err(io("reclaiming"))?;
        if reclaimed.processes + reclaimed.run_dirs > 0 {
            tracing::info!(
                processes = reclaimed.processes,
                directories = reclaimed.run_dirs,
                "removed what a dead executor left behind"
            );
        }
        let run_dirs = RunDirs::open(&state_dir).map_err(io("run directories"))?;
        let (wanted, upstream) = (config.network.enabled, config.network.upstream());
        let networks = Networks::open(&state_dir, run_dirs.owner(), wanted, upstream).await;
        networks.reclaim(&state_dir).await;
        let disks = ScratchDisks::open(&state_dir.join("disks"))
            .map_err(|error| io("scratch disks")(io::Error::other(error.to_string())))?;
        let (vmm, vmm_reason) = choose(config, &kernel).await?;
        Ok(Self {
            kernel,
            vmm,
            vmm_reason,
            ingress: config.firecracker.ingress,
            egress: config.firecracker.egress,
            disks,
            run_dirs,
            networks,
            state_dir,
            boot_timeout: config.qemu.boot_timeout,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.vmm {
            Vmm::Qemu { .. } => "qemu",
            Vmm::Firecracker { .. } => "firecracker",
        }
    }

    pub(super) fn acceleration(&self) -> &'static str {
        match self.vmm {
            Vmm::Qemu { accel, .. } => accel.as_str(),
            Vmm::Firecracker { .. } => Accel::Kvm.as_str(),
        }
    }

    pub(super) fn boot_timeout(&self) -> Duration {
        self.boot_timeout
    }

    /// Why guest code is executed as it is, for people.
    pub fn acceleration_reason(&self) -> &str {
        &self.vmm_reason
    }

    pub(super) async fn reclaim(&self) -> io::Result<()> {
        let dir = self.state_dir.clone();
        let reclaimed = blocking(move || RunDirs::reclaim(&dir)).await??;
        if reclaimed.processes + reclaimed.run_dirs > 0 {
            tracing::warn!(?reclaimed, "removed what a dead executor left behind");
        }
        self.networks.reclaim(&self.state_dir).await;
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.run_dirs.is_empty() && self.networks.is_empty()
    }

    pub(super) fn network_problem(&self) -> Option<&str> {
        self.networks.problem()
    }

    pub(super) async fn start(
        &self,
        mut spec: MachineSpec,
        metrics: &Metrics,
    ) -> Result<(Vm, Option<MachineNetwork>), StartError> {
        let network = match spec.network.take() {
            Some(policy) => Some(self.networks.create(&spec.name, policy, metrics).await?),
            None => None,
        };
        let run_dir = self.run_dirs.path(&spec.name);
        let scratch = run_dir.join("scratch.ext4");
        let owned = OwnedDir { path: Some(run_dir.clone()) };
        let (disks, path, mib) = (self.disks.clone(), scratch.clone(), spec.disk_mib);
        let made = blocking(move || {
            std::fs::create_dir_all(path.parent().expect("it is inside the run directory"))
                .map_err(|error| error.to_string())?;
            disks.create(&path, mib).map_err(|error| error.to_string())
        });
        made.await
            .map_err(|error| StartError::Host(error.to_string()))?
            .map_err(StartError::Host)?;
        let mut vm_spec = self.vm_spec(&spec, run_dir, scratch);
        vm_spec.nic = network.as_ref().map(|network| Nic {
            namespace: network.namespace().to_owned(),
            ingress: self.ingress,
            egress: self.egress,
        });
        let prepare = Prepare { network: network.as_ref().map(|_| guest_card()), ..prepare(&spec) };
        let vm = Vm::boot(vm_spec, Instant::now() + self.boot_timeout).await?;
        owned.keep();
        match vm.guest().prepare(prepare).await {
            Ok(()) => Ok((vm, network)),
            Err(error) => {
                vm.destroy().await;
                if let Some(network) = network {
                    network.remove().await;
                }
                Err(StartError::Prepare(error))
            }
        }
    }

    /// The microVM of a job; a function of the job and of what is installed.
    fn vm_spec(&self, spec: &MachineSpec, run_dir: PathBuf, scratch: PathBuf) -> VmSpec {
        let disk = |path: PathBuf, read_only, serial: String| Disk { path, read_only, serial };
        let mut disks = vec![disk(scratch, false, SCRATCH.to_owned())];
        disks.extend(spec.workspace.clone().map(|path| disk(path, true, WORKSPACE.to_owned())));
        disks.extend(
            spec.images
                .iter()
                .enumerate()
                .map(|(index, image)| disk(image.squashfs.clone(), true, image_serial(index))),
        );
        VmSpec {
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disks,
            run_dir,
            host_limits: host_limits(&self.vmm, spec.vcpus),
            ..VmSpec::new(&spec.name, &self.kernel, self.vmm.clone())
        }
    }
}

/// What the VMM itself may take: far more than it needs, far less than what would hurt the others.
fn host_limits(vmm: &Vmm, vcpus: u32) -> HostLimits {
    let (memory, threads) = match vmm {
        Vmm::Firecracker { .. } => (VMM_MEMORY_MIB, VMM_THREADS),
        Vmm::Qemu { accel: Accel::Kvm, .. } => (VMM_MEMORY_MIB, QEMU_THREADS),
        Vmm::Qemu { accel: Accel::Tcg, .. } => (EMULATOR_MEMORY_MIB, QEMU_THREADS),
    };
    HostLimits {
        memory_overhead_mib: Some(memory),
        cpu_percent: None,
        tasks: Some(vcpus + threads),
    }
}

/// The VMM that the operator wants, or the best that runs guests here, and why.
async fn choose(config: &Config, kernel: &InstalledKernel) -> Result<(Vmm, String), RuntimeError> {
    let RuntimeChoice::MicroVms(wish) = config.runtime else {
        unreachable!("microVMs are opened where they are chosen")
    };
    let tried = match (wish, config.qemu.acceleration) {
        (VmmChoice::Qemu, _) => Err("EXECUTOR_RUNTIME=qemu".to_owned()),
        (VmmChoice::Auto | VmmChoice::Firecracker, Acceleration::Tcg) => {
            Err("EXECUTOR_ACCELERATION=tcg, and Firecracker needs KVM".to_owned())
        }
        (VmmChoice::Auto | VmmChoice::Firecracker, _) => firecracker(config, kernel).await,
    };
    let why_not = match tried {
        Ok(chosen) => return Ok(chosen),
        Err(why_not) if wish == VmmChoice::Firecracker => {
            return Err(RuntimeError::NoFirecracker(why_not));
        }
        Err(why_not) => why_not,
    };
    let binary = config.qemu.binary.clone();
    let (accel, reason) = match config.qemu.acceleration {
        Acceleration::Tcg => (Accel::Tcg, "EXECUTOR_ACCELERATION=tcg".to_owned()),
        wish => {
            let detected = accel::detect(kernel, &binary, &config.state_dir).await;
            if wish == Acceleration::Kvm && detected.accel != Accel::Kvm {
                return Err(RuntimeError::NoKvm(detected.reason));
            }
            (detected.accel, format!("{} (not Firecracker: {why_not})", detected.reason))
        }
    };
    Ok((Vmm::Qemu { binary, accel }, reason))
}

async fn firecracker(config: &Config, kernel: &InstalledKernel) -> Result<(Vmm, String), String> {
    let installed = config.state_dir.join(PROGRAMS);
    let binary = find(&config.firecracker.binary, &installed)?;
    let jailer = find(&config.firecracker.jailer, &installed)?;
    let found = accel::try_firecracker(kernel, &binary, &jailer, &config.state_dir).await?;
    Ok((Vmm::Firecracker { binary, jailer }, found))
}

/// What we installed goes before what is in `PATH`. The jailer wants the absolute path of what it starts.
fn find(program: &Path, installed: &Path) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(installed.to_owned()).chain(std::env::split_paths(&path));
    let mut candidates = dirs.map(|dir| dir.join(program));
    let found = if program.components().count() > 1 {
        std::fs::canonicalize(program).ok()
    } else {
        candidates.find_map(|path| std::fs::canonicalize(path).ok())
    };
    found.ok_or_else(|| {
        format!("{} is not installed, run `executor install firecracker`", program.display())
    })
}

fn prepare(spec: &MachineSpec) -> Prepare {
    Prepare {
        scratch: SCRATCH.to_owned(),
        workspace: spec.workspace.as_ref().map(|_| WORKSPACE.to_owned()),
        images: (0..spec.images.len()).map(image_serial).collect(),
        max_processes: spec.max_processes,
        ..Prepare::default()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The run directory before the VM owns it.
struct OwnedDir {
    path: Option<PathBuf>,
}

impl OwnedDir {
    fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for OwnedDir {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Absent when boot failed and removed it itself; a rest is reclaimed at the next start.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
