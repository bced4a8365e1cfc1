//! A step's connection to the gateway, as something to read and write.

use std::pin::Pin;
use std::task::{Context, Poll};

use guest_wire::Tag;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::channel::{Event, Receiver, Sender};

/// Bytes between the stream and whoever serves it.
const BUFFER: usize = 16 * 1024;

/// A connection from a step to `http://instance.internal`: plain HTTP/1.1 bytes, hostile.
#[derive(Debug)]
pub struct GatewayConn {
    inner: DuplexStream,
}

impl GatewayConn {
    pub(super) fn new(sender: Sender, receiver: Receiver) -> Self {
        let (inner, outer) = tokio::io::duplex(BUFFER);
        tokio::spawn(carry(outer, sender, receiver));
        Self { inner }
    }
}

/// Carries both directions until both ended, or either broke.
async fn carry(conn: DuplexStream, sender: Sender, receiver: Receiver) {
    let (source, sink) = tokio::io::split(conn);
    let (to_guest, from_guest) =
        tokio::join!(to_guest(source, &sender), from_guest(receiver, sink, &sender));
    tracing::trace!(stream = sender.id(), to_guest, from_guest, "gateway connection ended");
}

async fn to_guest(mut source: impl AsyncRead + Unpin, sender: &Sender) -> bool {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer).await {
            Ok(length @ 1..) => {
                if sender.send(Tag::Plain, &buffer[..length]).await.is_err() {
                    return false;
                }
            }
            _ => {
                sender.end().await;
                return true;
            }
        }
    }
}

async fn from_guest(
    mut receiver: Receiver,
    mut sink: impl AsyncWrite + Unpin,
    sender: &Sender,
) -> bool {
    loop {
        match receiver.next().await {
            Some(Event::Data(_, data)) => {
                // Whoever served it is gone: so is the connection.
                if sink.write_all(&data).await.is_err() {
                    sender.reset("the gateway closed the connection").await;
                    return false;
                }
            }
            Some(Event::End) => {
                let _: std::io::Result<()> = sink.shutdown().await;
                return true;
            }
            Some(Event::Reset(_)) | None => {
                let _: std::io::Result<()> = sink.shutdown().await;
                return false;
            }
        }
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
