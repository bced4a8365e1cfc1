//! A microVM really boots. That `/dev/kvm` opens proves nothing.

use std::time::Duration;

use executor::config::Config;
use executor::metrics::Metrics;
use executor::runtime::{MachineSpec, Runtime, RuntimeError};

use super::{Check, Finding, check, tools};

/// The trial machine does nothing, quickly.
const MEMORY_MIB: u64 = 256;
const DISK_MIB: u64 = 64;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let runtime = match Runtime::open(config).await {
        Ok(runtime) => runtime,
        Err(error) => return vec![check("vm-image", cannot_open(&error))],
    };
    let mut checks =
        vec![check("vm-image", Finding::Ok("kernel and initramfs are installed".into()))];
    if runtime.name() == "qemu" {
        checks.push(tools::qemu(config).await);
    }
    checks.push(check("cgroups", cgroups()));
    checks.push(check("acceleration", acceleration(&runtime)));
    checks.push(check("network", network(config, &runtime)));
    checks.push(check("microVM", boot(config, &runtime).await));
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
    };
    Finding::error(error.to_string(), fix)
}

fn acceleration(runtime: &Runtime) -> Finding {
    let Runtime::MicroVms(vms) = runtime;
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
                    "the microVM could not be destroyed",
                    "look at the host's kernel log",
                ),
            }
        }
        Err(error) => Finding::error(
            format!("a trial microVM did not start: {error}"),
            "run `executor install vm-image` again; see the console lines above",
        ),
    }
}
