//! A program that somebody sits in front of: it runs on a terminal, which the test reads and types on.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::run;
use crate::wait::until;

/// A program on a terminal of 91 columns and 37 rows. Dropping it hangs up, and kills what is left.
pub struct Seat {
    child: Child,
    keyboard: Option<File>,
    reader: Option<JoinHandle<()>>,
    closed: Arc<AtomicBool>,
    shown: Arc<Mutex<String>>,
    /// Keeps the terminal's modes readable after the program ended.
    _terminal: File,
    device: String,
}

impl Seat {
    /// Starts the program and its arguments.
    pub fn start(command: &Command) -> Self {
        // No program but this one may hold this end: its close is what hangs up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let keyboard = posix_openpt(flags).expect("the system has terminals");
        grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("it is ours");
        let device = ptsname_r(&keyboard).expect("it has a name");
        let open = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(&device);
        let terminal = open.expect("it can be opened");
        // Makes the terminal the controlling one, as a log-in does.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let end = || terminal.try_clone().expect("there are descriptors left");
        session.stdin(end()).stdout(end()).stderr(end());
        let shown = Arc::<Mutex<String>>::default();
        let keyboard = File::from(OwnedFd::from(keyboard));
        let screen = keyboard.try_clone().expect("there are descriptors left");
        let (seen, closed) = (Arc::clone(&shown), Arc::<AtomicBool>::default());
        let told = Arc::clone(&closed);
        let reader = std::thread::spawn(move || read_all(screen, &seen, &told));
        resize(&device, 91, 37);
        Self {
            child: session.spawn().expect("setsid is part of util-linux"),
            keyboard: Some(keyboard),
            reader: Some(reader),
            closed,
            shown,
            _terminal: terminal,
            device,
        }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().expect("it is not hung up");
        keyboard.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Waits until it shows `text`, and forgets everything up to there.
    pub async fn sees(&mut self, text: &str, deadline: Duration) {
        let what = format!("it shows {text:?}");
        let child = &mut self.child;
        until(&what, deadline, async || {
            let shown = {
                let mut shown = self.shown.lock().expect("no panic while held");
                if let Some(at) = shown.find(text) {
                    shown.drain(..at + text.len());
                    return Some(());
                }
                shown.clone()
            };
            let ended = child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended before it showed {text:?}: {shown}");
            None
        })
        .await;
    }

    /// What it shows, and nobody waited for.
    pub fn shown(&self) -> String {
        self.shown.lock().expect("no panic while held").clone()
    }

    /// Changes the size, as a window manager does.
    pub fn resize(&self, cols: u16, rows: u16) {
        resize(&self.device, cols, rows);
    }

    /// The modes of the terminal, as `stty -a` prints them.
    pub fn modes(&self) -> String {
        run("stty", &["--file", &self.device, "--all"])
    }

    /// Closes the window.
    pub fn hang_up(&mut self) {
        // The kernel hangs up when nobody holds this end any more.
        self.closed.store(true, Ordering::SeqCst);
        let reader = self.reader.take().expect("it is hung up once");
        reader.join().expect("no panic in it");
        self.keyboard = None;
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("it runs");
    }

    /// Waits until it ends.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        until("it ends", deadline, async || child.try_wait().expect("it is our child")).await
    }
}

fn resize(device: &str, cols: u16, rows: u16) {
    let (cols, rows) = (cols.to_string(), rows.to_string());
    run("stty", &["--file", device, "cols", &cols, "rows", &rows]);
}

/// Reads until the program's side is gone, or the window is closed.
fn read_all(mut screen: File, seen: &Mutex<String>, closed: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !closed.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, 50_u16) {
            Ok(0) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let Ok(length @ 1..) = screen.read(&mut buffer) else { return };
        let text = String::from_utf8_lossy(&buffer[..length]);
        seen.lock().expect("no panic while held").push_str(&text);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the terminal\n{}\n---", self.shown());
        }
    }
}
