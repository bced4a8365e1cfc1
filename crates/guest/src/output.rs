//! What a step writes, on its way to the host.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use guest_wire::Tag;
use guest_wire::bulk::CHUNK;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::agent::lock;
use crate::bulk::Stream;
use crate::pause::pause;

/// After small pieces in rapid succession more are given that long to gather: the agent goes before steps,
/// so it would otherwise carry each of their writes by itself.
const GATHER: Duration = Duration::from_millis(2);
/// Pause before a terminal that no program holds open is looked at again, in milliseconds.
const IDLE_MS: u16 = 100;
/// The most that is still read after the stop, in bytes: a pipe holds no more, and another step that holds
/// the writing end must not go on forever.
const REST_MAX: usize = 1 << 20;

/// Wakes everyone who carries bytes of a step, for good.
pub struct Stop {
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

/// Why a wait is over.
#[derive(PartialEq, Eq)]
pub enum Woken {
    /// The descriptor is ready, or broken.
    Ready,
    /// It was told to stop, and the descriptor is not ready.
    Stopped,
}

impl Stop {
    /// Not stopped yet.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader, writer: Mutex::new(Some(writer)) })
    }

    /// Stops.
    pub fn stop(&self) {
        lock(&self.writer).take();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.writer).is_none()
    }

    /// Waits for it, but no longer than that.
    fn wait(&self, ms: u16) {
        let mut fds = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        let _: nix::Result<i32> = poll(&mut fds, PollTimeout::from(ms));
    }
}

/// Waits until the descriptor is ready for `what`, or for the stop.
pub fn wait_for(descriptor: BorrowedFd, what: PollFlags, stop: &Stop) -> Woken {
    loop {
        let mut fds =
            [PollFd::new(descriptor, what), PollFd::new(stop.reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[0].any() != Some(false) => return Woken::Ready,
            Ok(_) if fds[1].any() != Some(false) => return Woken::Stopped,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                println!("guest: wait for a step: {errno}");
                return Woken::Stopped;
            }
        }
    }
}

/// Sends what the step writes, as it comes. Once nobody listens, it is thrown away: a step must not
/// hang in a write because its reader is gone. After the stop only what is there already is sent.
pub fn forward(source: &File, tag: Tag, stream: &Stream, stop: &Stop) {
    let mut buffer = vec![0; CHUNK];
    let mut heard = true;
    let mut rest = REST_MAX;
    let mut last_sent: Option<Instant> = None;
    loop {
        if wait_for(source.as_fd(), PollFlags::POLLIN, stop) == Woken::Stopped {
            return;
        }
        match (&*source).read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                heard = heard && stream.send(tag, &buffer[..length]).is_ok();
                if stop.is_stopped() {
                    rest = rest.saturating_sub(length);
                    if rest == 0 {
                        return;
                    }
                    continue;
                }
                let rapid = last_sent.is_some_and(|last| last.elapsed() < 2 * GATHER);
                if rapid && length < CHUNK / 2 {
                    pause(GATHER);
                }
                last_sent = Some(Instant::now());
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            // No program holds the terminal open; one may open it again.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                if stop.is_stopped() {
                    return;
                }
                stop.wait(IDLE_MS);
            }
            Err(error) => {
                println!("guest: output of a step: {error}");
                return;
            }
        }
    }
}
