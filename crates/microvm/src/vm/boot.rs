//! From a spec to a guest that said hello.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use guest_wire::message::{Hello, HelloReply};
use guest_wire::{BULK_SOCKET, CONTROL_SOCKET, GENERATION, OLDEST_GENERATION};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::process::Process;
use super::supervise::{self, Machine};
use super::{BootError, BootTimings, ExitReason, Vm, VmExit};
use crate::cgroup::{Cgroups, Hierarchy};
use crate::channel::{Channel, HelloError};
use crate::console::Console;
use crate::firecracker::jail::Jail;
use crate::guest_client::GuestClient;
use crate::guest_client::unix_time_ns;
use crate::own_files;
use crate::qemu;
use crate::qmp::ShutdownReason;
use crate::sockets;
use crate::spec::{Accel, VmSpec, Vmm};
use crate::tsc;

pub async fn boot(spec: VmSpec, deadline: Instant) -> Result<Vm, BootError> {
    spec.check()?;
    let begin = Instant::now();
    let run_dir = RunDir::make(&spec.run_dir)?;
    let (mut machine, sockets) = match &spec.vmm {
        Vmm::Qemu { binary, accel } => {
            let sockets = Sockets::bind(&spec.run_dir)?;
            (spawn(&spec, binary, *accel, run_dir)?, sockets)
        }
        Vmm::Firecracker { binary, jailer } => {
            let (spec, binary, jailer) = (spec.clone(), binary.clone(), jailer.clone());
            // To its end even if nobody waits any more: what the jailer started has an owner then.
            let started = tokio::spawn(async move { jailed(spec, binary, jailer, run_dir).await });
            started.await.expect("it does not panic and nobody aborts it")?
        }
    };
    let mut timings = BootTimings { spawn: begin.elapsed(), ..BootTimings::default() };
    let ready = async {
        let connections = sockets.accept().await.map_err(|error| run_dir_error(&spec, error))?;
        timings.vmm = begin.elapsed() - timings.spawn;
        if let Some(qmp) = connections.qmp {
            machine.tasks.push(tokio::spawn(machine.shutdown.clone().listen(qmp)));
        }
        let opened = Channel::open(connections.control, connections.bulk, hello()).await;
        timings.guest = begin.elapsed() - timings.spawn - timings.vmm;
        Ok::<_, BootError>(opened)
    };
    let outcome = tokio::select! {
        ready = ready => Outcome::Ready(ready),
        () = tokio::time::sleep_until(deadline.into()) => Outcome::Deadline,
        _ = machine.process.wait() => Outcome::Exited,
    };
    let (channel, hello) = match outcome {
        Outcome::Ready(Ok(Ok(opened))) => opened,
        failed => return Err(give_up(failed, machine, begin).await),
    };
    let console = machine.console.clone();
    let (end, state) = supervise::start(machine, channel.clone(), spec.silence_limit);
    let guest = GuestClient::new(channel);
    Ok(Vm { guest, hello, timings, console, end, state })
}

type Opened = Result<(std::sync::Arc<Channel>, HelloReply), HelloError>;

enum Outcome {
    Ready(Result<Opened, BootError>),
    Deadline,
    Exited,
}

/// Kills and removes what there is, and says what went wrong.
async fn give_up(outcome: Outcome, mut machine: Machine, begin: Instant) -> BootError {
    let waited = begin.elapsed();
    let exited = match &outcome {
        Outcome::Exited => true,
        // Its channel closed: it is ending, and how it does tells more than the closed channel.
        Outcome::Ready(Ok(Err(HelloError::Closed(_)))) => machine.ends_soon().await,
        _ => false,
    };
    if exited {
        let exit = machine.exit().await;
        machine.remove().await;
        return BootError::Exited { exit };
    }
    machine.kill().await;
    let console_tail = machine.console.tail();
    machine.remove().await;
    match outcome {
        Outcome::Ready(Err(error)) => error,
        Outcome::Ready(Ok(Err(HelloError::Generation(guest)))) => {
            BootError::Generation { guest, host: (OLDEST_GENERATION, GENERATION) }
        }
        Outcome::Ready(Ok(Err(HelloError::Protocol(what)))) => BootError::Protocol(what),
        Outcome::Ready(Ok(Err(HelloError::Closed(what)))) => {
            BootError::Exited { exit: VmExit { reason: ExitReason::Silent(what), console_tail } }
        }
        Outcome::Ready(Ok(Ok(_))) | Outcome::Exited | Outcome::Deadline => {
            BootError::Deadline { waited, console_tail }
        }
    }
}

/// Firecracker in a jail, with the sockets where its guest will connect.
async fn jailed(
    spec: VmSpec,
    binary: PathBuf,
    jailer: PathBuf,
    run_dir: RunDir,
) -> Result<(Machine, Sockets), BootError> {
    let building = (spec.clone(), binary.clone());
    let built = tokio::task::spawn_blocking(move || Jail::build(&building.0, &building.1)).await;
    let jail = built.expect("it does not panic").map_err(|error| run_dir_error(&spec, error))?;
    let (control, bulk) = jail.listen().map_err(|error| run_dir_error(&spec, error))?;
    let (process, output) = jail
        .start(&spec, &binary, &jailer)
        .await
        .map_err(|source| BootError::Spawn { program: binary.display().to_string(), source })?;
    let (console, messages) = (Console::default(), Console::default());
    let tasks = vec![
        tokio::spawn(console.clone().fill_from(output.stdout)),
        tokio::spawn(messages.clone().fill_from(output.stderr)),
    ];
    let (process, shutdown) = (Process::Jailed(process), ShutdownReason::default());
    let machine = Machine { process, console, messages, shutdown, tasks, run_dir };
    Ok((machine, Sockets { control, bulk, qmp: None }))
}

fn spawn(
    spec: &VmSpec,
    binary: &Path,
    accel: Accel,
    run_dir: RunDir,
) -> Result<Machine, BootError> {
    let tsc = (accel == Accel::Tcg).then(tsc::frequency);
    let mut command = match &spec.nic {
        // In the namespace of its TAP, which has no other way out.
        Some(nic) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &nic.namespace]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    let cgroups = limit(spec);
    let mut child = command
        .args(qemu::arguments(spec, accel, tsc))
        .current_dir(&run_dir.path)
        .env_clear()
        // Signals to the executor's terminal are not for the VMM.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| BootError::Spawn { program: binary.display().to_string(), source })?;
    // Before its guest's first instruction: it has its disks and kernel still to open.
    if let (Some(cgroups), Some(pid)) = (&cgroups, child.id())
        && let Err(error) = cgroups.add(pid)
    {
        tracing::warn!(vm = spec.name, %error, "the VMM runs without limits on the host");
    }
    let console = Console::default();
    let messages = Console::default();
    let tasks = pumps(&mut child, &console, &messages);
    let shutdown = ShutdownReason::default();
    let process = Process::Child(child, cgroups);
    Ok(Machine { process, console, messages, shutdown, tasks, run_dir })
}

/// The cgroups for QEMU, which also runs where there are none: without root, or in a container.
fn limit(spec: &VmSpec) -> Option<Cgroups> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let limits = &spec.host_limits;
    let made = Cgroups::make(&Hierarchy::detect(), &spec.name, spec.memory_mib, limits);
    made.unwrap_or_else(|error| {
        tracing::warn!(vm = spec.name, %error, "the VMM runs without limits on the host");
        None
    })
}

fn pumps(child: &mut Child, console: &Console, messages: &Console) -> Vec<JoinHandle<()>> {
    let stdout = child.stdout.take().map(|pipe| tokio::spawn(console.clone().fill_from(pipe)));
    let stderr = child.stderr.take().map(|pipe| tokio::spawn(messages.clone().fill_from(pipe)));
    stdout.into_iter().chain(stderr).collect()
}

/// What we say first, with fresh randomness.
pub(crate) fn hello() -> Hello {
    let seed: [u8; 32] = rand::random();
    Hello {
        oldest_generation: OLDEST_GENERATION,
        generation: GENERATION,
        unix_time_ns: unix_time_ns(),
        seed: hex::encode(seed),
    }
}

fn run_dir_error(spec: &VmSpec, source: io::Error) -> BootError {
    BootError::RunDir { path: spec.run_dir.clone(), source }
}

/// The run directory, ours alone; removed when dropped.
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    fn make(path: &Path) -> Result<Self, BootError> {
        let made = match path.parent() {
            Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
            None => Ok(()),
        };
        // The caller may have put disks into it.
        made.and_then(|()| own_files::dir(path))
            .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(|source| BootError::RunDir { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            // Left to be reclaimed.
            tracing::warn!(path = %self.path.display(), %error, "run directory not removed");
        }
    }
}

/// Where the VMM connects to. We listen before it starts, so nothing is polled.
struct Sockets {
    control: UnixListener,
    bulk: UnixListener,
    /// QEMU only.
    qmp: Option<UnixListener>,
}

struct Connections {
    control: UnixStream,
    bulk: UnixStream,
    qmp: Option<UnixStream>,
}

impl Sockets {
    fn bind(run_dir: &Path) -> Result<Self, BootError> {
        let names = [CONTROL_SOCKET, BULK_SOCKET, qemu::QMP_SOCKET];
        let [control, bulk, qmp] = sockets::listen(run_dir, names)
            .map_err(|source| BootError::RunDir { path: run_dir.to_owned(), source })?;
        Ok(Self { control, bulk, qmp: Some(qmp) })
    }

    async fn accept(&self) -> io::Result<Connections> {
        let qmp = async {
            match &self.qmp {
                Some(qmp) => Ok(Some(qmp.accept().await?.0)),
                None => Ok(None),
            }
        };
        let (control, bulk, qmp) =
            tokio::try_join!(self.control.accept(), self.bulk.accept(), qmp)?;
        Ok(Connections { control: control.0, bulk: bulk.0, qmp })
    }
}
