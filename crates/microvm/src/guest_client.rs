//! The host's side of the channel: typed calls to the guest.

mod collect;
mod exec;
mod gateway;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use guest_wire::Tag;
use guest_wire::bulk::CHUNK;
pub use guest_wire::message::{
    Collected, ExecResult, Failure, FailureKind, FileHeader, Prepare, TerminalSize, Usage,
};
use guest_wire::message::{ReadFile, Reply, Request, WriteFile};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::channel::{Channel, Event, Sender};
pub use collect::{Collect, CollectSpec, CollectedFile};
pub use exec::{Exec, ExecSpec, Input, OutputChunk, Stdio};
pub use gateway::GatewayConn;

/// How often the guest is asked whether it is there.
const PING: Duration = Duration::from_secs(2);

/// Talks to one guest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuestClient {
    channel: Arc<Channel>,
}

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
    /// The guest is of an older executor and does not know this.
    #[error("the guest is older than this executor and has no {0}")]
    TooOld(&'static str),
    /// The caller's source could not be read.
    #[error("source of the file: {0}")]
    Source(String),
}

/// The host's clock, for the guest.
pub(crate) fn unix_time_ns() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the guest's clock is set to the host's")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

impl GuestClient {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self { channel }
    }

    /// Assembles the disks: scratch, workspace, step images. Once.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn prepare(&self, prepare: Prepare) -> Result<(), GuestError> {
        let prepare = Prepare { unix_time_ns: Some(unix_time_ns()), ..prepare };
        self.channel.call(Request::Prepare(prepare)).await.map(drop)
    }

    /// Writes a file of the workspace (path relative to it), making its directories; returns its length.
    /// What was there is replaced. Mode bits as given; `modified` in seconds since 1970.
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
        let (sender, _receiver) = self.channel.stream();
        let write = WriteFile { stream: sender.id(), path: path.to_owned(), mode, modified };
        let mut reply = self.channel.request(Request::WriteFile(write)).await?;
        let early = tokio::select! {
            biased;
            // A reply before the end is a failure.
            outcome = reply.wait() => Some(outcome),
            sent = pump(source, &sender) => match sent {
                Err(error @ GuestError::Source(_)) => return Err(error),
                // Whatever else went wrong, the reply tells it better.
                Ok(()) | Err(_) => None,
            },
        };
        let outcome = match early {
            Some(outcome) => outcome,
            None => reply.wait().await,
        };
        match outcome.map_err(|error| self.channel.explain(error))? {
            Reply::Bytes(length) => Ok(length),
            other => Err(unexpected(&other)),
        }
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
        let (sender, mut receiver) = self.channel.stream();
        let read = ReadFile { stream: sender.id(), path: path.to_owned(), max_bytes };
        let mut reply = self.channel.request(Request::ReadFile(read)).await?;
        let mut content = Vec::new();
        while let Some(Event::Data(_, data)) = receiver.next().await {
            content.extend_from_slice(&data);
            if content.len() as u64 > max_bytes {
                return Err(GuestError::Gone("it sent more than was asked for".into()));
            }
        }
        match reply.wait().await {
            Ok(Reply::Bytes(length)) if length == content.len() as u64 => Ok(Some(content)),
            Ok(other) => Err(unexpected(&other)),
            Err(GuestError::Failed(failure)) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(error) => Err(self.channel.explain(error)),
        }
    }

    /// Removes a file of the workspace; absent is fine.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn remove_file(&self, path: &str) -> Result<(), GuestError> {
        self.channel.call(Request::RemoveFile { path: path.to_owned() }).await.map(drop)
    }

    /// Starts a command. Steps of one VM may run at the same time.
    ///
    /// # Errors
    /// [`GuestError::TooLarge`], [`GuestError::Gone`]. That it could not start is told by [`Exec::wait`].
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec, GuestError> {
        Exec::start(Arc::clone(&self.channel), spec).await
    }

    /// Streams the matching files of the workspace out of the guest.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn collect(&self, spec: CollectSpec) -> Result<Collect, GuestError> {
        Collect::start(Arc::clone(&self.channel), spec).await
    }

    /// What all steps used so far.
    ///
    /// # Errors
    /// [`GuestError::Gone`].
    pub async fn usage(&self) -> Result<Usage, GuestError> {
        match self.channel.call(Request::Usage).await? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// The next connection of a step to the gateway; `None` when the VM is gone. One task should ask.
    pub async fn next_gateway_conn(&self) -> Option<GatewayConn> {
        let (sender, receiver) = self.channel.next_gateway().await?;
        Some(GatewayConn::new(sender, receiver))
    }

    /// Waits until the guest is gone; tells why.
    pub async fn gone(&self) -> String {
        self.channel.lost().await
    }

    /// Asks whether the guest's agent still answers.
    pub(crate) async fn ping(&self) -> Result<(), GuestError> {
        self.channel.call(Request::Ping).await.map(drop)
    }

    /// Asks now and then whether the guest's agent is there; returns when it did not answer for `limit`. Never
    /// returns for one whose channel is lost, which is seen elsewhere.
    pub(crate) async fn falls_silent(&self, limit: Duration) {
        loop {
            match tokio::time::timeout(limit, self.ping()).await {
                Err(_) => return,
                Ok(Err(_)) => std::future::pending().await,
                Ok(Ok(())) => tokio::time::sleep(PING).await,
            }
        }
    }
}

async fn pump<R: AsyncRead + Unpin>(mut source: R, sender: &Sender) -> Result<(), GuestError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer).await {
            Ok(0) => {
                sender.end().await;
                return Ok(());
            }
            Ok(length) => sender.send(Tag::Plain, &buffer[..length]).await?,
            Err(error) => {
                sender.reset("the source of the file failed").await;
                return Err(GuestError::Source(error.to_string()));
            }
        }
    }
}

fn unexpected(reply: &Reply) -> GuestError {
    GuestError::Gone(format!("it answered something else: {reply:?}"))
}
