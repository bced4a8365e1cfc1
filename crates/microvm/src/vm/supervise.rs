//! One task owns a running VM: it sees it end, finds out why, and removes what is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::boot::RunDir;
use super::process::Process;
use super::stopped::stopped;
use super::{ExitReason, State, VmExit};
use crate::channel::Channel;
use crate::console::Console;
use crate::guest_client::GuestClient;
use crate::qmp::ShutdownReason;

/// How long a VM whose channel closed may take to end by itself, and how long its last words may take to
/// arrive. Together below the five seconds within which an end must be known.
const GRACE: Duration = Duration::from_secs(2);

/// A VMM process and everything that belongs to it.
pub struct Machine {
    pub process: Process,
    pub console: Console,
    pub messages: Console,
    pub shutdown: ShutdownReason,
    pub tasks: Vec<JoinHandle<()>>,
    pub run_dir: RunDir,
}

/// Starts the task.
pub fn start(
    machine: Machine,
    channel: Arc<Channel>,
    silence_limit: Duration,
) -> (mpsc::Sender<()>, watch::Receiver<State>) {
    let (end, ended) = mpsc::channel(1);
    let (state, watcher) = watch::channel(State::Running);
    tokio::spawn(supervise(machine, channel, silence_limit, ended, state));
    (end, watcher)
}

async fn supervise(
    mut machine: Machine,
    channel: Arc<Channel>,
    silence_limit: Duration,
    mut end: mpsc::Receiver<()>,
    state: watch::Sender<State>,
) {
    let guest = GuestClient::new(Arc::clone(&channel));
    let vmm = machine.process.id();
    let vmm_stopped = async {
        match vmm {
            Some(pid) => stopped(pid).await,
            None => std::future::pending().await,
        }
    };
    let exit = tokio::select! {
        // Asked for, or every handle was dropped.
        _ = end.recv() => {
            machine.kill().await;
            machine.exit_because(ExitReason::Destroyed)
        }
        _ = machine.process.wait() => machine.exit().await,
        reason = channel.lost() => machine.ended_with_channel(reason).await,
        () = guest.falls_silent(silence_limit) => {
            machine.kill().await;
            let reason = format!("no answer for {} s", silence_limit.as_secs());
            machine.exit_because(ExitReason::Silent(reason))
        }
        () = vmm_stopped => {
            machine.kill().await;
            let reason = "its VMM was stopped from outside (SIGSTOP or a debugger)".to_owned();
            machine.exit_because(ExitReason::Silent(reason))
        }
    };
    channel.fail(&exit.to_string());
    tracing::debug!(%exit, "microVM ended");
    // Nobody may watch any more; then this only tidies up.
    state.send_replace(State::Exited(exit.clone()));
    let destroyed = exit.reason == ExitReason::Destroyed;
    if !destroyed {
        // Kept until its owner has seen enough of it.
        end.recv().await;
    }
    machine.remove().await;
    state.send_replace(State::Removed(exit));
}

impl Machine {
    /// Kills the VMM and reaps it. Its guest owns nothing that would need a gentler end.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Whether the VMM ends by itself within the grace.
    pub async fn ends_soon(&mut self) -> bool {
        timeout(GRACE, self.process.wait()).await.is_ok()
    }

    /// Why the VMM, which has ended, did so.
    pub async fn exit(&mut self) -> VmExit {
        let status = self.process.wait().await;
        self.hear_last_words().await;
        let reason = match (self.console.panic_line(), self.shutdown.get().as_deref()) {
            (Some(line), _) => ExitReason::Panic(line),
            (None, Some("guest-panic")) => ExitReason::Panic("reported by the VMM".into()),
            (None, Some("guest-shutdown")) => ExitReason::PowerOff,
            (None, Some("guest-reset")) => ExitReason::Reset,
            (None, _) if self.process.ran_out_of_memory() => ExitReason::VmmDied(format!(
                "{status}: it took more memory than the host allows it beside its guest's"
            )),
            (None, _) => ExitReason::VmmDied(describe(&status, &self.messages.tail())),
        };
        self.exit_because(reason)
    }

    /// The channel ended first: with its VM, or because the guest did something that is not allowed.
    async fn ended_with_channel(&mut self, why: String) -> VmExit {
        if self.ends_soon().await {
            return self.exit().await;
        }
        self.kill().await;
        self.exit_because(ExitReason::Silent(why))
    }

    fn exit_because(&self, reason: ExitReason) -> VmExit {
        let (console, messages) = (self.console.tail(), self.messages.tail());
        let separator = if console.is_empty() || messages.is_empty() { "" } else { "\n" };
        VmExit { reason, console_tail: format!("{console}{separator}{messages}") }
    }

    /// Pipes and sockets of a dead process end by themselves once they are read empty.
    async fn hear_last_words(&mut self) {
        for task in &mut self.tasks {
            if timeout(GRACE / 2, &mut *task).await.is_err() {
                task.abort();
            }
        }
        self.tasks.clear();
    }

    /// Removes the run directory and everything in it.
    pub async fn remove(self) {
        for task in &self.tasks {
            task.abort();
        }
        let Self { process, run_dir, .. } = self;
        let removed = tokio::task::spawn_blocking(move || {
            // First what runs in it.
            drop(process);
            drop(run_dir);
        })
        .await;
        if let Err(error) = removed {
            tracing::warn!(%error, "run directory not removed");
        }
    }
}

fn describe(status: &str, messages: &str) -> String {
    if messages.is_empty() { status.to_owned() } else { format!("{status}: {messages}") }
}
