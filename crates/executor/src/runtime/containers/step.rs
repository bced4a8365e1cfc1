//! A step: one container on the job's workspace, in the namespaces of the job's agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerStatsResponse, HostConfig, HostConfigLogConfig, Mount,
};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;
use microvm::guest_client::{ExecResult, Failure, FailureKind, TerminalSize};
use microvm::{ExecSpec, GuestError, OutputChunk};
use tokio::io::AsyncWriteExt as _;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attach::{Input, Output};
use super::disk::Full;
use super::engine::{Container, EngineError};

/// Exit code of what was ended by SIGKILL.
const KILLED: i64 = 137;
/// Time for a program that was hung up.
const HANG_UP: Duration = Duration::from_secs(5);
/// What container engines give to root and steps have no use for: raw packets, devices, the audit log, and
/// rights stuck to files.
const DROPPED: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];

/// Where and within which limits a step runs.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// The engine's name of its image.
    pub image: String,
    /// The container whose network and processes it shares.
    pub agent: Container,
    /// Folders and files of this machine.
    pub mounts: Vec<Mount>,
    pub labels: HashMap<String, String>,
    /// 0 = no limit.
    pub vcpus: u32,
    /// 0 = no limit.
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub max_processes: u32,
    /// The engine can limit the container's root.
    pub limits_root: bool,
}

/// The container of a step; a function of the step.
pub(super) fn body(spec: &ExecSpec, around: &Surroundings) -> ContainerCreateBody {
    let memory = i64::try_from(around.memory_mib << 20).ok().filter(|bytes| *bytes > 0);
    let with_agent = format!("container:{}", around.agent.id);
    let (program, arguments) = spec.argv.split_at(1.min(spec.argv.len()));
    let text = |text: &str| Some(text.to_owned());
    let has_input = spec.stdin || spec.tty.is_some();
    ContainerCreateBody {
        image: text(&around.image),
        entrypoint: Some(program.to_vec()),
        cmd: Some(arguments.to_vec()),
        env: Some(last_wins(&spec.env)),
        user: text(&spec.user),
        working_dir: text(&spec.cwd),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        attach_stdin: Some(has_input).filter(|has| *has),
        open_stdin: Some(has_input).filter(|has| *has),
        stdin_once: Some(has_input).filter(|has| *has),
        tty: spec.tty.map(|_| true),
        labels: Some(around.labels.clone()),
        host_config: Some(HostConfig {
            mounts: Some(around.mounts.clone()),
            network_mode: Some(with_agent.clone()),
            pid_mode: Some(with_agent),
            ipc_mode: text("private"),
            memory,
            // No swap on top.
            memory_swap: memory,
            nano_cpus: Some(i64::from(around.vcpus) * 1_000_000_000).filter(|cpus| *cpus > 0),
            pids_limit: Some(i64::from(around.max_processes)),
            cap_drop: Some(DROPPED.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            storage_opt: around
                .limits_root
                .then(|| HashMap::from([("size".to_owned(), format!("{}M", around.disk_mib))])),
            // We read it as it comes; the engine need not keep a copy.
            log_config: Some(HostConfigLogConfig { typ: text("none"), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Engines hand a repeated variable through as it is, and programs take the first.
fn last_wins(env: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut last: Vec<String> = Vec::new();
    for variable in env {
        last.retain(|known| name(known) != name(variable));
        last.push(variable.clone());
    }
    last
}

/// A running step. Dropping it leaves its container to the machine, which removes it.
pub struct ContainerExec {
    container: Container,
    agent: Container,
    /// Only ever borrowed alone: the mutex is what lets the step be shared while somebody kills it.
    output: Mutex<Output>,
    input: ContainerInput,
    started: Instant,
    full: Full,
    disk_full: bool,
    killed: AtomicBool,
    /// Of this step, and of all steps of the machine.
    usage: Arc<Mutex<StepUsage>>,
    total: Arc<Mutex<StepUsage>>,
    stats: AbortHandle,
    max_processes: u64,
}

/// What a step reads, or its terminal. Cheap to clone.
#[derive(Clone)]
pub struct ContainerInput {
    container: Container,
    input: Arc<tokio::sync::Mutex<Input>>,
    is_terminal: bool,
}

/// What a step used, as far as it was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StepUsage {
    pub cpu_ms: u64,
    pub peak_memory_bytes: u64,
    pub peak_processes: u64,
}

impl StepUsage {
    fn add(&mut self, step: Self) {
        self.cpu_ms += step.cpu_ms;
        self.peak_memory_bytes = self.peak_memory_bytes.max(step.peak_memory_bytes);
        self.peak_processes = self.peak_processes.max(step.peak_processes);
    }

    fn take(&mut self, stats: &ContainerStatsResponse) {
        let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
        let memory = stats.memory_stats.as_ref();
        // Version 1 of cgroups tells the peak, version 2 what is in use now.
        let peak = memory.and_then(|memory| memory.max_usage.or(memory.usage));
        let processes = stats.pids_stats.as_ref().and_then(|pids| pids.current);
        self.cpu_ms = self.cpu_ms.max(cpu.unwrap_or(0) / 1_000_000);
        self.peak_memory_bytes = self.peak_memory_bytes.max(peak.unwrap_or(0));
        self.peak_processes = self.peak_processes.max(processes.unwrap_or(0));
    }
}

impl ContainerExec {
    /// Starts the container of `spec`.
    ///
    /// # Errors
    /// Its program cannot be run, or the engine is in trouble.
    pub(super) async fn start(
        container: Container,
        spec: &ExecSpec,
        around: &Surroundings,
        full: Full,
        total: Arc<Mutex<StepUsage>>,
    ) -> Result<Self, GuestError> {
        let attached = match spec.tty {
            Some(_) => container.attach_terminal().await,
            None => container.attach().await,
        };
        let (output, input) = attached.map_err(|error| engine_failure(&error))?;
        container.start().await.map_err(|error| start_failure(&error))?;
        let input = ContainerInput {
            container: container.clone(),
            input: Arc::new(tokio::sync::Mutex::new(input)),
            is_terminal: spec.tty.is_some(),
        };
        if let Some(size) = spec.tty {
            input.resize(size).await?;
        }
        let usage = Arc::new(Mutex::new(StepUsage::default()));
        let stats = tokio::spawn(watch(container.clone(), Arc::clone(&usage))).abort_handle();
        Ok(Self {
            container,
            agent: around.agent.clone(),
            output: Mutex::new(output),
            input,
            started: Instant::now(),
            full,
            disk_full: false,
            killed: AtomicBool::new(false),
            usage,
            total,
            stats,
            max_processes: around.max_processes.into(),
        })
    }

    /// What it reads.
    pub fn input(&self) -> ContainerInput {
        self.input.clone()
    }

    /// The next output, or `None` when the step ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        let output = self.output.get_mut().expect("no panic while held");
        loop {
            tokio::select! {
                biased;
                chunk = output.next() => return chunk,
                () = self.full.wait(), if !self.disk_full => self.disk_full = true,
            }
            let stopped = self.container.signal("KILL").await;
            if let Err(error) = stopped {
                tracing::warn!(%error, "a step that filled its disk");
            }
        }
    }

    /// Kills every process of the step; [`Self::wait`] then tells `killed`.
    ///
    /// # Errors
    /// The engine is in trouble.
    pub async fn kill(&self) -> Result<(), GuestError> {
        self.killed.store(true, Ordering::Relaxed);
        self.container.signal("KILL").await.map_err(|error| engine_failure(&error))
    }

    /// How it ended. Output not yet taken is discarded.
    ///
    /// # Errors
    /// The engine is in trouble.
    pub async fn wait(mut self) -> Result<ExecResult, GuestError> {
        while self.next().await.is_some() {}
        self.container.ended().await.map_err(|error| engine_failure(&error))?;
        let found = self.container.inspect(false).await.map_err(|error| engine_failure(&error))?;
        let state = found.state.unwrap_or_default();
        // The agent's end kills the steps: then it is that which went wrong.
        if state.exit_code == Some(KILLED) && !self.agent.is_running().await {
            return Err(GuestError::Gone("the container of the job's agent ended".to_owned()));
        }
        let usage = *self.usage.lock().expect("no panic while held");
        self.total.lock().expect("no panic while held").add(usage);
        Ok(ExecResult {
            exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
            signal: None,
            oom: state.oom_killed.unwrap_or(false),
            disk_full: self.disk_full,
            process_limit: usage.peak_processes >= self.max_processes,
            killed: self.killed.load(Ordering::Relaxed),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cpu_ms: usage.cpu_ms,
            peak_memory_bytes: usage.peak_memory_bytes,
        })
    }
}

impl ContainerInput {
    /// Writes; waits while the step does not read.
    ///
    /// # Errors
    /// The step ended.
    pub async fn send(&self, data: &[u8]) -> Result<(), GuestError> {
        let mut input = self.input.lock().await;
        let written = async {
            input.write_all(data).await?;
            input.flush().await
        };
        written.await.map_err(|error| GuestError::Gone(format!("the step ended: {error}")))
    }

    /// Ends what the step reads. A terminal is hung up: its program is told, and killed if it is still there
    /// seconds later.
    pub async fn end(&self) {
        // One that ended has no input to close.
        let _: std::io::Result<()> = self.input.lock().await.shutdown().await;
        if !self.is_terminal {
            return;
        }
        let container = self.container.clone();
        let told = container.signal("HUP").await;
        tokio::spawn(async move {
            let ended = tokio::time::timeout(HANG_UP, container.ended()).await;
            let killed = if ended.is_err() { container.signal("KILL").await } else { Ok(()) };
            if let Err(error) = told.and(killed) {
                tracing::warn!(%error, "a terminal that was hung up");
            }
        });
    }

    /// Changes the size of its terminal; one that ended is fine.
    ///
    /// # Errors
    /// The engine is in trouble.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), GuestError> {
        let resized = self.container.resize(size.cols, size.rows).await;
        resized.map_err(|error| engine_failure(&error))
    }
}

impl Drop for ContainerExec {
    fn drop(&mut self) {
        self.stats.abort();
    }
}

/// Looks once a second what the step uses, as engines tell.
async fn watch(container: Container, usage: Arc<Mutex<StepUsage>>) {
    let options = StatsOptionsBuilder::new().stream(true).build();
    let mut stats = Box::pin(container.engine.api.stats(&container.id, Some(options)));
    while let Some(Ok(stats)) = stats.next().await {
        usage.lock().expect("no panic while held").take(&stats);
    }
}

pub(super) fn engine_failure(error: &EngineError) -> GuestError {
    GuestError::Failed(Failure { kind: FailureKind::Internal, message: error.to_string() })
}

/// Engines tell by words that the program was not found or is none.
fn start_failure(error: &EngineError) -> GuestError {
    let message = error.to_string();
    let words =
        ["no such file", "not found", "permission denied", "exec format", "unable to find user"];
    let about_the_program = words.iter().any(|words| message.to_lowercase().contains(words));
    let kind = if about_the_program { FailureKind::CannotStart } else { FailureKind::Internal };
    GuestError::Failed(Failure { kind, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::containers::engine::Engine;

    fn around() -> Surroundings {
        Surroundings {
            image: "executors.invalid/image:0".into(),
            agent: Container { engine: Engine::nowhere(), id: "a0".into() },
            mounts: vec![Mount { target: Some("/data".into()), ..Mount::default() }],
            labels: HashMap::from([("executors.machine".into(), "m".into())]),
            vcpus: 2,
            memory_mib: 1024,
            disk_mib: 2048,
            max_processes: 512,
            limits_root: false,
        }
    }

    #[test]
    fn the_container_of_a_step_is_what_was_reviewed() {
        let spec = ExecSpec {
            image: "image-0".into(),
            argv: vec!["/bin/sh".into(), "/data/x.sh".into()],
            env: vec!["PATH=/bin".into(), "A=1".into(), "PATH=/usr/bin".into()],
            cwd: "/data/src".into(),
            user: "1000:1000".into(),
            ..ExecSpec::default()
        };
        insta::assert_json_snapshot!(body(&spec, &around()));
    }

    #[test]
    fn nothing_of_the_host_is_given_to_a_step() {
        let body =
            body(&ExecSpec::default(), &Surroundings { vcpus: 0, memory_mib: 0, ..around() });
        let host = body.host_config.unwrap();
        assert!(!host.privileged.unwrap_or(false));
        assert_eq!(host.mounts, Some(around().mounts));
        assert_eq!((host.binds, host.devices, host.cap_add), (None, None, None));
        assert_eq!(host.userns_mode, None);
        assert!(![host.network_mode, host.pid_mode, host.ipc_mode].contains(&Some("host".into())));
        assert_eq!((host.memory, host.nano_cpus), (None, None), "0 is no limit");
    }
}
