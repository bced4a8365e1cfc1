//! A VMM that somebody stopped (`SIGSTOP`, a debugger): its guest does not answer, and never will by itself.
//!
//! Silence alone is a slow witness: on a busy machine a healthy guest may not answer for many seconds, so the
//! limit for silence is long. The kernel knows better: a process that only waits for its turn is never in the
//! state `T`.

use std::fs;
use std::time::Duration;

/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that must find it stopped: who stops one for a moment has not ended it. Counted in looks and
/// not in time: when this program was stopped together with it, the time between was nobody's fault.
const LOOKS: u32 = 4;

/// Returns when the process was found stopped [`LOOKS`] times in a row; never for one that is gone.
pub async fn stopped(pid: i32) {
    let mut in_a_row = 0;
    while in_a_row < LOOKS {
        tokio::time::sleep(LOOK).await;
        in_a_row = if is_stopped(pid) { in_a_row + 1 } else { 0 };
    }
}

/// The state of a process is the field after its name, which may hold anything but ends with the last `)`
/// (proc_pid_stat(5)): `T` when stopped by a signal, `t` by a debugger.
fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    struct Worker(Child);

    impl Worker {
        /// Never sleeps: on a busy machine it waits for its turn most of the time.
        fn start() -> Self {
            Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.pid()), signal).unwrap();
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn a_stopped_process_is_noticed_and_a_starved_one_is_not() {
        let workers: Vec<Worker> = (0..16).map(|_| Worker::start()).collect();
        let starved = stopped(workers[0].pid());
        let begin = std::time::Instant::now();
        let stopped_one = async {
            workers[1].signal(Signal::SIGSTOP);
            stopped(workers[1].pid()).await;
        };
        tokio::select! {
            biased;
            () = starved => panic!("it only waits for its turn"),
            () = stopped_one => {}
        }
        let took = begin.elapsed();
        assert!(took > LOOK * (LOOKS - 1) && took < Duration::from_secs(5), "{took:?}");
    }

    #[tokio::test]
    async fn one_that_goes_on_was_only_interrupted() {
        let worker = Worker::start();
        let seen = stopped(worker.pid());
        tokio::pin!(seen);
        for signal in [Signal::SIGSTOP, Signal::SIGCONT].into_iter().cycle().take(4) {
            worker.signal(signal);
            let early = tokio::time::timeout(LOOK * 2, &mut seen).await;
            assert!(early.is_err(), "not after {signal}");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_not_stopped() {
        assert!(!is_stopped(i32::MAX));
    }
}
