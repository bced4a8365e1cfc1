//! Bare mirrors of the registered repositories, kept by the git program.
//!
//! A mirror is a folder of the data folder named by the repository's id, so that a rename moves nothing.
//! Git runs without system and user configuration, hooks or prompts; credentials of a remote travel in
//! the environment, never in an argument.

mod command;
mod keep;
mod mirror;
mod remote;
mod revision;
mod sync;
pub mod upload_pack;

pub use keep::{remove_repository, resolve, sync_repository};
pub use mirror::Mirrors;
pub use remote::{Remote, RemoteError};
pub use revision::ResolveError;
pub use sync::{SyncError, Synced};
