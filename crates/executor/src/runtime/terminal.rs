//! A program on a terminal in a machine.

use bytes::Bytes;
pub use microvm::guest_client::TerminalSize;
use microvm::images::Image;
use microvm::{ExecSpec, GuestError};

use super::{Exec, Input, Machine, image_serial};

/// Where programs are looked for when the image does not say; the value that container engines use.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most comfortable shell that is there.
const SHELL: &str = "[ -x /bin/bash ] && exec /bin/bash; exec /bin/sh";

/// A program on a terminal. Dropping it kills the program.
pub struct Terminal {
    exec: Exec,
}

/// Types on a terminal. Cheap to clone.
#[derive(Clone)]
pub struct TerminalInput {
    input: Input,
}

impl Terminal {
    /// Starts `spec` on a terminal of that size.
    ///
    /// # Errors
    /// The machine is gone. That the program could not start is told by [`Terminal::wait`].
    pub async fn open(
        machine: &Machine,
        spec: ExecSpec,
        size: TerminalSize,
    ) -> Result<Self, GuestError> {
        let exec = machine.exec(ExecSpec { tty: Some(size), ..spec }).await?;
        Ok(Self { exec })
    }

    /// Types on it.
    pub fn input(&self) -> TerminalInput {
        TerminalInput { input: self.exec.input() }
    }

    /// What it shows next, at most 32 KiB; `None` when the program ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.exec.next().await.map(|chunk| chunk.data)
    }

    /// The program's exit code, as shells count: 128 and the signal that ended it, -1 when it was killed
    /// from here. What it still shows is discarded.
    ///
    /// # Errors
    /// The program could not start, or the machine is gone.
    pub async fn wait(self) -> Result<i64, GuestError> {
        self.exec.wait().await.map(|result| exit_code(&result))
    }
}

impl TerminalInput {
    /// Types; waits while the program does not read.
    ///
    /// # Errors
    /// The program ended, or the machine.
    pub async fn send(&self, keys: &[u8]) -> Result<(), GuestError> {
        self.input.send(keys).await
    }

    /// Changes its size; a program that ended is fine.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), GuestError> {
        self.input.resize(size).await
    }

    /// Hangs it up: the program is told, and killed if it is still there seconds later.
    pub async fn hang_up(&self) {
        self.input.end().await;
    }
}

/// A shell in an image.
pub(super) fn shell(image_index: usize, image: &Image, cwd: &str) -> ExecSpec {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    env.extend(image.config.env.iter().cloned());
    ExecSpec {
        image: image_serial(image_index),
        argv: ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec(),
        env,
        cwd: cwd.to_owned(),
        user: image.config.user.clone(),
        ..ExecSpec::default()
    }
}

/// As shells count: the code, or 128 and the signal; -1 when we killed it.
pub fn exit_code(result: &microvm::guest_client::ExecResult) -> i64 {
    match (result.exit_code, result.signal) {
        _ if result.killed => -1,
        (Some(code), _) => code.into(),
        (None, Some(signal)) => 128 + i64::from(signal),
        (None, None) => -1,
    }
}
