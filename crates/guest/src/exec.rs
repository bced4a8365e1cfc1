//! Runs one command of a step and tells how it ended.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use guest_wire::Tag;
use guest_wire::message::{Exec, ExecResult, FailureKind, Reply, TerminalSize};

use crate::agent::{Agent, lock};
use crate::bulk::Stream;
use crate::cgroup::{StepGroup, ThrashWatch};
use crate::failure::{Context, Result, bad_request, failure};
use crate::images;
use crate::input::{self, Handed, Terminal};
use crate::output::{self, Stop};
use crate::step::{self, Report};

/// How often a running step is looked at: it may fill the disk, fail, and tidy up.
const WATCH: Duration = Duration::from_millis(100);

/// What is left of a step that long after its terminal was hung up is killed.
const HANG_UP_GRACE: Duration = Duration::from_secs(3);

/// An exec that the host may kill.
pub struct Running {
    number: u32,
    group: StepGroup,
    stream: Stream,
    killed: AtomicBool,
    terminal: Option<Mutex<Terminal>>,
    stop: Stop,
    /// The host hung up the terminal.
    hung_up: AtomicBool,
}

/// Makes the exec known, so that a kill finds it.
pub fn register(agent: &Agent, exec: &Exec) -> Result<Arc<Running>> {
    let stream = agent.bulk.stream(exec.stream)?;
    let number = agent.next_step.fetch_add(1, Ordering::Relaxed);
    let group = StepGroup::create(number)?;
    let running = Arc::new(Running {
        number,
        group,
        stream,
        killed: AtomicBool::new(false),
        terminal: exec.tty.map(Terminal::new),
        stop: Stop::new().context("pipe")?,
        hung_up: AtomicBool::new(false),
    });
    lock(&agent.running).insert(exec.stream, Arc::clone(&running));
    Ok(running)
}

/// Kills everything of an exec; one that already ended is fine.
pub fn kill(agent: &Agent, stream: u32) -> Result<Reply> {
    if let Some(running) = lock(&agent.running).get(&stream) {
        running.killed.store(true, Ordering::SeqCst);
        running.group.kill()?;
    }
    Ok(Reply::Done)
}

/// Changes the size of an exec's terminal; one that already ended is fine.
pub fn resize(agent: &Agent, stream: u32, size: TerminalSize) -> Result<Reply> {
    if let Some(running) = lock(&agent.running).get(&stream) {
        let terminal = running.terminal.as_ref();
        let terminal = terminal.ok_or_else(|| bad_request("the exec has no terminal"))?;
        Terminal::resize(terminal, size);
    }
    Ok(Reply::Done)
}

/// Runs it to its end. Its output has been sent when this returns.
pub fn run(agent: &Agent, exec: &Exec, running: &Running) -> Result<ExecResult> {
    let result = run_registered(agent, exec, running);
    lock(&agent.running).remove(&exec.stream);
    running.stream.end();
    if exec.stdin || exec.tty.is_some() {
        // Whoever still sends must not wait for credit that never comes.
        running.stream.reset("the command ended");
    }
    result
}

fn run_registered(agent: &Agent, exec: &Exec, running: &Running) -> Result<ExecResult> {
    let assembled = agent.assembled()?;
    if exec.argv.is_empty() {
        return Err(bad_request("no program given"));
    }
    let dir = assembled.step_dir(running.number);
    let plan = step::Plan {
        image: assembled.image(&exec.image)?,
        dir: dir.clone(),
        argv: exec.argv.clone(),
        env: exec.env.clone(),
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        hostname: exec.hostname.clone(),
        nameserver: assembled.nameserver,
        stdin: exec.stdin,
        tty: exec.tty,
    };
    let started = Instant::now();
    let mut child = start(agent, running, &plan)?;
    // Moved: a terminal is hung up when the last of them lets go of it.
    let (outputs, input) = (child.outputs, child.input);
    let seen = std::thread::scope(|scope| {
        for (source, tag) in outputs {
            let (stream, stop) = (&running.stream, &running.stop);
            scope.spawn(move || output::forward(&source, tag, stream, stop));
        }
        if let Some(end) = input {
            scope.spawn(move || running.feed(end));
        }
        let seen = wait(&child.ended, running, started);
        running.stop.stop();
        running.stream.stop_receiving();
        seen
    });
    let report = child.reports.first_report();
    let readings = running.group.readings();
    // What the step wrote outside the workspace goes; nobody needs to wait for that.
    std::thread::spawn(move || fs::remove_dir_all(&dir));
    let status = match report {
        Some(Report::Failed { kind, message }) => return Err(failure(kind, message)),
        Some(Report::Ended { status }) => status,
        // Killed before it could tell.
        None => libc::SIGKILL,
    };
    let exited = libc::WIFEXITED(status);
    Ok(ExecResult {
        exit_code: exited.then(|| libc::WEXITSTATUS(status)),
        signal: (!exited).then(|| libc::WTERMSIG(status)),
        oom: readings.oom || seen.thrashed,
        disk_full: seen.disk_full,
        process_limit: readings.process_limit,
        killed: running.killed.load(Ordering::SeqCst),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        cpu_ms: readings.cpu_ms,
        peak_memory_bytes: readings.peak_memory_bytes,
    })
}

struct Child {
    ended: Receiver<()>,
    outputs: Vec<(Arc<File>, Tag)>,
    input: Option<Arc<File>>,
    reports: Reports,
}

/// The agent's end of the line on which the step's process says how it went.
struct Reports {
    line: UnixStream,
    text: Vec<u8>,
}

impl Reports {
    /// What the step's process made for the step to read from; `None` if it failed before.
    fn receive_input(&mut self) -> Result<Option<Arc<File>>> {
        match input::receive(&self.line).context("the step's standard input")? {
            Handed::End(end) => Ok(Some(end)),
            Handed::Report(begin) => {
                self.text.extend(begin);
                Ok(None)
            }
        }
    }

    /// The first is the most precise: whoever is closer to the trouble speaks earlier.
    fn first_report(&mut self) -> Option<Report> {
        // Everyone who could write has ended; what is there is complete.
        self.line.set_nonblocking(true).ok()?;
        let _: std::io::Result<usize> = self.line.read_to_end(&mut self.text);
        let mut lines = self.text.split(|byte| *byte == b'\n');
        lines.find_map(|line| serde_json::from_slice(line).ok())
    }
}

fn start(agent: &Agent, running: &Running, plan: &step::Plan) -> Result<Child> {
    for dir in ["upper", "work"] {
        let dir = plan.dir.join(dir);
        fs::create_dir_all(&dir).context(dir.display())?;
    }
    let (ours, theirs) = UnixStream::pair().context("socket pair")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(step::ARGUMENT).env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut outputs = Vec::new();
    if plan.tty.is_none() {
        let (stdout, their_stdout) = std::io::pipe().context("pipe")?;
        let (stderr, their_stderr) = std::io::pipe().context("pipe")?;
        command.stdout(their_stdout).stderr(their_stderr);
        outputs.push((Arc::new(File::from(OwnedFd::from(stdout))), Tag::Stdout));
        outputs.push((Arc::new(File::from(OwnedFd::from(stderr))), Tag::Stderr));
    } else {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let (pid, ended) = agent.reaper.spawn(&mut command).context("start the step's process")?;
    // It holds the other ends of the pipes open.
    drop(command);
    // It waits for the plan, so nothing of it ever runs outside its group.
    running.group.add(pid)?;
    if running.killed.load(Ordering::SeqCst) {
        running.group.kill()?;
    }
    let json = serde_json::to_vec(plan).expect("plans have only string keys");
    let sent = (&ours).write_all(&json).and_then(|()| ours.shutdown(std::net::Shutdown::Write));
    // A process killed this early does not read; its end is told below.
    if let Err(error) = sent {
        println!("guest: step {}: {error}", running.number);
    }
    let mut reports = Reports { line: ours, text: Vec::new() };
    let asked = plan.stdin || plan.tty.is_some();
    let input = if asked { reports.receive_input()? } else { None };
    if let (Some(terminal), Some(end)) = (&running.terminal, &input) {
        Terminal::made(terminal, end);
        outputs.push((Arc::clone(end), Tag::Stdout));
    }
    Ok(Child { ended, outputs, input, reports })
}

/// What was seen while a step ran.
struct Seen {
    /// The disk was full at some time.
    disk_full: bool,
    /// It was killed because it only waited for memory.
    thrashed: bool,
}

/// Waits for the end, watching disk and memory.
fn wait(ended: &Receiver<()>, running: &Running, started: Instant) -> Seen {
    let mut seen = Seen { disk_full: false, thrashed: false };
    let mut memory = ThrashWatch::default();
    let mut hung_up: Option<Instant> = None;
    while matches!(ended.recv_timeout(WATCH), Err(RecvTimeoutError::Timeout)) {
        seen.disk_full |= images::space().full;
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !seen.thrashed && memory.is_thrashing(now) {
            seen.thrashed = true;
            println!("guest: step {}: out of memory: thrashing", running.number);
            running.kill_group();
        }
        if running.hung_up.load(Ordering::SeqCst) {
            let since = *hung_up.get_or_insert_with(Instant::now);
            if since.elapsed() >= HANG_UP_GRACE && !running.killed.swap(true, Ordering::SeqCst) {
                running.kill_group();
            }
        }
    }
    // Its namespace's init is gone and so is everything in it; this is for what is not yet.
    running.kill_group();
    seen.disk_full |= images::space().full;
    seen
}

impl Running {
    /// Carries what the host sends to the step; at its end a pipe ends, and a terminal is hung up.
    fn feed(&self, end: Arc<File>) {
        input::feed(&end, &self.stream, &self.stop);
        if let Some(terminal) = &self.terminal {
            self.hung_up.store(true, Ordering::SeqCst);
            Terminal::hang_up(terminal);
            // Whoever carries its output lets go of it too; then the kernel tells its programs.
            self.stop.stop();
        }
    }

    fn kill_group(&self) {
        if let Err(failure) = self.group.kill() {
            println!("guest: step {}: {}", self.number, failure.message);
        }
    }
}

/// A failure to start, as the step's process reports it.
pub fn cannot_start(message: impl Into<String>) -> Report {
    Report::Failed { kind: FailureKind::CannotStart, message: message.into() }
}
