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
}

/// Every process but this one that belongs to `folder`, zombies left out (they have neither any more).
pub fn of(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().expect("test folders are UTF-8");
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let belongs = command.contains(folder) || works_in.starts_with(folder);
            belongs.then_some(Process { pid, command })
        })
        .collect()
}

/// The virtual machines among them.
pub fn virtual_machines(folder: &Path) -> Vec<Process> {
    of(folder).into_iter().filter(|process| process.command.contains("qemu-system")).collect()
}

/// Kills what is left of a test.
pub fn kill_all_of(folder: &Path) {
    for process in of(folder) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // it may have ended meanwhile
    }
}
