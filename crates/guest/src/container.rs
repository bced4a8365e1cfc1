//! The agent of a container: the same files, artifacts and gateway as in a microVM, so that what a hostile
//! step left in the workspace is handled by one piece of code, without rights on the host. It is PID 1 of the
//! process namespace that the steps' containers share: when its executor is gone it ends, and they with it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use guest_wire::{BULK_SOCKET, CONTAINER_CHANNELS, CONTROL_SOCKET};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::agent::{self, Home};
use crate::boot::Channels;
use crate::failure::{Context, Result};

/// Serves until the executor is gone.
pub fn main() -> ExitCode {
    // Orphans of the steps fall to PID 1: ignored, they leave no zombie.
    // SAFETY: no handler is installed.
    if let Err(errno) = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) } {
        println!("agent: orphans will not be reaped: {errno}");
    }
    match open_channels().and_then(|channels| agent::serve(channels, Home::Container)) {
        Ok(why) => {
            println!("agent: {why}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("agent: error: {}", failure.message);
            ExitCode::FAILURE
        }
    }
}

fn open_channels() -> Result<Channels> {
    let connect = |name| {
        let path = Path::new(CONTAINER_CHANNELS).join(name);
        let socket = UnixStream::connect(&path).context(path.display())?;
        Ok(File::from(OwnedFd::from(socket)))
    };
    Ok(Channels { control: connect(CONTROL_SOCKET)?, bulk: connect(BULK_SOCKET)? })
}
