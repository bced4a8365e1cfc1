//! A [`VmSpec`] in, a running microVM out.
//!
//! ```text
//! RunDirs (who owns what) ─► Vm::boot(spec) ─► vm.guest(): GuestClient ─► prepare, exec, collect …
//!                                            └► vm.exited(): VmExit      └► gateway connections
//! ```
//!
//! * [`kernel`] prepares kernel and initramfs once; [`accel`] finds out by a trial boot whether KVM works;
//!   [`disk`] makes scratch disks; [`images`] makes read-only ones.
//! * Everything a VM leaves on the host is in its run directory, and [`RunDirs`] removes what a dead
//!   executor left behind.
//! * The host never mounts a file system that a guest wrote.

pub mod accel;
pub mod agent;
mod cgroup;
mod channel;
mod console;
pub mod disk;
pub mod firecracker;
pub mod guest_client;
pub mod images;
mod initramfs;
pub mod kernel;
mod kernel_args;
pub mod net;
mod orphans;
mod own_files;
mod pidfd;
mod qemu;
mod qmp;
mod run_dirs;
mod sockets;
mod spec;
mod tsc;
mod vm;

pub use cgroup::check as check_host_limits;
pub use guest_client::{
    Collect, CollectSpec, CollectedFile, Exec, ExecSpec, GatewayConn, GuestClient, GuestError,
    OutputChunk, Stdio,
};
pub use orphans::kill_helpers;
pub use run_dirs::{Reclaimed, RunDirs};
pub use spec::{Accel, DISKS_MAX, Disk, HostLimits, Nic, SERIAL_MAX, SpecError, VmSpec, Vmm};
pub use vm::{BootError, BootTimings, ExitReason, Vm, VmExit};
