//! The agent's end of what a step reads: a pipe, or the step's terminal.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use guest_wire::message::TerminalSize;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::agent::lock;
use crate::bulk::Stream;
use crate::output::{Stop, Woken, wait_for};

/// A terminal as the host last wanted it.
pub struct Terminal {
    size: TerminalSize,
    /// `None` before it exists and after it was hung up.
    end: Option<Arc<File>>,
}

impl Terminal {
    /// One that is still to be made.
    pub fn new(size: TerminalSize) -> Mutex<Self> {
        Mutex::new(Self { size, end: None })
    }

    /// It exists now.
    pub fn made(terminal: &Mutex<Self>, end: &Arc<File>) {
        let mut terminal = lock(terminal);
        terminal.end = Some(Arc::clone(end));
        // It may have been resized since the step's process was told its size.
        terminal.apply();
    }

    /// Changes the size, now or when it exists.
    pub fn resize(terminal: &Mutex<Self>, size: TerminalSize) {
        let mut terminal = lock(terminal);
        terminal.size = size;
        terminal.apply();
    }

    /// Lets go of it; hung up once everyone did.
    pub fn hang_up(terminal: &Mutex<Self>) {
        lock(terminal).end = None;
    }

    fn apply(&self) {
        if let Some(end) = &self.end
            && let Err(errno) = set_size(end.as_fd(), self.size)
        {
            println!("guest: size of a terminal: {errno}");
        }
    }
}

/// Sets the size of a terminal, which tells its programs.
pub fn set_size(terminal: BorrowedFd, size: TerminalSize) -> nix::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads one structure of the kernel's layout, which lives over the call.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(set).map(drop)
}

/// What came first on the line from the step's process.
pub enum Handed {
    /// The agent's end, ready for [`feed`].
    End(Arc<File>),
    /// It failed before: the first byte of its report, unless the process is gone.
    Report(Option<u8>),
}

/// Waits until the step's process has made what the step reads, or failed.
pub fn receive(line: &UnixStream) -> nix::Result<Handed> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let (length, descriptor) = loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        // The agent starts other processes: none of them may inherit this.
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            message => message?,
        };
        let rights = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel just made it for us, nobody else knows it.
        let descriptor = rights.map(|number| unsafe { OwnedFd::from_raw_fd(number) });
        break (message.bytes, descriptor);
    };
    let Some(descriptor) = descriptor else {
        return Ok(Handed::Report((length > 0).then_some(byte[0])));
    };
    // A step that does not read must not hold whoever writes.
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(Handed::End(Arc::new(File::from(descriptor))))
}

/// Gives the step what the host sends, until the host's end, or nobody reads any more.
pub fn feed(end: &File, stream: &Stream, stop: &Stop) {
    stream.grant_window();
    while let Ok(Some(data)) = stream.receive() {
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            match (&*end).write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if wait_for(end.as_fd(), PollFlags::POLLOUT, stop) == Woken::Stopped {
                        return;
                    }
                }
                // No program holds the terminal open; one may open it again.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
                Err(_) => return,
            }
        }
    }
}
