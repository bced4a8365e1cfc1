//! The host's side of both channels: requests and their replies, streams and their credit. The guest is
//! hostile: whatever it sends, memory stays within the windows, and the first breach ends the connection.

mod control;
#[cfg(test)]
mod hostile;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest_wire::message::{Hello, HelloReply, Reply, Request};
use guest_wire::{BULK_FRAME_MAX, BulkFrame, Decoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::guest_client::GuestError;
use control::Control;
pub use control::{HelloError, PendingReply};
pub use streams::{Event, Receiver, Sender};
use streams::{Streams, Taken};

/// Frames that may wait for a guest that does not read.
const QUEUE: usize = 8;

/// Both channels of one guest.
#[derive(Debug)]
pub struct Channel {
    control: Control,
    streams: Arc<Streams>,
    gateway: tokio::sync::Mutex<mpsc::Receiver<(Sender, Receiver)>>,
    lost: watch::Sender<Option<String>>,
    generation: u32,
}

impl Channel {
    /// Says hello and starts carrying.
    pub async fn open(
        control: UnixStream,
        bulk: UnixStream,
        hello: Hello,
    ) -> Result<(Arc<Self>, HelloReply), HelloError> {
        let greeted = Control::greet(control, hello).await?;
        let (out, queue) = mpsc::channel(QUEUE);
        let (gateway_in, gateway) = mpsc::channel(guest_wire::bulk::MAX_GATEWAY_STREAMS);
        let streams = Arc::new(Streams::new(out));
        let channel = Arc::new(Self {
            control: greeted.control,
            streams,
            gateway: tokio::sync::Mutex::new(gateway),
            lost: watch::Sender::new(None),
            // One without was refused just now.
            generation: greeted.reply.generation.unwrap_or_default(),
        });
        let (bulk_in, bulk_out) = bulk.into_split();
        spawn_until_lost(&channel, write_all(bulk_out, queue));
        let reading = Arc::clone(&channel);
        spawn_until_lost(&channel, async move { reading.read_bulk(bulk_in, gateway_in).await });
        let (control_out, requests) = greeted.outgoing;
        spawn_until_lost(&channel, write_all(control_out, requests));
        let reading = Arc::clone(&channel);
        let replies = greeted.reader;
        spawn_until_lost(&channel, async move { reading.control.read_replies(replies).await });
        Ok((channel, greeted.reply))
    }

    /// Sends a request; its reply comes to what is returned.
    pub async fn request(&self, request: Request) -> Result<PendingReply, GuestError> {
        self.control.request(request).await.map_err(|error| self.explain(error))
    }

    /// Sends a request and waits for its reply.
    pub async fn call(&self, request: Request) -> Result<Reply, GuestError> {
        self.request(request).await?.wait().await.map_err(|error| self.explain(error))
    }

    /// The generation of the wire that both sides agreed on.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A new stream of ours.
    pub fn stream(&self) -> (Sender, Receiver) {
        self.streams.open()
    }

    /// The next connection to the gateway; `None` when the guest is gone.
    pub async fn next_gateway(&self) -> Option<(Sender, Receiver)> {
        let mut lost = self.lost.subscribe();
        let mut gateway = self.gateway.lock().await;
        tokio::select! {
            biased;
            _ = lost.wait_for(Option::is_some) => None,
            next = gateway.recv() => next,
        }
    }

    /// Gives a stream up whose halves are gone.
    pub async fn reset(&self, stream: u32) {
        self.streams.refuse(stream, "no longer wanted").await;
    }

    /// Waits until the channels are of no further use; tells why.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// Ends everything that waits for the guest.
    pub fn fail(&self, reason: &str) {
        let first = self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| reason.to_owned());
            first
        });
        if first {
            self.control.close();
            self.streams.close();
        }
    }

    /// Why a call failed, if the reason is that the guest is gone.
    pub fn explain(&self, error: GuestError) -> GuestError {
        match (&error, &*self.lost.borrow()) {
            (GuestError::Gone(_), Some(reason)) => GuestError::Gone(reason.clone()),
            _ => error,
        }
    }

    async fn read_bulk(
        &self,
        mut source: tokio::net::unix::OwnedReadHalf,
        gateway: mpsc::Sender<(Sender, Receiver)>,
    ) -> String {
        let mut decoder = Decoder::new(BULK_FRAME_MAX);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut input = match source.read(&mut buffer).await {
                Ok(0) => return "the guest's bulk channel closed".into(),
                Ok(length) => &buffer[..length],
                Err(error) => return format!("bulk channel: {error}"),
            };
            loop {
                let frame = match decoder.next_frame(&mut input) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return format!("the guest broke the protocol: {error}"),
                };
                let taken = BulkFrame::decode(frame)
                    .map_err(|error| error.to_string())
                    .and_then(|frame| self.streams.take(frame));
                match taken {
                    Ok(Taken::Known) => {}
                    Ok(Taken::Refused(stream)) => {
                        self.streams.refuse(stream, "too many connections").await
                    }
                    Ok(Taken::Gateway(sender, receiver)) => {
                        if let Err(refused) = gateway.try_send((sender, receiver)) {
                            let (sender, _) = refused.into_inner();
                            sender.reset("nobody serves the gateway").await;
                        }
                    }
                    Err(breach) => return format!("the guest broke the protocol: {breach}"),
                }
            }
        }
    }
}

/// Runs a half of a channel; when it ends, for whatever reason it gives, the channel is lost.
fn spawn_until_lost(channel: &Arc<Channel>, half: impl Future<Output = String> + Send + 'static) {
    let channel = Arc::clone(channel);
    tokio::spawn(async move {
        let mut lost = channel.lost.subscribe();
        tokio::select! {
            reason = half => channel.fail(&reason),
            _ = lost.wait_for(Option::is_some) => {}
        }
    });
}

async fn write_all(
    mut sink: tokio::net::unix::OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> String {
    while let Some(bytes) = queue.recv().await {
        if let Err(error) = sink.write_all(&bytes).await {
            return format!("write to the guest: {error}");
        }
    }
    "closed".into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> GuestError {
    GuestError::Gone("its channel closed".into())
}
