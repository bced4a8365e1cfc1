//! Reaps every child of PID 1: those that someone waits for, and orphans that fell to it.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::sys::wait::{WaitStatus, waitpid};

/// Starts processes and tells how they ended.
#[derive(Default)]
pub struct Reaper {
    waiting: Mutex<HashMap<i32, Sender<()>>>,
    spawned: Condvar,
}

impl Reaper {
    /// Starts the reaping thread.
    pub fn start() -> Arc<Self> {
        let reaper = Arc::new(Self::default());
        let inner = Arc::clone(&reaper);
        std::thread::spawn(move || inner.run());
        reaper
    }

    /// Starts a process; the receiver is told (or closed) when it ended.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(i32, Receiver<()>)> {
        // Held over both, or the process could be reaped before it is known.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = command.spawn()?.id().cast_signed();
        let (sender, receiver) = channel();
        waiting.insert(pid, sender);
        self.spawned.notify_all();
        Ok((pid, receiver))
    }

    fn run(&self) {
        loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(sender) = waiting.remove(&pid.as_raw()) {
                        let _: Result<(), _> = sender.send(());
                    }
                }
                // No children now: sleep until there is one.
                Err(nix::errno::Errno::ECHILD) => {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    // Whoever still waits does so in vain; closing the channel tells them.
                    waiting.clear();
                    drop(self.spawned.wait(waiting));
                }
                _ => {}
            }
        }
    }
}
