//! The life of a step's process, from a fresh copy of this binary to the step itself.
//!
//! ```text
//! agent ─spawn─► outer: waits for its plan, makes namespaces and the root
//!                  └─fork─► init: PID 1 of the step's own PID namespace, pivots, reaps
//!                             └─fork─► the step: drops every privilege, then exec
//! ```
//!
//! No threads here, so forking is safe. When init ends, the kernel ends the whole namespace.

mod input;
mod privileges;
mod root;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use guest_wire::message::{Failure, FailureKind, TerminalSize};
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use crate::exec::cannot_start;
use crate::failure::{Context, Result};
use crate::users::{self, Identity};
use input::Input;

/// Tells `main` to live as a step.
pub const ARGUMENT: &str = "step";

/// Exit codes of shells and container engines for programs that cannot be run.
const CANNOT_RUN: i32 = 126;

/// What programs on a terminal are told about it, unless the host knows better.
const TERM: &str = "xterm-256color";

/// What to run and in what; read from standard input.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    /// The mounted image.
    pub image: PathBuf,
    /// Holds `upper` and `work` of the step's overlay.
    pub dir: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory in the step's root.
    pub cwd: String,
    /// `USER` of the image.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Answers names; `None` = no network.
    pub nameserver: Option<IpAddr>,
    /// The host sends what the step reads.
    pub stdin: bool,
    /// It runs on a terminal of this size.
    pub tty: Option<TerminalSize>,
}

/// What is said back on standard input's socket, one line of JSON each; the first counts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The step never ran.
    Failed {
        /// For programs.
        kind: FailureKind,
        /// For people.
        message: String,
    },
    /// The step ran and ended.
    Ended {
        /// As `wait` gives it.
        status: i32,
    },
}

/// What the step becomes.
struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: String,
    identity: Identity,
}

/// Reads the plan, runs it, reports.
pub fn main() -> ExitCode {
    let mut line = match take_over_stdin() {
        Ok(line) => line,
        Err(failure) => {
            eprintln!("guest: step: {}", failure.message);
            return ExitCode::FAILURE;
        }
    };
    match run(&mut line) {
        Ok(status) => report(&mut line, &Report::Ended { status }),
        Err(Failure { kind, message }) => report(&mut line, &Report::Failed { kind, message }),
    }
    ExitCode::SUCCESS
}

/// The socket moves away from standard input, which the step must not inherit.
fn take_over_stdin() -> Result<UnixStream> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let null = File::open("/dev/null").context("/dev/null")?;
    nix::unistd::dup2_stdin(null).context("standard input")?;
    Ok(UnixStream::from(socket))
}

fn run(line: &mut UnixStream) -> Result<i32> {
    let mut json = Vec::new();
    line.read_to_end(&mut json).context("read the plan")?;
    let _: std::io::Result<()> = line.shutdown(Shutdown::Read);
    let plan: Plan = serde_json::from_slice(&json)
        .map_err(|error| crate::failure::bad_request(format!("plan: {error}")))?;
    // The agent is spared by the OOM killer; a step is not.
    fs::write("/proc/self/oom_score_adj", "0").context("become mortal")?;
    root::unshare()?;
    let new_root = root::assemble(&plan)?;
    let program = Program::prepare(&plan)?;
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.context("fork the step's init")? {
        ForkResult::Parent { child } => {
            silence()?;
            wait_for(child.as_raw())
        }
        ForkResult::Child => {
            let code = match init(&plan, &new_root, program, line) {
                Ok(status) => {
                    report(line, &Report::Ended { status });
                    0
                }
                Err(Failure { kind, message }) => {
                    report(line, &Report::Failed { kind, message });
                    1
                }
            };
            // SAFETY: ends the process at once, without running what belongs to its parent.
            unsafe { libc::_exit(code) }
        }
    }
}

/// PID 1 of the step's namespace.
fn init(
    plan: &Plan,
    new_root: &std::path::Path,
    program: Program,
    line: &mut UnixStream,
) -> Result<i32> {
    root::enter(plan, new_root)?;
    let input = Input::open(plan, line)?;
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.context("fork the step")? {
        ForkResult::Parent { child } => {
            // Held by the step alone: its end must be the end of it.
            drop(input);
            silence()?;
            wait_for(child.as_raw())
        }
        ForkResult::Child => {
            let message = program.become_it(input);
            report(line, &cannot_start(message));
            // SAFETY: as above.
            unsafe { libc::_exit(CANNOT_RUN) }
        }
    }
}

/// Waits for one process, reaping all others.
fn wait_for(pid: i32) -> Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for an int.
        let reaped = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if reaped == pid {
            return Ok(status);
        }
        if reaped < 0 {
            let errno = nix::errno::Errno::last();
            if errno != nix::errno::Errno::EINTR {
                return Err(errno).context("wait for the step");
            }
        }
    }
}

/// The step's output must end with the step, not with us.
fn silence() -> Result<()> {
    let null = fs::OpenOptions::new().write(true).open("/dev/null").context("/dev/null")?;
    nix::unistd::dup2_stdout(&null).context("standard output")?;
    nix::unistd::dup2_stderr(&null).context("standard error")
}

fn report(line: &mut UnixStream, report: &Report) {
    let mut json = serde_json::to_vec(report).expect("reports have only string keys");
    json.push(b'\n');
    // If it cannot be told, the agent sees silence and says so itself.
    let _: std::io::Result<()> = line.write_all(&json);
}

impl Program {
    fn prepare(plan: &Plan) -> Result<Self> {
        let files = |path: &str| root::read_etc(&plan.image, path);
        let identity = users::resolve(&plan.user, &files("etc/passwd"), &files("etc/group"))
            .map_err(|message| crate::failure::failure(FailureKind::CannotStart, message))?;
        let argv = c_strings(plan.argv.iter().cloned())?;
        let env = c_strings(environment(plan, &identity).into_iter())?;
        Ok(Self { argv, env, cwd: plan.cwd.clone(), identity })
    }

    /// Only returns if it cannot: then with the reason.
    fn become_it(self, input: Input) -> String {
        let shown = self.argv.first().map_or_else(String::new, |program| {
            format!("cannot run {:?}", program.to_string_lossy())
        });
        let prepared = self.enter_cwd().and_then(|()| {
            nix::unistd::setsid().context("lead a session")?;
            input.attach(&self.identity)?;
            privileges::drop_all(&self.identity)
        });
        if let Err(failure) = prepared {
            return format!("{shown}: {}", failure.message);
        }
        // Rust ignores SIGPIPE; a step must not inherit that.
        // SAFETY: the default disposition has no handler that could be unsafe.
        let restored = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
        let unmasked = SigSet::empty().thread_set_mask();
        let _ = (restored, unmasked);
        let Some(program) = self.argv.first() else { return "no program given".into() };
        let error = nix::unistd::execvpe(program, &self.argv, &self.env);
        format!("{shown}: {}", error.expect_err("exec returns only on error").desc())
    }

    fn enter_cwd(&self) -> Result<()> {
        let cwd = if self.cwd.is_empty() { "/" } else { &self.cwd };
        if !std::path::Path::new(cwd).is_dir() {
            fs::create_dir_all(cwd).context(format_args!("make the directory {cwd}"))?;
            let owner = (Some(self.identity.uid), Some(self.identity.gid));
            std::os::unix::fs::chown(cwd, owner.0, owner.1).context(cwd)?;
        }
        std::env::set_current_dir(cwd).context(format_args!("change to the directory {cwd}"))
    }
}

/// What container engines set, then the image's and the step's own; later ones win.
fn environment(plan: &Plan, identity: &Identity) -> Vec<String> {
    let mut all: Vec<(String, String)> = vec![
        ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOSTNAME".into(), plan.hostname.clone()),
        ("HOME".into(), identity.home.clone()),
    ];
    if plan.tty.is_some() {
        all.push(("TERM".into(), TERM.into()));
    }
    for pair in &plan.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.retain(|(known, _)| known != name);
        all.push((name.to_owned(), value.to_owned()));
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn c_strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>> {
    texts
        .map(|text| {
            CString::new(text).map_err(|_| {
                crate::failure::bad_request("arguments and environment cannot hold a NUL byte")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_win_and_defaults_stay() {
        let mut plan = Plan {
            image: PathBuf::new(),
            dir: PathBuf::new(),
            argv: vec![],
            env: vec!["A=1".into(), "PATH=/x".into(), "A=2=3".into(), "EMPTY".into()],
            cwd: String::new(),
            user: String::new(),
            hostname: "job".into(),
            nameserver: None,
            stdin: false,
            tty: None,
        };
        let who = users::resolve("", "", "").unwrap();
        let env = environment(&plan, &who);
        assert_eq!(env, ["HOSTNAME=job", "HOME=/root", "PATH=/x", "A=2=3", "EMPTY="]);
        plan.tty = Some(TerminalSize { cols: 80, rows: 24 });
        assert!(environment(&plan, &who).contains(&"TERM=xterm-256color".to_owned()));
        plan.env = vec!["TERM=dumb".into()];
        let env = environment(&plan, &who);
        assert!(env.contains(&"TERM=dumb".to_owned()) && env.len() == 4, "{env:?}");
    }
}
