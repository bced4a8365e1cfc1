//! Serves a mirror by `git upload-pack`, streaming both ways.
//!
//! Each run is one child of this process. It ends with the request that started it: the answer's body
//! owns it, and dropping the body kills it.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use super::command::{git, last_words};
use super::mirror::Mirrors;

/// Most bytes of a request after decompression: wants and haves of a very large repository.
pub const MAX_REQUEST: u64 = 64 << 20;
/// A run may take so long.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// A request waits so long for its turn.
const MAX_QUEUE: Duration = Duration::from_secs(30);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum UploadPackError {
    /// Nothing was fetched yet, or the repository is gone.
    #[error("repository not found")]
    NotCloned,
    /// Too many others.
    #[error("too many fetches are running, try again")]
    Busy,
    /// Git could not be started.
    #[error("git: {0}")]
    Io(#[from] io::Error),
}

/// The `Git-Protocol` header as it may go into the environment: `version=2` and other key=value parts.
pub fn clean_protocol(header: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"=:._-".contains(&b);
    (!header.is_empty() && header.len() <= 100 && header.bytes().all(plain)).then_some(header)
}

impl Mirrors {
    /// The advertisement of refs (or of capabilities, in protocol version 2).
    ///
    /// # Errors
    /// See [`UploadPackError`].
    pub async fn advertise(
        &self,
        repository: i64,
        protocol: Option<&str>,
    ) -> Result<Output, UploadPackError> {
        let (child, permit) =
            self.start(repository, protocol, &["--http-backend-info-refs"]).await?;
        let head = Bytes::from_static(b"001e# service=git-upload-pack\n0000");
        Ok(Output::new(child, permit, None, Some(head)))
    }

    /// One round: `request` is what the client posted.
    ///
    /// # Errors
    /// See [`UploadPackError`]. What goes wrong later ends the output early, as in every git server.
    pub async fn upload_pack<S, E>(
        &self,
        repository: i64,
        protocol: Option<&str>,
        gzip: bool,
        request: S,
    ) -> Result<Output, UploadPackError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: std::fmt::Display + Send,
    {
        let (mut child, permit) = self.start(repository, protocol, &[]).await?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let feeder = tokio::spawn(async move {
            if let Err(error) = feed(stdin, gzip, request).await {
                tracing::debug!(error, "upload-pack request ended early");
            }
        });
        Ok(Output::new(child, permit, Some(feeder), None))
    }

    async fn start(
        &self,
        repository: i64,
        protocol: Option<&str>,
        options: &[&str],
    ) -> Result<(Child, OwnedSemaphorePermit), UploadPackError> {
        if !self.exists(repository) {
            return Err(UploadPackError::NotCloned);
        }
        let turn = self.upload_packs.clone().acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(MAX_QUEUE, turn).await else {
            return Err(UploadPackError::Busy);
        };
        let mut command = git(&self.path(repository), "");
        if let Some(protocol) = protocol {
            command.env("GIT_PROTOCOL", protocol);
        }
        command.args(["upload-pack", "--stateless-rpc", "--strict"]).args(options).arg(".");
        let child = command.stdin(Stdio::piped()).spawn()?;
        Ok((child, permit))
    }
}

async fn feed<S, E>(mut stdin: ChildStdin, gzip: bool, mut request: S) -> Result<(), String>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut gunzip = gzip.then(|| MultiGzDecoder::new(Vec::new()));
    let mut total = 0;
    while let Some(chunk) = request.next().await {
        let chunk = chunk.map_err(|e| e.to_string())?;
        // Small pieces, so that a bomb is noticed before it has filled the memory.
        for piece in chunk.chunks(4096) {
            let plain = match &mut gunzip {
                Some(decoder) => {
                    decoder.write_all(piece).map_err(|e| format!("malformed payload: {e}"))?;
                    std::mem::take(decoder.get_mut())
                }
                None => piece.to_vec(),
            };
            total += plain.len() as u64;
            if total > MAX_REQUEST {
                return Err(format!("request is larger than {MAX_REQUEST} bytes"));
            }
            stdin.write_all(&plain).await.map_err(|e| e.to_string())?;
        }
    }
    if let Some(decoder) = gunzip {
        let rest = decoder.finish().map_err(|e| format!("malformed payload: {e}"))?;
        stdin.write_all(&rest).await.map_err(|e| e.to_string())?;
    }
    stdin.shutdown().await.map_err(|e| e.to_string())
}

/// What upload-pack writes, as the body of an answer.
pub struct Output {
    head: Option<Bytes>,
    stdout: ReaderStream<ChildStdout>,
    deadline: Pin<Box<tokio::time::Sleep>>,
    feeder: Option<JoinHandle<()>>,
    reaper: JoinHandle<()>,
    _permit: OwnedSemaphorePermit,
}

impl Output {
    fn new(
        mut child: Child,
        permit: OwnedSemaphorePermit,
        feeder: Option<JoinHandle<()>>,
        head: Option<Bytes>,
    ) -> Self {
        let stdout = child.stdout.take().expect("stdout is piped");
        Self {
            head,
            stdout: ReaderStream::with_capacity(stdout, 64 << 10),
            deadline: Box::pin(tokio::time::sleep(MAX_TIME)),
            feeder,
            reaper: tokio::spawn(reap(child)),
            _permit: permit,
        }
    }
}

/// Waits for the child and logs its complaint. Aborting this drops the child, which kills it.
async fn reap(mut child: Child) {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // The rest is thrown away, but read, or the child would wait for us.
        let mut stderr = stderr;
        let mut limited = (&mut stderr).take(8192);
        drop(limited.read_to_end(&mut said).await);
        drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await);
    }
    match child.wait().await {
        Ok(status) if status.success() => {}
        Ok(status) => {
            tracing::debug!(%status, said = last_words(&said), "upload-pack failed");
        }
        Err(error) => tracing::warn!(%error, "upload-pack was lost"),
    }
}

impl Stream for Output {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(head)));
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        Pin::new(&mut self.stdout).poll_next(cx)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
        self.reaper.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::clean_protocol;

    #[test]
    fn only_a_plain_protocol_header_reaches_the_environment() {
        assert_eq!(clean_protocol("version=2"), Some("version=2"));
        assert_eq!(clean_protocol("version=2:x=1"), Some("version=2:x=1"));
        assert_eq!(clean_protocol("version=2\nLD_PRELOAD=/x"), None);
        assert_eq!(clean_protocol(""), None);
    }
}
