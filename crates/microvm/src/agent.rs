//! The guest without a machine: the agent of a job whose steps run in containers.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub use guest_wire::{
    AGENT_WORKSPACE, CONTAINER_ARGUMENT, CONTAINER_CHANNELS, GATEWAY_HOST, WORKSPACE,
};
use guest_wire::{BULK_SOCKET, CONTROL_SOCKET, GENERATION, OLDEST_GENERATION};
use tokio::net::UnixListener;

use crate::channel::{Channel, HelloError};
use crate::guest_client::GuestClient;
use crate::{initramfs, sockets, vm};

/// The agent: a static program for this executor's own architecture. Its first argument is
/// [`CONTAINER_ARGUMENT`].
pub const PROGRAM: &[u8] = initramfs::GUEST;

/// The sockets on which an agent is awaited. They stay in their folder until that is removed.
#[derive(Debug)]
pub struct Agent {
    control: UnixListener,
    bulk: UnixListener,
}

/// The agent did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A socket.
    #[error("sockets of the agent: {0}")]
    Sockets(#[from] io::Error),
    /// It said something else than hello, or nothing.
    #[error("the agent's hello: {0}")]
    Hello(String),
}

impl Agent {
    /// Listens in `dir`, which the agent must see as [`CONTAINER_CHANNELS`].
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn listen(dir: &Path) -> io::Result<Self> {
        let [control, bulk] = sockets::listen(dir, [CONTROL_SOCKET, BULK_SOCKET])?;
        for name in [CONTROL_SOCKET, BULK_SOCKET] {
            // The agent may be of another user here, where the engine maps users. Nobody else gets at the folder.
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o666))?;
        }
        Ok(Self { control, bulk })
    }

    /// Waits for the agent.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn greet(self) -> Result<GuestClient, AgentError> {
        let (control, bulk) = tokio::try_join!(self.control.accept(), self.bulk.accept())?;
        let opened = Channel::open(control.0, bulk.0, vm::hello()).await;
        let (channel, _) = opened.map_err(|error| {
            AgentError::Hello(match error {
                HelloError::Closed(why) | HelloError::Protocol(why) => why,
                HelloError::Generation(theirs) => format!(
                    "it speaks generations {theirs:?}, this executor {OLDEST_GENERATION} to {GENERATION}"
                ),
            })
        })?;
        Ok(GuestClient::new(channel))
    }
}
