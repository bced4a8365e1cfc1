//! Our executor, inside this process, with its own state directory and a scripted instance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use executor::agent::{Agent, AgentError, RefusedToken, Shutdown};
use executor::client::{Client, unique_executor_name};
use executor::config::Config;
use executor::job::JobRunner;
use executor::metrics::Metrics;
use executor::state::{StateLock, open_tools};
use executor::status::Status;
use microvm::kernel::{self, KernelSource};
use tokio::task::JoinHandle;

use crate::fake::{Fake, SECRET};

/// A running executor.
pub struct World {
    pub fake: Fake,
    pub shutdown: Shutdown,
    agent: JoinHandle<Result<(), AgentError>>,
    state: tempfile::TempDir,
}

/// Kernel and initramfs, prepared once for all tests.
fn kernel_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-image");
        kernel::install(&dir, &KernelSource::DebianPackage, &mut |step| eprintln!("{step}"))
            .expect("the kernel package can be had");
        dir
    })
}

impl World {
    /// Starts an executor for the queue `jobs`.
    pub async fn start() -> Self {
        Self::with(Fake::start().await, &[("EXECUTOR_QUEUE_NAME", "jobs")]).await
    }

    /// Starts an executor with more settings, against an instance that is prepared already.
    pub async fn with(fake: Fake, settings: &[(&'static str, &str)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let url = fake.url.to_string();
        let kernel = tokio::task::spawn_blocking(kernel_dir).await.unwrap();
        let mut env = BTreeMap::from([
            ("EXECUTOR_FRONTEND_URL", url.as_str()),
            ("EXECUTOR_FRONTEND_PASSWORD", SECRET),
            ("EXECUTOR_STATE_DIR", state.path().to_str().unwrap()),
            ("EXECUTOR_KERNEL_DIR", kernel.to_str().unwrap()),
            ("EXECUTOR_ACCELERATION", "tcg"),
            ("EXECUTOR_JOB_NUM_CPUS", "1"),
            ("EXECUTOR_JOB_MEMORY", "512M"),
            ("EXECUTOR_FIRECRACKER_DISK_SPACE", "256M"),
            ("EXECUTOR_QUEUE_POLL_INTERVAL", "20ms"),
            ("EXECUTOR_HEARTBEAT_INTERVAL", "50ms"),
            ("EXECUTOR_MAXIMUM_NUM_JOBS", "2"),
        ]);
        env.extend(settings.iter().copied());
        let config = Arc::new(Config::load(&env).unwrap());
        let lock = StateLock::take(&config.state_dir).unwrap();
        let tools = open_tools(Arc::clone(&config), &config.state_dir, &lock).await.unwrap();
        let metrics = Arc::new(Metrics::default());
        let agent = Agent {
            client: Client::new(
                config.frontend_url.clone(),
                config.frontend_password.clone(),
                unique_executor_name(),
            )
            .unwrap(),
            runner: Arc::new(JobRunner::new(tools, Arc::clone(&metrics))),
            status: Arc::new(Status::new(config.maximum_jobs, "qemu", "tcg")),
            config,
            metrics,
            refused_token: RefusedToken::Fail,
        };
        let shutdown = Shutdown::default();
        let stop = shutdown.clone();
        let agent = tokio::spawn(async move {
            let _lock = lock;
            agent.run(stop).await
        });
        Self { fake, shutdown, agent, state }
    }

    /// Kills every VMM of the executor, as the kernel does when memory runs out.
    pub fn kill_machines(&self) {
        let vms = self.state.path().join("vms");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&vms)) {
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                )
                .unwrap();
            }
        }
    }

    /// Waits until the executor ends by itself.
    pub async fn ended(self) -> Result<(), AgentError> {
        self.agent.await.unwrap()
    }

    /// Drains the executor; nothing of its jobs may be left.
    pub async fn finish(self) {
        self.shutdown.drain();
        self.agent.await.unwrap().unwrap();
        for folder in ["jobs", "vms"] {
            let left = files(&self.state.path().join(folder));
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        self.fake.assert_nothing_wrong();
    }
}

/// Files below a directory, except locks.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
        .collect()
}
