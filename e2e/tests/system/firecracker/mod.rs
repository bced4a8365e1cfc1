//! Firecracker in its jail, on a machine with KVM.

mod host;
mod jobs;
mod network;
mod reclaim;
