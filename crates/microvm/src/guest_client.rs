//! The host's side of the channel: typed calls to the guest.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
pub use guest_wire::message::{
    Collected, ExecResult, Failure, FailureKind, FileHeader, Prepare, Usage,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Talks to one guest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuestClient {}

/// Why a call to the guest did not work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest did it wrong or could not; see the kind.
    #[error("guest: {}", .0.message)]
    Failed(Failure),
    /// The VM is gone or its channel broke; [`crate::Vm::exited`] tells why.
    #[error("the guest is gone: {0}")]
    Gone(String),
    /// The request does not fit into a control frame (64 KiB), for instance a huge environment.
    #[error("request to the guest of {0} bytes is too large; put large values into files")]
    TooLarge(usize),
    /// The caller's source could not be read.
    #[error("source of the file: {0}")]
    Source(String),
}

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

/// A running command. Dropping it kills the command.
#[derive(Debug)]
pub struct Exec {}

impl Exec {
    /// The next output, or `None` when the command ended. A caller that does not call this stops the
    /// command's output, not the VM. Cancel-safe.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        todo!("lands next")
    }

    /// Kills every process of the command; [`Exec::wait`] then tells `killed`.
    ///
    /// # Errors
    /// [`GuestError::Gone`].
    pub async fn kill(&self) -> Result<(), GuestError> {
        todo!("lands next")
    }

    /// How it ended. Output not yet taken is discarded.
    ///
    /// # Errors
    /// [`GuestError::Failed`] with [`FailureKind::CannotStart`] if it never ran; [`GuestError::Gone`].
    pub async fn wait(self) -> Result<ExecResult, GuestError> {
        todo!("lands next")
    }
}

/// Files leaving the guest.
#[derive(Debug)]
pub struct Collect {}

/// One file of a [`Collect`]: `AsyncRead` of its content. If it ends with an error, the guest could not
/// read all of it.
#[derive(Debug)]
pub struct CollectedFile<'a> {
    /// Path (relative, UTF-8, no `..`; checked), size at opening, permission bits.
    pub header: FileHeader,
    collect: &'a mut Collect,
}

impl Collect {
    /// The next file; what was not read of the former one is skipped. `None` after the last.
    ///
    /// # Errors
    /// [`GuestError::Gone`] also when the guest sends what is not a safe path.
    pub async fn next_file(&mut self) -> Result<Option<CollectedFile<'_>>, GuestError> {
        todo!("lands next")
    }

    /// What was sent and skipped.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn finish(self) -> Result<Collected, GuestError> {
        todo!("lands next")
    }
}

impl AsyncRead for CollectedFile<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let _ = &self.collect;
        todo!("lands next")
    }
}

/// What to collect. Globs are relative to the workspace; `**` crosses `/`, `*` does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectSpec {
    /// Which files; links are never followed.
    pub globs: Vec<String>,
    /// Longer files are skipped.
    pub max_file_bytes: u64,
    /// Most bytes in all.
    pub max_total_bytes: u64,
    /// Most files.
    pub max_files: u64,
}

/// A connection from a step to `http://instance.internal`: plain HTTP/1.1 bytes, hostile.
#[derive(Debug)]
pub struct GatewayConn {
    inner: DuplexStream,
}

impl GuestClient {
    /// Assembles the disks: scratch, workspace, step images. Once.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn prepare(&self, prepare: Prepare) -> Result<(), GuestError> {
        let _ = prepare;
        todo!("lands next")
    }

    /// Writes a file of the workspace (path relative to it), making its directories; returns its length.
    /// Mode bits as given; `modified` in seconds since 1970.
    ///
    /// # Errors
    /// [`GuestError::Failed`] with `UnsafePath`, `DiskFull`, …; [`GuestError::Source`].
    pub async fn write_file<R: AsyncRead + Unpin>(
        &self,
        path: &str,
        mode: u32,
        modified: Option<i64>,
        source: R,
    ) -> Result<u64, GuestError> {
        let _ = (path, mode, modified, source);
        todo!("lands next")
    }

    /// A file of the workspace, `None` if there is none.
    ///
    /// # Errors
    /// [`GuestError::Failed`] with `TooLarge` beyond `max_bytes`.
    pub async fn read_file(
        &self,
        path: &str,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, GuestError> {
        let _ = (path, max_bytes);
        todo!("lands next")
    }

    /// Removes a file of the workspace; absent is fine.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn remove_file(&self, path: &str) -> Result<(), GuestError> {
        let _ = path;
        todo!("lands next")
    }

    /// Starts a command. Steps of one VM may run at the same time.
    ///
    /// # Errors
    /// [`GuestError::TooLarge`], [`GuestError::Gone`]. That it could not start is told by [`Exec::wait`].
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec, GuestError> {
        let _ = spec;
        todo!("lands next")
    }

    /// Streams the matching files of the workspace out of the guest.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn collect(&self, spec: CollectSpec) -> Result<Collect, GuestError> {
        let _ = spec;
        todo!("lands next")
    }

    /// What all steps used so far.
    ///
    /// # Errors
    /// [`GuestError::Gone`].
    pub async fn usage(&self) -> Result<Usage, GuestError> {
        todo!("lands next")
    }

    /// The next connection of a step to the gateway; `None` when the VM is gone. One task should ask.
    pub async fn next_gateway_conn(&self) -> Option<GatewayConn> {
        todo!("lands next")
    }
}

impl AsyncRead for GatewayConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for GatewayConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
