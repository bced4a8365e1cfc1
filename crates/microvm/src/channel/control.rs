//! The control channel: numbered requests, replies in any order.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use guest_wire::message::{GuestMessage, Hello, HelloReply, HostMessage, Outcome, Reply, Request};
use guest_wire::{CONTROL_FRAME_MAX, Decoder, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::{gone, lock};
use crate::guest_client::GuestError;

/// Requests that wait for their replies, and the way out.
#[derive(Debug)]
pub struct Control {
    /// Whole frames, written by a task of their own: a caller that gives up must not cut one.
    out: mpsc::Sender<Vec<u8>>,
    next_id: AtomicU64,
    /// `None` once the channel is lost.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>,
}

/// A channel whose guest said hello.
#[derive(Debug)]
pub struct Greeted {
    /// For requests.
    pub control: Control,
    /// For [`Control::read_replies`].
    pub reader: Reader,
    /// What is to be written, and where to.
    pub outgoing: (OwnedWriteHalf, mpsc::Receiver<Vec<u8>>),
    /// What the guest said.
    pub reply: HelloReply,
}

/// A reply that is to come.
#[derive(Debug)]
pub struct PendingReply {
    outcome: oneshot::Receiver<Outcome>,
}

/// Reads frames, with what was read too much so far.
#[derive(Debug)]
pub struct Reader {
    source: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
    ready: std::collections::VecDeque<Vec<u8>>,
}

/// The guest did not introduce itself properly.
#[derive(Debug)]
pub enum HelloError {
    /// No generation in common; the guest's range.
    Generation((u32, u32)),
    /// The channel closed first.
    Closed(String),
    /// Something else came.
    Protocol(String),
}

impl PendingReply {
    /// Waits for it. Cancel-safe.
    pub async fn wait(&mut self) -> Result<Reply, GuestError> {
        match (&mut self.outcome).await {
            Ok(Outcome::Ok(reply)) => Ok(reply),
            Ok(Outcome::Failed(failure)) => Err(GuestError::Failed(failure)),
            Err(_) => Err(gone()),
        }
    }
}

impl Control {
    /// Says hello on a fresh connection.
    pub async fn greet(stream: UnixStream, hello: Hello) -> Result<Greeted, HelloError> {
        let (source, mut out) = stream.into_split();
        let frame = frame(&HostMessage::Hello(hello)).expect("a hello is short");
        out.write_all(&frame).await.map_err(|error| HelloError::Closed(error.to_string()))?;
        let mut reader = Reader {
            source,
            decoder: Decoder::new(CONTROL_FRAME_MAX),
            buffer: vec![0; 16 * 1024],
            ready: std::collections::VecDeque::new(),
        };
        let reply = match reader.next().await {
            Ok(GuestMessage::Hello(reply)) => reply,
            Ok(GuestMessage::Reply { .. }) => {
                return Err(HelloError::Protocol("a reply before any request".into()));
            }
            Err(ReadError::Closed(why)) => return Err(HelloError::Closed(why)),
            Err(ReadError::Protocol(why)) => return Err(HelloError::Protocol(why)),
        };
        if reply.generation.is_none() {
            return Err(HelloError::Generation(reply.supported));
        }
        let (sender, queue) = mpsc::channel(super::QUEUE);
        let control = Self {
            out: sender,
            next_id: AtomicU64::new(1),
            pending: Mutex::new(Some(HashMap::new())),
        };
        Ok(Greeted { control, reader, outgoing: (out, queue), reply })
    }

    /// Sends a request.
    pub async fn request(&self, request: Request) -> Result<PendingReply, GuestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = frame(&HostMessage::Request { id, request }).map_err(GuestError::TooLarge)?;
        let (sender, outcome) = oneshot::channel();
        lock(&self.pending).as_mut().ok_or_else(gone)?.insert(id, sender);
        self.out.send(frame).await.map_err(|_| gone())?;
        Ok(PendingReply { outcome })
    }

    /// Hands replies to whoever waits, until the channel ends; tells why it did.
    pub async fn read_replies(&self, mut reader: Reader) -> String {
        loop {
            match reader.next().await {
                Ok(GuestMessage::Reply { id, result }) => {
                    let waiting = lock(&self.pending).as_mut().and_then(|map| map.remove(&id));
                    // Nobody waits for a reply that was given up, or never asked for.
                    if let Some(sender) = waiting {
                        let _: Result<(), Outcome> = sender.send(result);
                    }
                }
                Ok(GuestMessage::Hello(_)) => return "the guest said hello twice".into(),
                Err(ReadError::Closed(why)) => return why,
                Err(ReadError::Protocol(why)) => {
                    return format!("the guest broke the protocol: {why}");
                }
            }
        }
    }

    /// Whoever waits is told that the guest is gone.
    pub fn close(&self) {
        lock(&self.pending).take();
    }
}

enum ReadError {
    Closed(String),
    Protocol(String),
}

impl Reader {
    async fn next(&mut self) -> Result<GuestMessage, ReadError> {
        let protocol = |error: &dyn std::fmt::Display| ReadError::Protocol(error.to_string());
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return serde_json::from_slice(&frame).map_err(|error| protocol(&error));
            }
            let length = match self.source.read(&mut self.buffer).await {
                Ok(0) => {
                    return Err(ReadError::Closed("the guest's control channel closed".into()));
                }
                Ok(length) => length,
                Err(error) => return Err(ReadError::Closed(format!("control channel: {error}"))),
            };
            let mut input = &self.buffer[..length];
            while let Some(frame) =
                self.decoder.next_frame(&mut input).map_err(|error| protocol(&error))?
            {
                self.ready.push_back(frame);
            }
        }
    }
}

/// The frame of a message, or its length if that is too long.
fn frame(message: &HostMessage) -> Result<Vec<u8>, usize> {
    let json = serde_json::to_vec(message).expect("messages have only string keys");
    let mut frame = Vec::new();
    encode(&[&json], CONTROL_FRAME_MAX, &mut frame).map_err(|_| json.len())?;
    Ok(frame)
}
