//! However a VM ends, its owner learns how within five seconds, and nothing of it remains.

use std::time::{Duration, Instant};

use microvm::{Accel, BootError, ExitReason, GuestError, Vm, VmExit, Vmm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Machine, PATIENCE, finish, shell, spec, vmm_in};

/// Within which the end of a VM must be known.
const PROMISE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_kernel_that_panics() {
    let machine = Machine::boot_with(|spec| {
        spec.kernel_args.push("sysctl.vm.panic_on_oom=2".into());
    })
    .await;
    let exec = machine.guest().exec(shell("dd if=/dev/zero of=/dev/null bs=200M count=1"));
    let error = exec.await.unwrap().wait().await.unwrap_err();
    assert!(matches!(error, GuestError::Gone(_)), "{error}");
    let exit = within_promise(&machine.vm).await;
    assert!(
        matches!(&exit.reason, ExitReason::Panic(line) if line.contains("panic_on_oom")),
        "{exit}"
    );
    assert!(exit.console_tail.contains("Kernel panic"), "{}", exit.console_tail);
    destroy_twice(&machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_dies_and_one_that_is_stopped() {
    let machine = Machine::boot().await;
    kill(vmm(&machine), Signal::SIGKILL).unwrap();
    let exit = within_promise(&machine.vm).await;
    assert!(matches!(&exit.reason, ExitReason::VmmDied(how) if how.contains('9')), "{exit}");
    destroy_twice(&machine).await;

    let machine = Machine::boot().await;
    // Interrupted and continued, it goes on.
    kill(vmm(&machine), Signal::SIGSTOP).unwrap();
    let early = tokio::time::timeout(Duration::from_secs(1), machine.vm.exited()).await;
    assert!(early.is_err(), "{early:?}");
    kill(vmm(&machine), Signal::SIGCONT).unwrap();
    let output = finish(machine.guest().exec(shell("echo on")).await.unwrap()).await;
    assert_eq!(output.stdout, "on\n");
    kill(vmm(&machine), Signal::SIGSTOP).unwrap();
    let exit = within_promise(&machine.vm).await;
    assert!(
        matches!(&exit.reason, ExitReason::Silent(why) if why.contains("stopped from outside")),
        "{exit}"
    );
    destroy_twice(&machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_takes_more_memory_than_the_host_allows() {
    if let Err(why) = microvm::check_host_limits() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    // Enough for a guest that does nothing, not for one that uses all that it has.
    let machine = Machine::boot_with(|spec| {
        spec.memory_mib = 512;
        spec.host_limits.memory_overhead_mib = Some(0);
    })
    .await;
    let full = shell("tail /dev/zero");
    let error = machine.guest().exec(full).await.unwrap().wait().await.unwrap_err();
    assert!(matches!(error, GuestError::Gone(_)), "{error}");
    let exit = within_promise(&machine.vm).await;
    assert!(
        matches!(&exit.reason, ExitReason::VmmDied(how) if how.contains("more memory than the host")),
        "{exit}"
    );
    destroy_twice(&machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_destroyed_while_it_works() {
    let machine = Machine::boot().await;
    let mut exec = machine.guest().exec(shell("echo on; sleep 1000")).await.unwrap();
    exec.next().await.unwrap();
    let waiting = tokio::spawn(exec.wait());
    destroy_twice(&machine).await;
    assert_eq!(machine.vm.exited().await.reason, ExitReason::Destroyed);
    assert!(matches!(waiting.await.unwrap(), Err(GuestError::Gone(_))));
    assert!(machine.guest().usage().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn boots_that_fail_say_why_and_leave_nothing() {
    let (_dir, mut no_init) = spec();
    no_init.kernel_args.push("rdinit=/no/such".into());
    let error = refused(no_init, PATIENCE).await;
    let BootError::Exited { exit } = error else { panic!("{error}") };
    assert!(matches!(exit.reason, ExitReason::Panic(_)), "{exit}");

    let (_dir, mut no_disk) = spec();
    no_disk.disks[0].path = "/no/such".into();
    let error = refused(no_disk, PATIENCE).await;
    assert!(matches!(error, BootError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("/no/such"), "{error}");

    let (_dir, mut no_program) = spec();
    no_program.vmm = Vmm::Qemu { binary: "/no/such".into(), accel: Accel::Tcg };
    let error = refused(no_program, PATIENCE).await;
    assert!(matches!(error, BootError::Spawn { .. }), "{error}");

    let (_dir, slow) = spec();
    let begin = Instant::now();
    let error = refused(slow, Duration::from_millis(300)).await;
    assert!(matches!(error, BootError::Deadline { .. }), "{error}");
    assert!(begin.elapsed() < PROMISE);

    let (_dir, mut nameless) = spec();
    nameless.name = "a,b".into();
    assert!(matches!(refused(nameless, PATIENCE).await, BootError::Spec(_)));
}

async fn refused(spec: microvm::VmSpec, patience: Duration) -> BootError {
    let run_dir = spec.run_dir.clone();
    let checked = spec.check().is_ok();
    let error = Vm::boot(spec, Instant::now() + patience).await.expect_err("it cannot boot");
    assert!(!checked || !run_dir.exists(), "{error}: the run directory is left");
    error
}

async fn within_promise(vm: &Vm) -> VmExit {
    tokio::time::timeout(PROMISE, vm.exited()).await.expect("the end is known in time")
}

async fn destroy_twice(machine: &Machine) {
    machine.vm.destroy().await;
    machine.vm.destroy().await;
    assert!(!machine.run_dir().exists());
}

fn vmm(machine: &Machine) -> Pid {
    Pid::from_raw(vmm_in(&machine.run_dir()).expect("the VMM runs"))
}
