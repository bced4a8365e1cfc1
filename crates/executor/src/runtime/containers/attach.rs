//! What goes into a container and what comes out of it.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper_util::rt::TokioIo;
use microvm::{OutputChunk, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::UnixStream;

use super::engine::{Asked as _, Container, EngineError};

/// Most bytes of a terminal's output at a time.
const CHUNK: usize = 32 << 10;

/// What a container reads.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// What a container writes.
pub(super) enum Output {
    /// Both outputs in frames of the engine.
    Frames(Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>),
    /// A terminal: bytes as the program wrote them.
    Terminal(Pin<Box<dyn AsyncRead + Send>>),
}

impl Output {
    /// The next output; `None` when there will be none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<OutputChunk> {
        let frames = match self {
            Self::Frames(frames) => frames,
            Self::Terminal(terminal) => {
                let mut data = vec![0; CHUNK];
                let length = terminal.read(&mut data).await.ok().filter(|length| *length > 0)?;
                data.truncate(length);
                return Some(OutputChunk { stdio: Stdio::Stdout, data: data.into() });
            }
        };
        loop {
            // When the engine is gone, or its answer breaks off, waiting for the container tells it.
            let (stdio, data) = match frames.next().await?.ok()? {
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    (Stdio::Stdout, message)
                }
                LogOutput::StdErr { message } => (Stdio::Stderr, message),
                LogOutput::StdIn { .. } => continue,
            };
            if !data.is_empty() {
                return Some(OutputChunk { stdio, data });
            }
        }
    }
}

impl Container {
    /// Takes hold of its outputs, and of its input if it has one.
    pub(super) async fn attach(&self) -> Result<(Output, Input), EngineError> {
        let options = AttachContainerOptionsBuilder::new();
        let options = options.stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = self.engine.api.attach_container(&self.id, Some(options)).await;
        let attached = attached.asked("follow the step")?;
        Ok((Output::Frames(attached.output), attached.input))
    }

    /// Takes hold of its terminal. Not by the library: that reads what a program writes as frames when it looks
    /// like some, and would wait for as many bytes as a hostile program announces.
    pub(super) async fn attach_terminal(&self) -> Result<(Output, Input), EngineError> {
        let connected = self
            .connect_terminal()
            .await
            .map_err(|error| Error::IOError { err: std::io::Error::other(error) });
        let (reader, writer) = tokio::io::split(connected.asked("open the terminal")?);
        Ok((Output::Terminal(Box::pin(reader)), Box::pin(writer)))
    }

    async fn connect_terminal(
        &self,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, Box<dyn std::error::Error + Send + Sync>> {
        let socket = UnixStream::connect(&self.engine.description.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection.with_upgrades());
        let path = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", self.id);
        let request = hyper::Request::post(path)
            .header(HOST, "engine")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("the engine answers {}", answer.status()).into());
        }
        Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
    }
}
