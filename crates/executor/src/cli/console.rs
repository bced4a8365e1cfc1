//! The terminal that the operator sits at, and the signals that end a command.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsRawFd as _;

use executor::runtime::TerminalSize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Used where the terminal does not say.
const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Whether a person sits there: both standard input and output are a terminal.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Characters and rows of the terminal.
pub fn size() -> TerminalSize {
    mod ioctl {
        nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the structure, which lives over the call.
    let told = unsafe { ioctl::window_size(io::stdout().as_raw_fd(), &raw mut size) };
    match told {
        Ok(_) if size.ws_col > 0 && size.ws_row > 0 => {
            TerminalSize { cols: size.ws_col, rows: size.ws_row }
        }
        _ => DEFAULT_SIZE,
    }
}

/// The terminal hands every key on as it comes. Dropping it puts the terminal back as it was.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// # Errors
    /// Standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The signals that end a command.
pub struct Ending {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// From here on they no longer kill the process at once.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one; tells the exit code of a program that it ended.
    pub async fn asked(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        if kind == SignalKind::hangup() {
            leave_terminal();
        }
        u8::try_from(128 + kind.as_raw_value()).unwrap_or(u8::MAX)
    }
}

/// A terminal that hung up fails every write, and a message must not end the program before it tidied up.
fn leave_terminal() {
    let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") else {
        return;
    };
    if io::stdout().is_terminal() || io::stdin().is_terminal() {
        let _ = nix::unistd::dup2_stdout(&null);
    }
    let _ = nix::unistd::dup2_stderr(&null);
}
