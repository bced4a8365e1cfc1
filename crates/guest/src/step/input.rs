//! What a step reads: nothing, a pipe, or a terminal of its own, whose other end goes to the agent.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use guest_wire::message::TerminalSize;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};

use super::Plan;
use crate::failure::{Context, Result};
use crate::users::Identity;

/// The step's end.
pub enum Input {
    /// Standard input is empty.
    Nothing,
    /// Standard input is what the host sends.
    Pipe(OwnedFd),
    /// All three standard streams.
    Terminal(OwnedFd),
}

impl Input {
    /// Makes what the plan asks for and hands the other end to the agent. Called inside the step's root:
    /// its terminal is one of the step's own `/dev/pts`, so that programs find its name.
    pub fn open(plan: &Plan, line: &UnixStream) -> Result<Self> {
        match (plan.tty, plan.stdin) {
            (Some(size), _) => {
                let (agents, steps) = open_terminal(size)?;
                hand_over(line, &agents)?;
                Ok(Self::Terminal(steps))
            }
            (None, true) => {
                let (steps, agents) = std::io::pipe().context("pipe")?;
                hand_over(line, &OwnedFd::from(agents))?;
                Ok(Self::Pipe(steps.into()))
            }
            (None, false) => Ok(Self::Nothing),
        }
    }

    /// Makes it the standard streams of this process, which leads a session of its own.
    pub fn attach(self, identity: &Identity) -> Result<()> {
        let owner = (Some(identity.uid.into()), Some(identity.gid.into()));
        match self {
            Self::Nothing => Ok(()),
            Self::Pipe(pipe) => {
                nix::unistd::dup2_stdin(&pipe).context("standard input")?;
                // `/dev/stdin` opens the pipe anew, which only its owner may.
                nix::unistd::fchown(&pipe, owner.0, owner.1).context("hand over standard input")
            }
            Self::Terminal(terminal) => {
                // SAFETY: takes a plain number.
                let taken = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
                Errno::result(taken).context("take the terminal")?;
                nix::unistd::dup2_stdin(&terminal).context("standard input")?;
                nix::unistd::dup2_stdout(&terminal).context("standard output")?;
                nix::unistd::dup2_stderr(&terminal).context("standard error")
            }
        }
    }
}

/// Both ends of a new terminal: the agent's, the step's.
fn open_terminal(size: TerminalSize) -> Result<(OwnedFd, OwnedFd)> {
    let agents = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/pts/ptmx")
        .context("make a terminal")?;
    let unlock: libc::c_int = 0;
    // SAFETY: reads one int, which lives over the call.
    let unlocked = unsafe { libc::ioctl(agents.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    Errno::result(unlocked).context("unlock the terminal")?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes a plain number and returns a descriptor or -1.
    let opened: RawFd = unsafe { libc::ioctl(agents.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let opened = Errno::result(opened).context("open the terminal")?;
    // SAFETY: the kernel just made it, nobody else knows it.
    let steps = unsafe { OwnedFd::from_raw_fd(opened) };
    // Lets the kernel's own line editing rub out whole characters.
    let mut modes = tcgetattr(&steps).context("modes of the terminal")?;
    modes.input_flags |= InputFlags::IUTF8;
    tcsetattr(&steps, SetArg::TCSANOW, &modes).context("modes of the terminal")?;
    crate::input::set_size(agents.as_fd(), size).context("size of the terminal")?;
    Ok((agents.into(), steps))
}

/// Sends a descriptor beside an empty line, which reads as no report.
fn hand_over(line: &UnixStream, descriptor: &impl AsRawFd) -> Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let byte = [IoSlice::new(b"\n")];
    sendmsg::<()>(line.as_raw_fd(), &byte, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .context("hand the other end over")
        .map(drop)
}
