//! Container images as read-only disks: a reference in, one squashfs file out.
//!
//! [`ImageStore::get`] asks the registry who the reference is *now* and whether this requester may have
//! it, downloads what is missing, merges the layers as an overlay mount would show them, writes the
//! result once per manifest digest as a squashfs file and hands out a guarded path to it. Nothing of an
//! image is ever unpacked into the host's file system.
//!
//! From the outside in: [`store`](ImageStore) → `pull` (one request) → `source` (registry or directory)
//! and `cache`; `convert` takes layers through `tar`, `layer` (one layer as a tree), `merge` (trees over
//! each other) and [`squash`].

mod cache;
mod convert;
mod error;
mod flight;
mod layer;
mod layout;
mod manifest;
mod merge;
mod pull;
mod reference;
pub(crate) mod registry;
mod request;
mod source;
pub mod squash;
mod store;
mod tar;
mod tree;

pub use error::{ErrorKind, ImageError};
pub use reference::{Digest, INSTANCE_HOST, Reference, RegistryReference};
pub use request::{
    Credentials, Image, ImageConfig, ImageGuard, ImageRequest, InstanceRegistry, Limits, Login,
    Phase, Platform, Progress, ProgressFn,
};
pub use store::{ImageStore, StoreOptions};

#[cfg(test)]
mod tests;
