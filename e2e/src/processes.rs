//! What still runs on behalf of a test's folder: nothing may, once its owner is gone.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that names the folder on its command line.
#[derive(Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its command line, separated by spaces.
    pub command: String,
}

/// Every process but this one whose command line names `folder`, zombies left out.
pub fn naming(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().expect("test folders are UTF-8");
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(folder).then_some(Process { pid, command })
        })
        .collect()
}

/// The virtual machines among them.
pub fn virtual_machines(folder: &Path) -> Vec<Process> {
    naming(folder).into_iter().filter(|process| process.command.contains("qemu-system")).collect()
}

/// Kills what is left of a test.
pub fn kill_naming(folder: &Path) {
    for process in naming(folder) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // it may have ended meanwhile
    }
}
