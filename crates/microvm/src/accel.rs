//! Whether KVM works here. That `/dev/kvm` opens proves nothing: a guest must really run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::kernel::InstalledKernel;
use crate::run_dirs::RunDirs;
use crate::spec::{Accel, VmSpec, Vmm};
use crate::vm::Vm;

/// A guest under KVM is there within a second; a busy host may need some more.
const TRIAL: Duration = Duration::from_secs(8);
const MEMORY: &str = "acceleration.json";

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
    let key = key(kernel, qemu);
    let path = state_dir.join(MEMORY);
    if let Some(memory) = recall(&path, &key) {
        return answer(memory.kvm, memory.reason, true);
    }
    let (kvm, reason) = match trial(kernel, qemu, state_dir).await {
        Ok(took) => (true, format!("a trial guest ran under KVM within {} ms", took.as_millis())),
        Err(why) => (false, format!("/dev/kvm opens, but no guest runs under it: {why}")),
    };
    remember(&path, &Memory { key, kvm, reason: reason.clone() });
    answer(kvm, reason, false)
}

fn answer(kvm: bool, reason: String, remembered: bool) -> Detected {
    let accel = if kvm { Accel::Kvm } else { Accel::Tcg };
    Detected { accel, reason, remembered }
}

async fn trial(
    kernel: &InstalledKernel,
    qemu: &Path,
    state_dir: &Path,
) -> Result<Duration, String> {
    let run_dirs = RunDirs::open(state_dir).map_err(|error| error.to_string())?;
    let vmm = Vmm::Qemu { binary: PathBuf::from(qemu), accel: Accel::Kvm };
    let run_dir = run_dirs.path("trial");
    let spec = VmSpec { run_dir, memory_mib: 256, ..VmSpec::new("trial", kernel, vmm) };
    let begin = Instant::now();
    let vm = Vm::boot(spec, begin + TRIAL).await.map_err(|error| error.to_string())?;
    let took = begin.elapsed();
    vm.destroy().await;
    Ok(took)
}

/// What an answer holds for: this boot of the host, this kernel, this QEMU.
fn key(kernel: &InstalledKernel, qemu: &Path) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path);
        metadata.map(|metadata| format!("{:?}{}", metadata.modified(), metadata.len()))
    };
    let text = format!("{boot}{qemu:?}{:?}{:?}", stamp(qemu), stamp(&kernel.initramfs));
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
