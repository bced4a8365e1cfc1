//! Processes whose executor died. They are found by where they work, not by a record of their ids, which could
//! be missing (killed before it was written) or stale (the id now another's).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pidfd;

/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills the helpers of dead executors: processes with one of these `names` that work in `dir` or below. No living
/// executor may use `dir`. Waits until they are gone, and gives their number. Blocking.
///
/// # Errors
/// `/proc` cannot be read, or one of them does not go.
pub fn kill_helpers(dir: &Path, names: &[&str]) -> io::Result<usize> {
    let dir = match fs::canonicalize(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        dir => dir?,
    };
    // A person's shell may stand there, too.
    kill_all(|pid| is_called(pid, names) && works_in(pid, &dir))
}

/// Kills every process that is `meant`, and waits until they are gone.
pub(crate) fn kill_all(meant: impl Fn(i32) -> bool) -> io::Result<usize> {
    let mut dying = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if !meant(pid) {
            continue;
        }
        let Ok(process) = pidfd::open(pid) else { continue };
        // Looked at again through a handle that no other process can inherit: the id may be another's now.
        if meant(pid) && pidfd::kill(&process).is_ok() {
            dying.push(process);
        }
    }
    wait_for(&dying)?;
    Ok(dying.len())
}

fn wait_for(dying: &[OwnedFd]) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for process in dying {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // Readable when it ended.
        if poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not go"));
        }
    }
    Ok(())
}

/// Whether its working directory is `dir`, which has no links in it, or below.
fn works_in(pid: i32, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// Names are cut after 15 bytes (proc_pid_comm(5)).
fn is_called(pid: i32, names: &[&str]) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    names.contains(&name.trim_end())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(dir: &Path) -> Child {
        Command::new("sleep").arg("600").current_dir(dir).spawn().unwrap()
    }

    #[test]
    fn only_our_programs_at_work_in_our_folder_are_killed() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let below = ours.path().join("below");
        fs::create_dir(&below).unwrap();
        let (mut orphan, mut other) = (sleeper(&below), sleeper(theirs.path()));
        assert_eq!(kill_helpers(ours.path(), &["git"]).unwrap(), 0, "it has another name");
        assert_eq!(kill_helpers(&below.join("none"), &["sleep"]).unwrap(), 0);
        assert_eq!(kill_helpers(ours.path(), &["git", "sleep"]).unwrap(), 1);
        assert!(!orphan.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
