//! A machine as that of a job really starts. That `/dev/kvm` opens proves nothing.

use std::path::Path;
use std::time::Duration;

use executor::config::Config;
use executor::metrics::Metrics;
use executor::runtime::containers::{self, Containers};
use executor::runtime::{MachineSpec, MicroVms, Runtime, RuntimeError};

use super::{Check, Finding, check, tools};

/// The trial machine does nothing, quickly.
const MEMORY_MIB: u64 = 256;
const DISK_MIB: u64 = 64;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let runtime = match Runtime::open(config).await {
        Ok(runtime) => runtime,
        Err(error @ (RuntimeError::Engine(_) | RuntimeError::NotRoot)) => {
            return vec![check("container engine", cannot_open(&error))];
        }
        Err(error) => return vec![check("vm-image", cannot_open(&error))],
    };
    let mut checks = match &runtime {
        Runtime::MicroVms(vms) => micro_vms(config, &runtime, vms).await,
        Runtime::Containers(containers) => container_engine(containers).await,
    };
    checks.push(check("network", network(config, &runtime)));
    let name = if runtime.acceleration().is_empty() { "container" } else { "microVM" };
    checks.push(check(name, boot(config, &runtime).await));
    checks
}

async fn micro_vms(config: &Config, runtime: &Runtime, vms: &MicroVms) -> Vec<Check> {
    let installed = check("vm-image", Finding::Ok("kernel and initramfs are installed".into()));
    let mut checks = vec![installed];
    if runtime.name() == "qemu" {
        checks.push(tools::qemu(config).await);
    }
    checks.push(check("cgroups", cgroups()));
    checks.push(check("acceleration", acceleration(runtime, vms)));
    checks
}

async fn container_engine(containers: &Containers) -> Vec<Check> {
    let (description, missing) = containers.describe();
    let mut checks = vec![
        check("container engine", Finding::Ok(description)),
        check(
            "isolation",
            Finding::warning(
                "every job shares this machine's kernel: EXECUTOR_DANGER_ALLOW_CONTAINERS is set",
                "set EXECUTOR_RUNTIME=auto for microVMs, unless all jobs are trusted",
            ),
        ),
    ];
    checks.extend(
        missing
            .into_iter()
            .map(|(problem, fix)| check("isolation", Finding::warning(problem, fix))),
    );
    for (program, question, package) in containers::PROGRAMS {
        checks.push(check(program, tools::program(Path::new(program), question, package).await));
    }
    checks
}

fn cannot_open(error: &RuntimeError) -> Finding {
    let fix = match error {
        RuntimeError::Kernel(_) => "run `executor install vm-image`",
        RuntimeError::NoKvm(_) => {
            "load the module kvm_intel or kvm_amd, allow nested virtualization, or set EXECUTOR_ACCELERATION=auto"
        }
        RuntimeError::NoFirecracker(_) => {
            "install Firecracker 1.16.1 or later with its jailer and run as root on a machine with KVM, or set EXECUTOR_RUNTIME=auto"
        }
        RuntimeError::Images(_) | RuntimeError::Io { .. } => "check EXECUTOR_STATE_DIR",
        RuntimeError::NotRoot => "run as root, or set EXECUTOR_RUNTIME=auto for microVMs",
        RuntimeError::Engine(_) => {
            "install and start Docker Engine (docker.io) or Podman's API service, or name its socket by DOCKER_HOST=unix:///path"
        }
    };
    Finding::error(error.to_string(), fix)
}

fn acceleration(runtime: &Runtime, vms: &MicroVms) -> Finding {
    match runtime.acceleration() {
        "kvm" => Finding::Ok(format!("KVM: {}", vms.acceleration_reason())),
        _ => Finding::warning(
            format!(
                "software emulation, many times slower than KVM: {}",
                vms.acceleration_reason()
            ),
            "use a machine with virtualization, for example a metal instance or one with nested virtualization",
        ),
    }
}

fn cgroups() -> Finding {
    match microvm::check_host_limits() {
        Ok(()) => Finding::Ok("memory and threads of each VMM are limited".into()),
        Err(problem) => Finding::warning(
            format!("a VMM could take more memory than its guest has: {problem}"),
            "run as root, with cgroups of version 2 mounted on /sys/fs/cgroup, or those of version 1 below it",
        ),
    }
}

/// A namespace with its rules was made and removed, as for a job.
fn network(config: &Config, runtime: &Runtime) -> Finding {
    match runtime.network_problem() {
        None => Finding::Ok("jobs can have a network of their own".into()),
        Some(_) if !config.network.enabled => {
            Finding::Ok("no job gets a network: EXECUTOR_NETWORK=none".into())
        }
        Some(problem) => Finding::warning(
            format!("jobs get no network: {problem}"),
            "run as root with the packages iproute2 and nftables, or set EXECUTOR_NETWORK=none",
        ),
    }
}

async fn boot(config: &Config, runtime: &Runtime) -> Finding {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let spec = MachineSpec {
        name: format!("{}-validate-{}", config.qemu.vm_prefix, &unique[..8]),
        vcpus: 1,
        memory_mib: MEMORY_MIB,
        disk_mib: DISK_MIB,
        max_processes: 16,
        images: Vec::new(),
        workspace: None,
        network: None,
    };
    match runtime.start(spec, &Metrics::default()).await {
        Ok(machine) => {
            let report = machine.boot_report();
            // A machine that hangs while it is destroyed is killed when dropped.
            let gone = tokio::time::timeout(Duration::from_secs(10), machine.destroy()).await;
            match gone {
                Ok(()) => Finding::Ok(report),
                Err(_) => Finding::error(
                    "the trial machine could not be destroyed",
                    "look at the host's kernel log",
                ),
            }
        }
        Err(error) => {
            // What it began goes with it; that takes a moment.
            runtime.settled().await;
            Finding::error(
                format!("a trial machine did not start: {error}"),
                match runtime {
                    Runtime::MicroVms(_) => {
                        "run `executor install vm-image` again; see the console lines above"
                    }
                    Runtime::Containers(_) => "look at the engine's own log",
                },
            )
        }
    }
}
