//! A real Docker Engine of the test's own: its data, socket and containers are nobody else's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::program::{Program, run_command};
use crate::wait::until_true;

const START: Duration = Duration::from_secs(60);

/// A running engine, without a bridge and without rules in this machine's firewall.
pub struct Engine {
    program: Program,
    socket: PathBuf,
}

impl Engine {
    /// Starts one; `None` without root, with a word about it.
    pub async fn start(folder: &Path) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: a container engine needs root");
            return None;
        }
        let dir = folder.join("engine");
        let socket = folder.join("engine.sock");
        let mut engine = Command::new("dockerd");
        engine
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"]);
        std::fs::create_dir(&dir).expect("the test's folder is writable");
        let mut engine = Self { program: Program::start("engine", engine, folder), socket };
        until_true("the engine answers", START, async || {
            assert!(engine.program.is_running(), "it ended:\n{}", engine.program.log_tail(20));
            engine.command().arg("version").output().is_ok_and(|answer| answer.status.success())
        })
        .await;
        Some(engine)
    }

    /// What an executor needs to be told to run jobs in containers of this engine.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("EXECUTOR_RUNTIME", "docker".to_owned()),
            ("EXECUTOR_DANGER_ALLOW_CONTAINERS", "true".to_owned()),
            ("DOCKER_HOST", format!("unix://{}", self.socket.display())),
        ]
    }

    /// `docker`, speaking to this engine.
    pub fn command(&self) -> Command {
        let mut docker = Command::new("docker");
        // Log-ins stay in the test's folder.
        docker.env("DOCKER_CONFIG", self.socket.with_extension("config"));
        docker.arg("--host").arg(format!("unix://{}", self.socket.display()));
        docker
    }

    /// Runs `docker` with these arguments; gives what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        run_command(self.command().args(arguments))
    }

    /// Names of all containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let names = self.run(&["ps", "--all", "--format", "{{.Names}}"]);
        names.lines().map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Killed hard, it would leave its containers and their mounts behind.
        let listed = self.command().args(["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&listed).lines() {
            let _ = self.command().args(["rm", "--force", id]).output(); // it may just have gone
        }
        self.program.signal(Signal::SIGTERM);
        self.program.ends_within(Duration::from_secs(20));
    }
}
