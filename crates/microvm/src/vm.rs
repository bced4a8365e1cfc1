//! The life of one microVM: boot, watch, destroy.

mod boot;
mod process;
mod stopped;
mod supervise;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use boot::hello;
use guest_wire::message::HelloReply;
use tokio::sync::{mpsc, watch};

use crate::console::Console;
use crate::guest_client::GuestClient;
use crate::spec::{SpecError, VmSpec};

/// A running microVM. Dropping it kills the VMM and tidies up in the background; [`Vm::destroy`] waits.
#[derive(Debug)]
pub struct Vm {
    guest: GuestClient,
    hello: HelloReply,
    timings: BootTimings,
    console: Console,
    /// Closed or used: the supervisor ends the VM.
    end: mpsc::Sender<()>,
    state: watch::Receiver<State>,
}

/// What the supervisor tells everyone.
#[derive(Clone, Debug)]
enum State {
    Running,
    Exited(VmExit),
    /// And nothing of it is left on the host.
    Removed(VmExit),
}

/// Why a VM did not come up. Each carries what is known of the reason.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The spec cannot be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The VMM could not be started at all.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The run directory or a socket in it could not be made.
    #[error("run directory {path}: {source}")]
    RunDir {
        /// Which path.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The VM ended before its guest said hello.
    #[error("the microVM ended during boot: {exit}")]
    Exited {
        /// How.
        exit: VmExit,
    },
    /// The deadline passed.
    #[error("no word from the guest within {waited:?}; console: {console_tail:?}")]
    Deadline {
        /// How long we waited.
        waited: Duration,
        /// Last lines of the serial console.
        console_tail: String,
    },
    /// Guest and executor have no generation in common; the initramfs is another build's.
    #[error("guest speaks generations {guest:?}, this executor {host:?}: reinstall the vm-image")]
    Generation {
        /// The guest's range.
        guest: (u32, u32),
        /// Ours.
        host: (u32, u32),
    },
    /// The guest said something else than hello.
    #[error("the guest's hello is not understood: {0}")]
    Protocol(String),
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmExit {
    /// Why.
    pub reason: ExitReason,
    /// Last lines of the serial console and of the VMM's own messages, at most a few KiB. Hostile text.
    pub console_tail: String,
}

/// Why a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest kernel panicked; the console's line that says so.
    Panic(String),
    /// The guest powered itself off without being asked.
    PowerOff,
    /// The guest reset itself (reboot, triple fault).
    Reset,
    /// The guest no longer answers, broke the protocol, or cannot answer because somebody stopped its VMM; the
    /// VMM was killed for it.
    Silent(String),
    /// The VMM died by itself: exit status or signal, and its own last words.
    VmmDied(String),
    /// We ended it: [`Vm::destroy`].
    Destroyed,
}

/// Where the time of a boot went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootTimings {
    /// From the call to the started VMM process.
    pub spawn: Duration,
    /// From there until the VMM opened its channels.
    pub vmm: Duration,
    /// From there to the guest's hello.
    pub guest: Duration,
}

impl Vm {
    /// Starts a VM and returns when its guest said hello. Whatever fails, nothing is left behind.
    ///
    /// # Errors
    /// [`BootError`].
    pub async fn boot(spec: VmSpec, deadline: Instant) -> Result<Self, BootError> {
        boot::boot(spec, deadline).await
    }

    /// Talks to the guest.
    pub fn guest(&self) -> &GuestClient {
        &self.guest
    }

    /// What the guest said of itself.
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// Where the boot's time went.
    pub fn boot_timings(&self) -> BootTimings {
        self.timings
    }

    /// Waits until the VM ended, however it ended. Any number of callers, any number of times.
    pub async fn exited(&self) -> VmExit {
        self.wait(|state| !matches!(state, State::Running)).await
    }

    /// Last lines of the serial console and of the VMM's messages.
    pub fn console_tail(&self) -> String {
        self.console.tail()
    }

    /// Kills the VMM, reaps it, removes the run directory. Safe to call twice.
    pub async fn destroy(&self) {
        // Full means that someone asked already; closed, that it is done.
        let _: Result<(), _> = self.end.try_send(());
        self.wait(|state| matches!(state, State::Removed(_))).await;
    }

    async fn wait(&self, reached: impl Fn(&State) -> bool) -> VmExit {
        let mut state = self.state.clone();
        let reached = state.wait_for(|state| reached(state)).await;
        match reached.as_deref() {
            Ok(State::Exited(exit) | State::Removed(exit)) => exit.clone(),
            // The supervisor died with its runtime; the VMM with it.
            Ok(State::Running) | Err(_) => {
                VmExit { reason: ExitReason::Destroyed, console_tail: self.console.tail() }
            }
        }
    }
}

impl std::fmt::Display for VmExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            ExitReason::Panic(line) => write!(f, "guest kernel panic: {line}"),
            ExitReason::PowerOff => f.write_str("the guest powered off"),
            ExitReason::Reset => f.write_str("the guest reset itself"),
            ExitReason::Silent(why) => write!(f, "the guest no longer answers: {why}"),
            ExitReason::VmmDied(how) => write!(f, "the VMM died: {how}"),
            ExitReason::Destroyed => f.write_str("destroyed"),
        }
    }
}
