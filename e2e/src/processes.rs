//! What still runs on behalf of a test's folder: nothing may, once its owner is gone.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that names the folder on its command line, or works inside it.
#[derive(Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its command line, separated by spaces.
    pub command: String,
    /// When it started, in ticks since the machine did.
    started: u64,
}

/// Every process but this one that belongs to `folder`, zombies left out (they have neither any more).
pub fn of(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().expect("test folders are UTF-8");
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let process = Process::look(pid)?;
            let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let belongs = process.command.contains(folder) || works_in.starts_with(folder);
            belongs.then_some(process)
        })
        .collect()
}

/// The virtual machines among them.
pub fn virtual_machines(folder: &Path) -> Vec<Process> {
    of(folder).into_iter().filter(|process| process.command.contains("qemu-system")).collect()
}

/// The children of a process, theirs, and so on.
pub fn descendants(pid: u32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let all: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, stat(pid)?.0))).collect();
    let mut family = vec![pid.cast_signed()];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family[1..].iter().filter_map(|pid| Process::look(*pid)).collect()
}

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        Some(Self { pid, command, started: stat(pid)?.1 })
    }

    /// Whether it, and not another one with its id, still runs.
    pub fn lives(&self) -> bool {
        stat(self.pid).is_some_and(|(_, started)| started == self.started)
    }
}

/// Parent and time of start of a process that is no zombie: fields 4 and 22 of proc_pid_stat(5).
fn stat(pid: i32) -> Option<(i32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if fields[0] == "Z" {
        return None;
    }
    Some((fields[1].parse().ok()?, fields[19].parse().ok()?))
}

/// Kills what is left of a test.
pub fn kill_all_of(folder: &Path) {
    for process in of(folder) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // it may have ended meanwhile
    }
}
