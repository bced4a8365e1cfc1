//! A Debian system in a folder, entered or booted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::processes::{self, Process};
use e2e::program::{Program, run_command};
use e2e::wait::{until, until_true};
use e2e::world::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What packages leave behind is looked for everywhere else: package managers and logs keep what they like.
const UNWATCHED: [&str; 5] =
    ["/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/var/lib/systemd"];

/// The system.
pub struct Root {
    /// Its root directory, as this machine sees it.
    pub path: PathBuf,
}

/// Enters the system in a mount namespace of its own: what is mounted goes with the command, and nobody who
/// removes the folder can reach the machine's own devices through it.
const ENTER: &str = r#"
for name in proc sys dev; do mount --rbind "/$name" "$ROOT/$name"; done
exec chroot "$ROOT" "$@"
"#;

impl Root {
    /// A fresh one with apt and nothing else.
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("root");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=apt", "--dpkgopt=force-unsafe-io", "bookworm"]).arg(&path);
        if let Some(mirror) = std::env::var_os("EXECUTORS_DEBIAN_MIRROR") {
            make.arg(mirror);
        }
        run_command(&mut make);
        let root = Self { path };
        // Packages come from where this machine gets them.
        for name in ["resolv.conf", "hosts"] {
            std::fs::copy(Path::new("/etc").join(name), root.path.join("etc").join(name))
                .expect("the root is writable");
        }
        root
    }

    /// A program of the system, which is not booted.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh", program]);
        command
            .env("ROOT", &self.path)
            .env("TMPDIR", "/tmp")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// [`Self::command`] that must succeed: what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run_command(self.command(program).args(arguments))
    }

    /// Every file of the system but those that nobody watches, and those on other file systems.
    pub fn files(&self) -> BTreeSet<String> {
        let mut find = self.command("find");
        find.args(["/", "-xdev"]);
        for folder in UNWATCHED {
            find.args(["-path", folder, "-prune", "-o"]);
        }
        run_command(find.arg("-print")).lines().map(str::to_owned).collect()
    }

    /// Boots it: systemd is the first process of a container that shares this machine's network. `None`, with a
    /// word about it, where no such container can be made.
    pub async fn boot(&self, folder: &Path) -> Option<Booted> {
        let trial = self.nspawn().args(["--as-pid2", "/bin/true"]).output();
        match trial {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("SKIPPED: services under systemd, systemd-nspawn says: {why}");
                return None;
            }
            Err(error) => {
                eprintln!("SKIPPED: services under systemd need systemd-nspawn: {error}");
                return None;
            }
        }
        let mut boot = self.nspawn();
        boot.arg("--boot");
        let machine = Program::start("systemd", boot, folder);
        let leader = until("systemd runs", PATIENCE, async || {
            let children = processes::descendants(machine.pid());
            children.into_iter().find(|child| child.command.contains("systemd/systemd"))
        })
        .await;
        let booted = Booted { machine, leader };
        until_true("the system is up", PATIENCE, async || {
            let asked = booted.command("systemctl").arg("is-system-running").output();
            let answer = asked.expect("nsenter is installed").stdout;
            answer == b"running\n" || answer == b"degraded\n"
        })
        .await;
        Some(booted)
    }

    fn nspawn(&self) -> Command {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.arg("--quiet").arg("--directory").arg(&self.path);
        nspawn.arg(format!("--machine=packages-{}", std::process::id()));
        nspawn.args(["--register=no", "--link-journal=no", "--console=pipe", "--capability=all"]);
        // Where systemd rules this machine it gives the container a scope; elsewhere nobody does.
        if !Path::new("/run/systemd/system").exists() {
            nspawn.arg("--keep-unit");
        }
        // Units allow more devices than a container has by itself.
        for device in ["/dev/kvm", "/dev/net/tun"] {
            if Path::new(device).exists() {
                nspawn.arg(format!("--bind={device}"));
            }
        }
        nspawn
    }
}

/// The system with systemd running in it.
pub struct Booted {
    machine: Program,
    leader: Process,
}

/// It outlives a systemd-nspawn that is killed.
impl Drop for Booted {
    fn drop(&mut self) {
        if self.leader.lives() {
            let _ = kill(Pid::from_raw(self.leader.pid), Signal::SIGKILL); // it may end meanwhile
        }
    }
}

impl Booted {
    /// A program in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.pid.to_string(), "--all", program]);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// [`Self::command`] that must succeed: what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run_command(self.command(program).args(arguments))
    }

    /// A script of its shell, as an operator types it.
    pub fn shell(&self, script: &str) -> String {
        self.run("sh", &["-euc", script])
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run("systemctl", &["show", "--value", "-p", name, unit]).trim().to_owned()
    }

    /// Waits until the unit is in this state and stays there, that is, has not been restarted by systemd.
    pub async fn unit_is(&self, unit: &str, state: &str) {
        until_true(&format!("{unit} is {state}"), PATIENCE, async || {
            self.property(unit, "ActiveState") == state
        })
        .await;
        assert_eq!(self.property(unit, "NRestarts"), "0", "{}", self.journal(unit));
    }

    /// What the unit logged.
    pub fn journal(&self, unit: &str) -> String {
        self.run("journalctl", &["--no-pager", "-u", unit])
    }

    /// Shuts it down as an operator does.
    pub async fn stop(mut self) {
        let status = self.machine.stop(PATIENCE).await;
        assert!(status.success(), "{status}");
    }
}
