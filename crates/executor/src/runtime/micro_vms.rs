//! One microVM per job: builds the spec of a job's microVM and starts it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use microvm::disk::ScratchDisks;
use microvm::guest_client::Prepare;
use microvm::kernel::InstalledKernel;
use microvm::net::guest_card;
use microvm::{Accel, Disk, Nic, RunDirs, Vm, VmSpec, Vmm, accel, kernel};

use tokio::sync::Mutex;

use super::network::Networks;
use super::{Machine, MachineSpec, RuntimeError, StartError, image_serial};
use crate::config::{Acceleration, Config};
use crate::metrics::Metrics;

const SCRATCH: &str = "scratch";
const WORKSPACE: &str = "workspace";

/// Everything that microVMs need.
pub struct MicroVms {
    kernel: InstalledKernel,
    binary: PathBuf,
    accel: Accel,
    accel_reason: String,
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
        let binary = config.qemu.binary.clone();
        let (accel, accel_reason) = match config.qemu.acceleration {
            Acceleration::Tcg => (Accel::Tcg, "EXECUTOR_ACCELERATION=tcg".to_owned()),
            wish => {
                let detected = accel::detect(&kernel, &binary, &state_dir).await;
                if wish == Acceleration::Kvm && detected.accel != Accel::Kvm {
                    return Err(RuntimeError::NoKvm(detected.reason));
                }
                (detected.accel, detected.reason)
            }
        };
        Ok(Self {
            kernel,
            binary,
            accel,
            accel_reason,
            disks,
            run_dirs,
            networks,
            state_dir,
            boot_timeout: config.qemu.boot_timeout,
        })
    }

    pub(super) fn acceleration(&self) -> Accel {
        self.accel
    }

    pub(super) fn boot_timeout(&self) -> Duration {
        self.boot_timeout
    }

    /// Why guest code is executed as it is, for people.
    pub fn acceleration_reason(&self) -> &str {
        &self.accel_reason
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

    pub(super) fn network_problem(&self) -> Option<&str> {
        self.networks.problem()
    }

    pub(super) async fn start(
        &self,
        mut spec: MachineSpec,
        metrics: &Metrics,
    ) -> Result<Machine, StartError> {
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
        vm_spec.nic =
            network.as_ref().map(|network| Nic { namespace: network.namespace().to_owned() });
        let prepare = Prepare { network: network.as_ref().map(|_| guest_card()), ..prepare(&spec) };
        let vm = Vm::boot(vm_spec, Instant::now() + self.boot_timeout).await?;
        let machine = Machine { vm, network: Mutex::new(network), _running: metrics.vm_running() };
        owned.keep();
        match machine.guest().prepare(prepare).await {
            Ok(()) => Ok(machine),
            Err(error) => {
                machine.destroy().await;
                Err(StartError::Prepare(error))
            }
        }
    }

    /// The microVM of a job; a function of the job and of what is installed.
    fn vm_spec(&self, spec: &MachineSpec, run_dir: PathBuf, scratch: PathBuf) -> VmSpec {
        let vmm = Vmm::Qemu { binary: self.binary.clone(), accel: self.accel };
        let disk = |path: PathBuf, read_only, serial: String| Disk { path, read_only, serial };
        let mut disks = vec![disk(scratch, false, SCRATCH.to_owned())];
        disks.extend(spec.workspace.clone().map(|path| disk(path, true, WORKSPACE.to_owned())));
        disks.extend(
            spec.images
                .iter()
                .enumerate()
                .map(|(index, path)| disk(path.clone(), true, image_serial(index))),
        );
        VmSpec {
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disks,
            run_dir,
            ..VmSpec::new(&spec.name, &self.kernel, vmm)
        }
    }
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
