//! Streams of the bulk channel with their credit, as the host keeps them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use guest_wire::bulk::{FRAME_COST, MAX_GATEWAY_STREAMS, WINDOW};
use guest_wire::{BulkFrame, Tag};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::PollSender;

use super::lock;
use crate::guest_client::GuestError;

/// A guest that grants more than this is not believed, in bytes.
const CREDIT_MAX: usize = 16 << 20;

/// All streams of one guest.
#[derive(Debug)]
pub struct Streams {
    out: mpsc::Sender<Vec<u8>>,
    next_id: AtomicU32,
    /// `None` once the channel is lost.
    table: Mutex<Option<HashMap<u32, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// Bounded by `allowed`, which the guest is held to.
    inbox: mpsc::UnboundedSender<Event>,
    /// What the guest may still send.
    allowed: usize,
    credit: Arc<Semaphore>,
}

/// What comes out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes.
    Data(Tag, Bytes),
    /// The guest sends no more.
    End,
    /// The guest gave up; why.
    Reset(String),
}

/// What became of a frame.
#[derive(Debug)]
pub enum Taken {
    /// It belonged to a stream, or to one that was given up.
    Known,
    /// A step connected to the gateway.
    Gateway(Sender, Receiver),
    /// Too many are open: this one is to be reset.
    Refused(u32),
}

/// The sending half of a stream.
#[derive(Debug)]
pub struct Sender {
    id: u32,
    out: mpsc::Sender<Vec<u8>>,
    credit: Arc<Semaphore>,
    _registration: Arc<Registration>,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct Receiver {
    id: u32,
    out: PollSender<Vec<u8>>,
    inbox: mpsc::UnboundedReceiver<Event>,
    /// Taken but not granted again yet.
    consumed: usize,
    ended: bool,
    registration: Arc<Registration>,
}

/// Takes the stream off the table when both halves are gone.
#[derive(Debug)]
struct Registration {
    id: u32,
    streams: Arc<Streams>,
}

impl Streams {
    /// None yet. Frames for the guest go to `out`.
    pub fn new(out: mpsc::Sender<Vec<u8>>) -> Self {
        // Even numbers are ours; zero is left out so that it can mean nothing.
        Self { out, next_id: AtomicU32::new(2), table: Mutex::new(Some(HashMap::new())) }
    }

    /// Resets a stream that was not taken, or is no longer wanted.
    pub async fn refuse(&self, stream: u32, reason: &str) {
        let mut bytes = Vec::new();
        let reset = BulkFrame::Reset { stream, reason: reason.to_owned() };
        reset.encode(&mut bytes).expect("frames without data are short");
        // A channel that is lost needs no answer.
        let _: Result<(), _> = self.out.send(bytes).await;
    }

    /// A new stream of ours.
    pub fn open(self: &Arc<Self>) -> (Sender, Receiver) {
        self.register(self.next_id.fetch_add(2, Ordering::Relaxed))
    }

    /// Nothing more comes or goes.
    pub fn close(&self) {
        for (_, entry) in lock(&self.table).take().into_iter().flatten() {
            entry.credit.close();
        }
    }

    /// Takes a frame from the guest.
    ///
    /// # Errors
    /// How the guest broke the protocol.
    pub fn take(self: &Arc<Self>, frame: BulkFrame) -> Result<Taken, String> {
        let cost = frame.cost();
        if let BulkFrame::Open { stream } = frame {
            return self.accept(stream);
        }
        let mut table = lock(&self.table);
        let Some(entry) = table.as_mut().and_then(|table| table.get_mut(&frame.stream())) else {
            return Ok(Taken::Known);
        };
        let event = match frame {
            BulkFrame::Data { stream, tag, data } => {
                entry.allowed = entry
                    .allowed
                    .checked_sub(cost)
                    .ok_or_else(|| format!("stream {stream} exceeds its credit"))?;
                Event::Data(tag, data.into())
            }
            BulkFrame::Credit { stream, bytes } => {
                let bytes = bytes as usize;
                if entry.credit.available_permits() + bytes > CREDIT_MAX {
                    return Err(format!("stream {stream} grants too much"));
                }
                entry.credit.add_permits(bytes);
                return Ok(Taken::Known);
            }
            BulkFrame::End { .. } => {
                entry.allowed = 0;
                Event::End
            }
            BulkFrame::Reset { reason, stream } => {
                entry.credit.close();
                let reset = Event::Reset(reason);
                // Nothing may follow it, so a flood of them costs nothing.
                if let Some(entry) = table.as_mut().and_then(|table| table.remove(&stream)) {
                    let _: Result<(), _> = entry.inbox.send(reset);
                }
                return Ok(Taken::Known);
            }
            BulkFrame::Open { .. } => return Err("opened twice".into()),
        };
        let is_end = event == Event::End;
        // A reader that is gone needs nothing.
        if entry.inbox.send(event).is_err() || !is_end {
            return Ok(Taken::Known);
        }
        // A second end would cost memory without credit.
        let (closed, _) = mpsc::unbounded_channel();
        entry.inbox = closed;
        Ok(Taken::Known)
    }

    fn accept(self: &Arc<Self>, stream: u32) -> Result<Taken, String> {
        if stream.is_multiple_of(2) {
            return Err(format!("stream {stream} is not the guest's to open"));
        }
        {
            let table = lock(&self.table);
            let Some(table) = table.as_ref() else { return Ok(Taken::Known) };
            if table.contains_key(&stream) {
                return Err(format!("stream {stream} is open already"));
            }
            if table.keys().filter(|id| *id % 2 == 1).count() >= MAX_GATEWAY_STREAMS {
                return Ok(Taken::Refused(stream));
            }
        }
        let (sender, receiver) = self.register(stream);
        Ok(Taken::Gateway(sender, receiver))
    }

    fn register(self: &Arc<Self>, id: u32) -> (Sender, Receiver) {
        let (inbox, events) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(0));
        let registration = Arc::new(Registration { id, streams: Arc::clone(self) });
        match lock(&self.table).as_mut() {
            Some(table) => {
                let entry = Entry { inbox, allowed: WINDOW, credit: Arc::clone(&credit) };
                table.insert(id, entry);
            }
            // Lost: both halves find out at once.
            None => credit.close(),
        }
        let out = self.out.clone();
        let sender =
            Sender { id, out: out.clone(), credit, _registration: Arc::clone(&registration) };
        let out = PollSender::new(out);
        let receiver = Receiver { id, out, inbox: events, consumed: 0, ended: false, registration };
        (sender, receiver)
    }

    fn grant(&self, id: u32, bytes: usize) {
        if let Some(entry) = lock(&self.table).as_mut().and_then(|table| table.get_mut(&id)) {
            entry.allowed += bytes;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(table) = lock(&self.streams.table).as_mut() {
            table.remove(&self.id);
        }
    }
}

impl Sender {
    /// The stream's number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends one data frame of at most `CHUNK` bytes, waiting for credit.
    pub async fn send(&self, tag: Tag, data: &[u8]) -> Result<(), GuestError> {
        let cost = u32::try_from(data.len() + FRAME_COST).expect("chunks are short");
        let gone = || GuestError::Gone("the guest gave the stream up".into());
        self.credit.acquire_many(cost).await.map_err(|_| gone())?.forget();
        let mut frame = Vec::with_capacity(data.len() + 16);
        BulkFrame::encode_data(self.id, tag, data, &mut frame).expect("chunks fit into frames");
        self.out.send(frame).await.map_err(|_| gone())
    }

    /// Whoever sends, now or later, learns that nobody takes it.
    pub fn close(&self) {
        self.credit.close();
    }

    /// Sends no more.
    pub async fn end(&self) {
        self.put(&BulkFrame::End { stream: self.id }).await;
    }

    /// Gives the stream up in both directions.
    pub async fn reset(&self, reason: &str) {
        self.put(&BulkFrame::Reset { stream: self.id, reason: reason.to_owned() }).await;
    }

    async fn put(&self, frame: &BulkFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("frames without data are short");
        // A channel that is lost needs no goodbye.
        let _: Result<(), _> = self.out.send(bytes).await;
    }
}

impl Receiver {
    /// The next event; `None` once the guest is gone or after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// See [`Receiver::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_grant(cx);
        let event = std::task::ready!(self.inbox.poll_recv(cx));
        match &event {
            Some(Event::Data(_, data)) => self.consumed += data.len() + FRAME_COST,
            Some(Event::End | Event::Reset(_)) | None => self.ended = true,
        }
        Poll::Ready(event)
    }

    /// Lets the guest send again what was taken, in portions. If the way to the guest is full, this task
    /// is woken when it is not.
    fn poll_grant(&mut self, cx: &mut Context<'_>) {
        if self.consumed < WINDOW / 4 {
            return;
        }
        if let Poll::Ready(Ok(())) = self.out.poll_reserve(cx) {
            let bytes = u32::try_from(self.consumed).expect("at most a window");
            let mut frame = Vec::new();
            let credit = BulkFrame::Credit { stream: self.id, bytes };
            credit.encode(&mut frame).expect("frames without data are short");
            self.registration.streams.grant(self.id, self.consumed);
            self.consumed = 0;
            let _: Result<(), _> = self.out.send_item(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> (Arc<Streams>, mpsc::Receiver<Vec<u8>>) {
        let (out, queue) = mpsc::channel(64);
        (Arc::new(Streams::new(out)), queue)
    }

    fn data(stream: u32, length: usize) -> BulkFrame {
        BulkFrame::Data { stream, tag: Tag::Plain, data: vec![0; length] }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_bounds_the_guest() {
        let (streams, _queue) = streams();
        let (sender, _receiver) = streams.open();
        let mut stored = 0;
        while streams.take(data(sender.id(), 1000)).is_ok() {
            stored += 1000;
        }
        assert!(stored <= WINDOW);
        // Nor by frames of nothing.
        let (sender, _receiver) = streams.open();
        let frames = (0..).take_while(|_| streams.take(data(sender.id(), 0)).is_ok()).count();
        assert_eq!(frames, WINDOW / FRAME_COST);
    }

    #[tokio::test]
    async fn reading_grants_again() {
        let (streams, mut queue) = streams();
        let (sender, mut receiver) = streams.open();
        for _ in 0..100 {
            streams.take(data(sender.id(), 20_000)).unwrap();
            assert!(
                matches!(receiver.next().await, Some(Event::Data(_, bytes)) if bytes.len() == 20_000)
            );
        }
        let frame = BulkFrame::decode(queue.recv().await.unwrap().split_off(4)).unwrap();
        assert!(matches!(frame, BulkFrame::Credit { .. }));
    }

    #[tokio::test]
    async fn ends_and_resets_cost_nothing_however_many() {
        let (streams, _queue) = streams();
        let (sender, mut receiver) = streams.open();
        for _ in 0..1000 {
            streams.take(BulkFrame::End { stream: sender.id() }).unwrap();
        }
        assert_eq!(receiver.next().await, Some(Event::End));
        assert_eq!(receiver.next().await, None);
        assert!(streams.take(data(sender.id(), 1)).is_err(), "nothing may follow an end");
        let (sender, mut receiver) = streams.open();
        for _ in 0..1000 {
            let reset = BulkFrame::Reset { stream: sender.id(), reason: "no".into() };
            streams.take(reset).unwrap();
        }
        assert_eq!(receiver.next().await, Some(Event::Reset("no".into())));
        assert!(sender.send(Tag::Plain, b"x").await.is_err());
    }

    #[tokio::test]
    async fn the_guest_opens_only_its_own_and_only_so_many() {
        let (streams, _queue) = streams();
        assert!(streams.take(BulkFrame::Open { stream: 2 }).is_err());
        let mut held = Vec::new();
        let opened = (0..)
            .map(|number| BulkFrame::Open { stream: number * 2 + 1 })
            .take_while(|open| match streams.take(open.clone()) {
                Ok(Taken::Gateway(sender, receiver)) => {
                    held.push((sender, receiver));
                    true
                }
                _ => false,
            })
            .count();
        assert_eq!(opened, MAX_GATEWAY_STREAMS);
        assert!(streams.take(BulkFrame::Open { stream: 1 }).is_err(), "open already");
    }

    #[tokio::test]
    async fn too_much_credit_is_not_believed() {
        let (streams, _queue) = streams();
        let (sender, _receiver) = streams.open();
        let credit = BulkFrame::Credit { stream: sender.id(), bytes: u32::MAX };
        assert!(streams.take(credit).is_err());
    }

    #[tokio::test]
    async fn a_lost_channel_wakes_everyone() {
        let (streams, _queue) = streams();
        let (sender, mut receiver) = streams.open();
        streams.close();
        assert_eq!(receiver.next().await, None);
        assert!(sender.send(Tag::Plain, b"x").await.is_err());
        let (sender, mut receiver) = streams.open();
        assert_eq!(receiver.next().await, None);
        assert!(sender.send(Tag::Plain, b"x").await.is_err());
    }
}
