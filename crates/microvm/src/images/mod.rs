//! Container images as read-only disks: a reference in, one squashfs file out.
//!
//! [`ImageStore::get`] asks the registry who the reference is *now* and whether this requester may have
//! it, downloads what is missing, merges the layers as an overlay mount would show them, writes the
//! result once per manifest digest as a squashfs file and hands out a guarded path to it. Nothing of an
//! image is ever unpacked into the host's file system.
//!
//! What is refused or changed on the way is listed in `docs/images.md`.

mod error;
mod request;
pub mod squash;
mod store;

pub use error::{ErrorKind, ImageError};
pub use request::{
    Credentials, Image, ImageConfig, ImageGuard, ImageRequest, InstanceRegistry, Limits, Login,
    Phase, Platform, Progress, ProgressFn,
};
pub use store::{ImageStore, StoreOptions};
