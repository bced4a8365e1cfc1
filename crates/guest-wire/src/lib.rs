//! What crosses between an executor on the host and the guest inside a microVM.
//!
//! Two byte channels join them (two virtio-serial ports on QEMU, two vsock ports on Firecracker):
//!
//! * **control** – requests of the host and the guest's replies, JSON, at most
//!   [`CONTROL_FRAME_MAX`] bytes each. The host drives: the guest sends nothing here that was not asked.
//! * **bulk** – many streams (step output, files, connections to the gateway) in binary frames of at
//!   most [`BULK_FRAME_MAX`] bytes, each stream with its own credit, so that none can block another or
//!   make either side hold more than its window.
//!
//! Nothing here does IO; both sides treat what they read as hostile. Versions: see `VERSIONING.md`.

pub mod bulk;
pub mod frame;
pub mod message;

pub use bulk::{BulkError, BulkFrame, Tag};
pub use frame::{Decoder, FrameError, encode};

/// The newest surface this build speaks. See `VERSIONING.md`.
pub const GENERATION: u32 = 2;
/// The oldest surface this build still speaks.
pub const OLDEST_GENERATION: u32 = 1;
/// The first surface with [`message::Exec::stdin`], [`message::Exec::tty`] and [`message::Request::Resize`].
pub const TERMINAL_GENERATION: u32 = 2;

/// Longest control frame, in bytes, without its length prefix.
pub const CONTROL_FRAME_MAX: usize = 64 * 1024;
/// Longest bulk frame, in bytes, without its length prefix.
pub const BULK_FRAME_MAX: usize = 256 * 1024;

/// Name of the control channel's port: the guest finds it under `/sys/class/virtio-ports`.
pub const CONTROL_PORT: &str = "executors.control";
/// Name of the bulk channel's port.
pub const BULK_PORT: &str = "executors.bulk";

/// Port of the control channel where it is vsock: the guest connects to it on the host (CID 2).
pub const CONTROL_VSOCK_PORT: u32 = 1;
/// Port of the bulk channel where it is vsock.
pub const BULK_VSOCK_PORT: u32 = 2;
/// Kernel argument that names the kind of channel; `vsock`, or absent for virtio-serial ports.
pub const CHANNEL_ARGUMENT: &str = "executors.channel=";
/// Kernel argument with the serials of the disks in their order, for VMMs that cannot set serials.
pub const DISKS_ARGUMENT: &str = "executors.disks=";

/// First argument of the guest where it is no init process but the agent of a container: it serves files
/// and the gateway, and other containers run the steps.
pub const CONTAINER_ARGUMENT: &str = "container";
/// Folder of the channels' sockets in the agent's container; the host listens on them.
pub const CONTAINER_CHANNELS: &str = "/channels";
/// The control channel's socket.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The bulk channel's socket.
pub const BULK_SOCKET: &str = "bulk.sock";
/// Where the agent, in a machine or a container, sees the workspace.
pub const AGENT_WORKSPACE: &str = "/workspace";

/// Where the workspace is seen by every step.
pub const WORKSPACE: &str = "/data";
/// The name under which steps reach the gateway to the instance.
pub const GATEWAY_HOST: &str = "instance.internal";
