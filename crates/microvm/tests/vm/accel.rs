//! What is said of KVM is what a real boot shows.

use std::path::Path;
use std::time::Instant;

use microvm::{Accel, Vm, Vmm, accel};

use crate::machine::{PATIENCE, kernel, spec};

#[tokio::test(flavor = "multi_thread")]
async fn kvm_is_believed_only_if_a_guest_runs_under_it() {
    let state = tempfile::tempdir().unwrap();
    let qemu = Path::new("/usr/bin/qemu-system-x86_64");
    let first = accel::detect(&kernel(), qemu, state.path()).await;
    assert!(!first.remembered && !first.reason.is_empty(), "{first:?}");
    let again = accel::detect(&kernel(), qemu, state.path()).await;
    assert_eq!((again.accel, again.remembered), (first.accel, Path::new("/dev/kvm").exists()));
    let (_dir, mut under_kvm) = spec();
    under_kvm.vmm = Vmm::Qemu { binary: qemu.into(), accel: Accel::Kvm };
    let boots = Vm::boot(under_kvm, Instant::now() + PATIENCE / 4).await;
    assert_eq!(boots.is_ok(), first.accel == Accel::Kvm, "{first:?}");
    let left = std::fs::read_dir(state.path().join("vms")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the trial leaves nothing");
}
