//! A running executor.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::images;
use crate::processes;
use crate::program::{Program, binary};
use crate::wait::until_true;

/// The real program, with small virtual machines.
pub struct Executor {
    program: Program,
    state: PathBuf,
}

impl Executor {
    /// Starts one in `<folder>/<name>`. `settings` are environment variables over these defaults: queue
    /// `jobs`, one job at a time, 1 vCPU, 384 MiB of memory, 1 GiB of disk.
    pub fn start(
        folder: &Path,
        name: &str,
        url: &str,
        access_token: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut run = Self::command(folder, name, url, access_token);
        run.arg("run").envs(settings.iter().copied());
        Self { program: Program::start(name, run, folder), state: folder.join(name) }
    }

    /// The program with these defaults and no command yet.
    pub fn command(folder: &Path, name: &str, url: &str, access_token: &str) -> Command {
        let state = folder.join(name);
        let mut command = Command::new(binary("executor"));
        command
            .env("EXECUTOR_FRONTEND_URL", url)
            .env("EXECUTOR_FRONTEND_PASSWORD", access_token)
            .env("EXECUTOR_QUEUE_NAME", "jobs")
            .env("EXECUTOR_STATE_DIR", &state)
            .env("EXECUTOR_KERNEL_DIR", images::kernel())
            .env("EXECUTOR_VM_PREFIX", name)
            .env("EXECUTOR_ACCELERATION", acceleration())
            .env("EXECUTOR_JOB_NUM_CPUS", "1")
            .env("EXECUTOR_JOB_MEMORY", "384M")
            .env("EXECUTOR_FIRECRACKER_DISK_SPACE", "1G")
            .env("SRC_LOG_LEVEL", "executor=debug,info");
        command
    }

    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// The processes of its virtual machines that run now.
    pub fn virtual_machines(&self) -> Vec<processes::Process> {
        processes::virtual_machines(&self.state)
    }

    /// The folders of virtual machines that are on its disk now.
    pub fn run_dirs(&self) -> Vec<PathBuf> {
        run_dirs(&self.state)
    }

    /// Waits until nothing of a virtual machine is left: no process, no folder.
    pub async fn leaves_nothing(&self, deadline: Duration) {
        until_true("nothing of a virtual machine is left", deadline, async || {
            self.virtual_machines().is_empty() && self.run_dirs().is_empty()
        })
        .await;
    }
}

/// The folders of virtual machines in the state directory of executors.
pub fn run_dirs(state: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    // <state>/vms/<executor>/<vm>
    folders(&state.join("vms")).iter().flat_map(|executor| folders(executor)).collect()
}

/// How guests run: emulated by default, because that works on every machine and tests need no speed.
fn acceleration() -> String {
    std::env::var("E2E_ACCELERATION").unwrap_or_else(|_| "tcg".to_owned())
}
