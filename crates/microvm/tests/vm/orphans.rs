//! An executor that is killed leaves a VM without anyone to talk to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use microvm::{Reclaimed, RunDirs, Vm, VmSpec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{PATIENCE, spec, vmm_in};

/// Set in the process that plays the executor: its state directory.
const EXECUTOR: &str = "TEST_PLAYS_EXECUTOR_IN";
const READY: &str = "the VM runs";

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_ends_by_itself_and_the_rest_is_reclaimed() {
    if let Some(state) = std::env::var_os(EXECUTOR) {
        return play_executor(Path::new(&state)).await;
    }
    let state = tempfile::tempdir().unwrap();
    let mut executor = start_executor(state.path());
    let run_dir = run_dir(state.path());
    assert_eq!(RunDirs::reclaim(state.path()).unwrap(), Reclaimed::default(), "it lives");
    executor.kill().unwrap();
    executor.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while vmm_in(&run_dir).is_some() {
        assert!(Instant::now() < deadline, "the guest notices that its executor is gone");
        tokio::task::yield_now().await;
    }
    assert_eq!(RunDirs::reclaim(state.path()).unwrap(), Reclaimed { processes: 0, run_dirs: 1 });
    assert!(!run_dir.exists());

    // One that cannot notice is killed.
    let mut executor = start_executor(state.path());
    let run_dir = self::run_dir(state.path());
    let vmm = vmm_in(&run_dir).unwrap();
    kill(Pid::from_raw(vmm), Signal::SIGSTOP).unwrap();
    executor.kill().unwrap();
    executor.wait().unwrap();
    assert_eq!(RunDirs::reclaim(state.path()).unwrap(), Reclaimed { processes: 1, run_dirs: 1 });
    assert_eq!(std::fs::read_dir(state.path().join("vms")).unwrap().count(), 0);
}

async fn play_executor(state: &Path) {
    let run_dirs = RunDirs::open(state).unwrap();
    let (_dir, spec) = spec();
    let spec = VmSpec { run_dir: run_dirs.path("vm"), ..spec };
    let vm = Vm::boot(spec, Instant::now() + PATIENCE).await.unwrap();
    println!("\n{READY}");
    let exit = vm.exited().await;
    panic!("the VM ended before its executor: {exit}");
}

/// This very test in another process.
fn start_executor(state: &Path) -> Child {
    let name = "orphans::the_guest_ends_by_itself_and_the_rest_is_reclaimed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(EXECUTOR, state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == READY), "the VM boots");
    child
}

fn run_dir(state: &Path) -> PathBuf {
    let executor = std::fs::read_dir(state.join("vms")).unwrap().next().unwrap().unwrap();
    executor.path().canonicalize().unwrap().join("vm")
}
