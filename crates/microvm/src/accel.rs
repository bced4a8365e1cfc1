//! Whether KVM works here. That `/dev/kvm` opens proves nothing: a guest must really run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::firecracker::version::Version;
use crate::kernel::InstalledKernel;
use crate::run_dirs::RunDirs;
use crate::spec::{Accel, HostLimits, VmSpec, Vmm};
use crate::vm::Vm;

/// A guest under KVM is there within a second. A busy host may need many more, and the answer is remembered: a
/// machine that only has much to do must not count as one without KVM until its next boot.
const TRIAL: Duration = Duration::from_secs(30);
/// Limits of the VMM of a trial.
const OVERHEAD_MIB: u64 = 256;
const TASKS: u32 = 128;
const MEMORY: &str = "acceleration.json";
const FIRECRACKER_MEMORY: &str = "firecracker.json";

/// How guest code can be executed on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The best that works.
    pub accel: Accel,
    /// Why not KVM, or how it was found to work; for people.
    pub reason: String,
    /// Whether the answer comes from an earlier trial (same boot of the host, kernel and QEMU).
    pub remembered: bool,
}

/// The outcome of a trial, and what it is true for.
#[derive(Serialize, Deserialize)]
struct Memory {
    key: String,
    kvm: bool,
    reason: String,
}

/// Boots a trial VM under KVM, for at most a few seconds, unless `state_dir` remembers the answer.
pub async fn detect(kernel: &InstalledKernel, qemu: &Path, state_dir: &Path) -> Detected {
    // Cheap, and what it says is not worth remembering: permissions change.
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        let reason = format!("/dev/kvm: {error}");
        return Detected { accel: Accel::Tcg, reason, remembered: false };
    }
    let vmm = Vmm::Qemu { binary: PathBuf::from(qemu), accel: Accel::Kvm };
    let (memory, remembered) =
        remembered_trial(kernel, vmm, &[qemu], state_dir, &state_dir.join(MEMORY)).await;
    answer(memory.kvm, memory.reason, remembered)
}

/// Whether Firecracker runs guests here: its version is safe, and a trial VM boots in its jail, unless
/// `state_dir` remembers the answer. The paths are absolute.
///
/// # Errors
/// Why not, for people.
pub async fn try_firecracker(
    kernel: &InstalledKernel,
    binary: &Path,
    jailer: &Path,
    state_dir: &Path,
) -> Result<String, String> {
    let version = version_of(binary).await?;
    version.check()?;
    let jailers = version_of(jailer).await?;
    if jailers != version {
        return Err(format!("the jailer is of version {jailers}, Firecracker of {version}"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("the jailer of Firecracker must be started by root".to_owned());
    }
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Err(format!("/dev/kvm: {error}"));
    }
    let vmm = Vmm::Firecracker { binary: binary.to_owned(), jailer: jailer.to_owned() };
    let path = state_dir.join(FIRECRACKER_MEMORY);
    let programs = [binary, jailer];
    let (memory, _) = remembered_trial(kernel, vmm, &programs, state_dir, &path).await;
    if memory.kvm {
        Ok(format!("Firecracker {version}: {}", memory.reason))
    } else {
        Err(memory.reason)
    }
}

async fn version_of(program: &Path) -> Result<Version, String> {
    let shown = program.display();
    let output = tokio::process::Command::new(program).arg("--version").kill_on_drop(true).output();
    let output = match tokio::time::timeout(TRIAL, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{shown}: {error}")),
        Err(_) => return Err(format!("{shown} does not say its version")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    Version::parse(&text).ok_or_else(|| format!("{shown} does not say its version, but {text:?}"))
}

/// A trial under KVM, or what is remembered of an earlier one.
async fn remembered_trial(
    kernel: &InstalledKernel,
    vmm: Vmm,
    programs: &[&Path],
    state_dir: &Path,
    path: &Path,
) -> (Memory, bool) {
    let key = key(kernel, programs);
    if let Some(memory) = recall(path, &key) {
        return (memory, true);
    }
    let (kvm, reason) = match trial(kernel, vmm, state_dir).await {
        Ok(took) => (true, format!("a trial guest ran under KVM within {} ms", took.as_millis())),
        Err(why) => (false, format!("/dev/kvm opens, but no guest runs under it: {why}")),
    };
    let memory = Memory { key, kvm, reason };
    remember(path, &memory);
    (memory, false)
}

fn answer(kvm: bool, reason: String, remembered: bool) -> Detected {
    let accel = if kvm { Accel::Kvm } else { Accel::Tcg };
    Detected { accel, reason, remembered }
}

async fn trial(kernel: &InstalledKernel, vmm: Vmm, state_dir: &Path) -> Result<Duration, String> {
    let run_dirs = RunDirs::open(state_dir).map_err(|error| error.to_string())?;
    let unique = uuid::Uuid::now_v7().simple().to_string();
    let name = format!("trial-{unique}");
    let run_dir = run_dirs.path(&name);
    // With limits on the host, as a job has them: they could be what does not work.
    let host_limits = HostLimits {
        memory_overhead_mib: Some(OVERHEAD_MIB),
        tasks: Some(TASKS),
        ..HostLimits::default()
    };
    let spec = VmSpec { run_dir, memory_mib: 256, host_limits, ..VmSpec::new(name, kernel, vmm) };
    let begin = Instant::now();
    let vm = Vm::boot(spec, begin + TRIAL).await.map_err(|error| error.to_string())?;
    let took = begin.elapsed();
    vm.destroy().await;
    Ok(took)
}

/// What an answer holds for: this boot of the host, this kernel, these programs.
fn key(kernel: &InstalledKernel, programs: &[&Path]) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path);
        metadata.map(|metadata| format!("{:?}{}", metadata.modified(), metadata.len()))
    };
    let programs: Vec<_> = programs.iter().map(|program| (program, stamp(program))).collect();
    let text = format!("{boot}{programs:?}{:?}", stamp(&kernel.initramfs));
    hex::encode(Sha256::digest(format!("{text}{:?}", kernel.vmlinux)))
}

fn recall(path: &Path, key: &str) -> Option<Memory> {
    let memory: Memory = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (memory.key == key).then_some(memory)
}

fn remember(path: &Path, memory: &Memory) {
    let json = serde_json::to_vec(memory).expect("a memory has only string keys");
    // Forgetting only costs another trial.
    if let Err(error) = fs::write(path, json) {
        tracing::warn!(path = %path.display(), %error, "trial of KVM not remembered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_recalled_for_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MEMORY);
        assert!(recall(&path, "a").is_none());
        remember(&path, &Memory { key: "a".into(), kvm: true, reason: "it ran".into() });
        assert_eq!(recall(&path, "a").unwrap().reason, "it ran");
        assert!(recall(&path, "b").is_none());
        fs::write(&path, "cut").unwrap();
        assert!(recall(&path, "a").is_none());
    }
}
