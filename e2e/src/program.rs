//! A running program under test: its log in a file, signals, and no survivor after the test.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// The path of one of our programs: beside this test in the target folder, or in `EXECUTORS_BIN_DIR`.
///
/// Cargo does not build them for the tests of another crate: `./test` does so first.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(built_binaries).join(name)
}

fn built_binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("EXECUTORS_BIN_DIR") {
        return folder.into();
    }
    // Tests run as <target>/<profile>/deps/<test>-<hash>, beside the programs.
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).expect("deps/ is in the profile's folder").to_owned();
    for name in ["instance", "executor"] {
        let path = folder.join(name);
        assert!(
            path.exists(),
            "{} is missing: run `cargo build --workspace` first",
            path.display()
        );
    }
    folder
}

/// A started program. Dropping it kills it.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with both outputs appended to `<folder>/<name>.log`.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().expect("the test's folder is writable");
        let errors = open().expect("the test's folder is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0) // a Ctrl-C meant for the tests is ours to handle, not the program's
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends a signal to it alone, not to its children.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// kill -9, and reaps it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        until(&what, deadline, async || child.try_wait().expect("it is our child")).await
    }

    /// Waits for its end where nothing can be awaited: while a test is torn down.
    pub fn ends_within(&mut self, deadline: Duration) {
        crate::wait::blocking(deadline, || !self.is_running());
    }

    /// SIGTERM, then waits until it has ended.
    pub async fn stop(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(deadline).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of {}\n{}\n---", self.log.display(), self.log_tail(40));
        }
    }
}

/// Runs a program to its end and gives its standard output; panics with its errors when it fails.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    run_command(&mut command)
}

/// [`run`] for a prepared command.
pub fn run_command(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("our programs print UTF-8")
}
