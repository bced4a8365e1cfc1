//! Whether KVM works here. That `/dev/kvm` opens proves nothing: a guest must really run.

use std::path::Path;

use crate::kernel::InstalledKernel;
use crate::spec::Accel;

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

/// Boots a trial VM under KVM, for at most a few seconds, unless `state_dir` remembers the answer.
pub async fn detect(kernel: &InstalledKernel, qemu: &Path, state_dir: &Path) -> Detected {
    let _ = (kernel, qemu, state_dir);
    todo!("lands next")
}
