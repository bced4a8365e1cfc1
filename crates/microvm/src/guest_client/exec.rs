//! A command that runs in the guest.

use std::sync::Arc;

use bytes::Bytes;
use guest_wire::bulk::CHUNK;
use guest_wire::message::{self, ExecResult, Reply, Request, TerminalSize};
use guest_wire::{TERMINAL_GENERATION, Tag};

use super::{GuestError, unexpected};
use crate::channel::{Channel, Event, PendingReply, Receiver, Sender};

/// A command to run in a step image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Serial of the image's disk, as given to prepare.
    pub image: String,
    /// Program and arguments, for instance `/bin/sh` and a script's path.
    pub argv: Vec<String>,
    /// `NAME=value`, the image's first, then the step's; later ones win.
    pub env: Vec<String>,
    /// Absolute path; made if missing. The workspace is at `/data`.
    pub cwd: String,
    /// The image's `USER`, as written there; empty = root.
    pub user: String,
    /// Host name that the step sees; empty = `job`.
    pub hostname: String,
    /// Its standard input is what is sent to [`Exec::input`]; otherwise it is empty.
    pub stdin: bool,
    /// It runs on a terminal of this size, on which [`Exec::input`] types. All its output is then
    /// [`Stdio::Stdout`].
    pub tty: Option<TerminalSize>,
}

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stdio {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Output of a step, in the order in which the guest read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// From where.
    pub stdio: Stdio,
    /// 1 byte to 32 KiB.
    pub data: Bytes,
}

/// What a running command reads, or its terminal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Input {
    channel: Arc<Channel>,
    sender: Arc<Sender>,
}

/// A running command. Dropping it kills the command.
#[derive(Debug)]
pub struct Exec {
    input: Input,
    receiver: Receiver,
    reply: PendingReply,
    outcome: Option<Result<Reply, GuestError>>,
}

impl Exec {
    pub(super) async fn start(channel: Arc<Channel>, spec: ExecSpec) -> Result<Self, GuestError> {
        let (sender, receiver) = channel.stream();
        let ExecSpec { image, argv, env, cwd, user, hostname, stdin, tty } = spec;
        if (stdin || tty.is_some()) && channel.generation() < TERMINAL_GENERATION {
            return Err(GuestError::TooOld("terminals and standard input"));
        }
        let hostname = if hostname.is_empty() { "job".to_owned() } else { hostname };
        let stream = sender.id();
        let exec = message::Exec { stream, image, argv, env, cwd, user, hostname, stdin, tty };
        let reply = channel.request(Request::Exec(exec)).await?;
        let input = Input { channel, sender: Arc::new(sender) };
        Ok(Self { input, receiver, reply, outcome: None })
    }

    /// What it reads. Of use only if the spec asked for `stdin` or `tty`: nothing else takes anything.
    pub fn input(&self) -> Input {
        self.input.clone()
    }

    /// The next output, or `None` when the command ended. A caller that does not call this stops the
    /// command's output, not the VM. Cancel-safe.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.receiver.next() => event?,
                outcome = self.reply.wait(), if self.outcome.is_none() => {
                    // One that failed may never have had a stream to end.
                    let failed = outcome.is_err();
                    self.outcome = Some(outcome);
                    if failed {
                        return None;
                    }
                    continue;
                }
            };
            let (stdio, data) = match event {
                Event::Data(Tag::Stdout, data) => (Stdio::Stdout, data),
                Event::Data(Tag::Stderr, data) => (Stdio::Stderr, data),
                Event::Data(..) => continue,
                Event::End | Event::Reset(_) => return None,
            };
            if !data.is_empty() {
                return Some(OutputChunk { stdio, data });
            }
        }
    }

    /// Kills every process of the command; [`Exec::wait`] then tells `killed`.
    ///
    /// # Errors
    /// [`GuestError::Gone`].
    pub async fn kill(&self) -> Result<(), GuestError> {
        let Input { channel, sender } = &self.input;
        channel.call(Request::Kill { stream: sender.id() }).await.map(drop)
    }

    /// How it ended. Output not yet taken is discarded.
    ///
    /// # Errors
    /// [`GuestError::Failed`] with [`super::FailureKind::CannotStart`] if it never ran; [`GuestError::Gone`].
    pub async fn wait(mut self) -> Result<ExecResult, GuestError> {
        while self.next().await.is_some() {}
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None => self.reply.wait().await,
        };
        // Remembered, so that dropping does not kill what ended.
        self.outcome = Some(Ok(Reply::Done));
        match outcome.map_err(|error| self.input.channel.explain(error))? {
            Reply::Exec(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }
}

impl Input {
    /// Sends bytes, and waits while the command does not read. Not cancel-safe: a part may be sent.
    ///
    /// # Errors
    /// [`GuestError::Gone`] when the command ended, or the VM.
    pub async fn send(&self, data: &[u8]) -> Result<(), GuestError> {
        for chunk in data.chunks(CHUNK) {
            self.sender.send(Tag::Plain, chunk).await?;
        }
        Ok(())
    }

    /// The end of standard input; a terminal is hung up, and what still runs on it seconds later is
    /// killed.
    pub async fn end(&self) {
        self.sender.end().await;
    }

    /// Changes the size of the terminal; a command that ended is fine.
    ///
    /// # Errors
    /// [`GuestError::Failed`] if it has no terminal; [`GuestError::Gone`].
    pub async fn resize(&self, size: TerminalSize) -> Result<(), GuestError> {
        let resize = Request::Resize { stream: self.sender.id(), size };
        self.channel.call(resize).await.map(drop)
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.input.sender.close();
        if self.outcome.is_some() {
            return;
        }
        let (channel, stream) = (Arc::clone(&self.input.channel), self.input.sender.id());
        // Without a runtime everything is ending, the VM included.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _: Result<Reply, GuestError> = channel.call(Request::Kill { stream }).await;
                // Nobody takes its output any more either.
                channel.reset(stream).await;
            });
        }
    }
}
