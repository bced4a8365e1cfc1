//! Runs one command of a step and tells how it ended.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use guest_wire::Tag;
use guest_wire::bulk::CHUNK;
use guest_wire::message::{Exec, ExecResult, FailureKind, Reply};

use crate::agent::{Agent, lock};
use crate::bulk::Stream;
use crate::cgroup::{StepGroup, ThrashWatch};
use crate::failure::{Context, Result, bad_request, failure};
use crate::images;
use crate::pause::pause;
use crate::step::{self, Report};

/// How often a running step is looked at: it may fill the disk, fail, and tidy up.
const WATCH: Duration = Duration::from_millis(100);

/// After small pieces in rapid succession more are given that long to gather: the agent goes before steps,
/// so it would otherwise carry each of their writes by itself.
const GATHER: Duration = Duration::from_millis(2);

/// An exec that the host may kill.
pub struct Running {
    number: u32,
    group: StepGroup,
    stream: Stream,
    killed: AtomicBool,
}

/// Makes the exec known, so that a kill finds it.
pub fn register(agent: &Agent, exec: &Exec) -> Result<Arc<Running>> {
    let stream = agent.bulk.stream(exec.stream)?;
    let number = agent.next_step.fetch_add(1, Ordering::Relaxed);
    let group = StepGroup::create(number)?;
    let running = Arc::new(Running { number, group, stream, killed: AtomicBool::new(false) });
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

/// Runs it to its end. Its output has been sent when this returns.
pub fn run(agent: &Agent, exec: &Exec, running: &Running) -> Result<ExecResult> {
    let result = run_registered(agent, exec, running);
    lock(&agent.running).remove(&exec.stream);
    running.stream.end();
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
    };
    let started = Instant::now();
    let mut child = start(agent, running, &plan)?;
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| forward(child.stdout, Tag::Stdout, &running.stream));
        scope.spawn(|| forward(child.stderr, Tag::Stderr, &running.stream));
        wait(&child.ended, running, started)
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
    stdout: OwnedFd,
    stderr: OwnedFd,
    reports: Reports,
}

/// The agent's end of the line on which the step's process says how it went.
struct Reports(UnixStream);

impl Reports {
    /// The first is the most precise: whoever is closer to the trouble speaks earlier.
    fn first_report(&mut self) -> Option<Report> {
        let mut text = String::new();
        // Everyone who could write has ended; what is there is complete.
        self.0.set_nonblocking(true).ok()?;
        let _: std::io::Result<usize> = self.0.read_to_string(&mut text);
        text.lines().find_map(|line| serde_json::from_str(line).ok())
    }
}

fn start(agent: &Agent, running: &Running, plan: &step::Plan) -> Result<Child> {
    for dir in ["upper", "work"] {
        let dir = plan.dir.join(dir);
        fs::create_dir_all(&dir).context(dir.display())?;
    }
    let (ours, theirs) = UnixStream::pair().context("socket pair")?;
    let (stdout, their_stdout) = std::io::pipe().context("pipe")?;
    let (stderr, their_stderr) = std::io::pipe().context("pipe")?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(step::ARGUMENT)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(their_stdout)
        .stderr(their_stderr);
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
    Ok(Child { ended, stdout: stdout.into(), stderr: stderr.into(), reports: Reports(ours) })
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
    while matches!(ended.recv_timeout(WATCH), Err(RecvTimeoutError::Timeout)) {
        seen.disk_full |= images::space().full;
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !seen.thrashed && memory.is_thrashing(now) {
            seen.thrashed = true;
            println!("guest: step {}: out of memory: thrashing", running.number);
            running.kill_group();
        }
    }
    // Its namespace's init is gone and so is everything in it; this is for what is not yet.
    running.kill_group();
    seen.disk_full |= images::space().full;
    seen
}

impl Running {
    fn kill_group(&self) {
        if let Err(failure) = self.group.kill() {
            println!("guest: step {}: {}", self.number, failure.message);
        }
    }
}

/// Sends what the step writes, as it comes. Once nobody listens, it is thrown away: a step must not
/// hang in a write because its reader is gone.
fn forward(pipe: OwnedFd, tag: Tag, stream: &Stream) {
    let mut pipe = std::io::PipeReader::from(pipe);
    let mut buffer = vec![0; CHUNK];
    let mut heard = true;
    let mut last_sent: Option<Instant> = None;
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                heard = heard && stream.send(tag, &buffer[..length]).is_ok();
                let rapid = last_sent.is_some_and(|last| last.elapsed() < 2 * GATHER);
                if rapid && length < CHUNK / 2 {
                    pause(GATHER);
                }
                last_sent = Some(Instant::now());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                println!("guest: output of a step: {error}");
                return;
            }
        }
    }
}

/// A failure to start, as the step's process reports it.
pub fn cannot_start(message: impl Into<String>) -> Report {
    Report::Failed { kind: FailureKind::CannotStart, message: message.into() }
}
