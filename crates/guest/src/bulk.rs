//! The guest's side of the bulk channel: streams with credit over one port.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use guest_wire::bulk::{FRAME_COST, WINDOW};
use guest_wire::message::FailureKind;
use guest_wire::{BULK_FRAME_MAX, BulkFrame, Decoder, Tag};

use crate::failure::{Result, failure};

/// All streams of the channel.
pub struct Bulk {
    port: File,
    /// Held while one frame is written, so that frames of different streams take turns.
    writing: Mutex<()>,
    streams: Mutex<HashMap<u32, Arc<Shared>>>,
}

/// One stream. Dropping it forgets it; frames that still arrive for it are ignored.
pub struct Stream {
    id: u32,
    bulk: Arc<Bulk>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What we may still send.
    credit: usize,
    /// What the host may still send.
    granted: usize,
    inbox: VecDeque<Vec<u8>>,
    /// The host sends no more.
    ended: bool,
    /// Either side gave up.
    reset: Option<String>,
}

impl Bulk {
    /// Takes the port and starts reading from it. `on_end` is told when the host is gone.
    pub fn start(port: File, on_end: impl FnOnce(String) + Send + 'static) -> Arc<Self> {
        let bulk = Arc::new(Self { port, writing: Mutex::default(), streams: Mutex::default() });
        let reader = Arc::clone(&bulk);
        std::thread::spawn(move || on_end(reader.read_all()));
        bulk
    }

    /// Registers a stream that the host may not know yet, or already named in a request.
    pub fn stream(self: &Arc<Self>, id: u32) -> Result<Stream> {
        let shared = Arc::new(Shared::default());
        lock(&shared.state).credit = WINDOW;
        let taken = lock(&self.streams).insert(id, Arc::clone(&shared)).is_some();
        if taken {
            return Err(failure(FailureKind::BadRequest, format!("stream {id} is in use")));
        }
        Ok(Stream { id, bulk: Arc::clone(self), shared })
    }

    /// Writes one frame. A port that refuses is a host that is gone; the reader finds out as well.
    pub fn write(&self, frame: &BulkFrame) {
        let mut bytes = Vec::new();
        if frame.encode(&mut bytes).is_ok() {
            self.write_bytes(&bytes);
        }
    }

    fn write_bytes(&self, bytes: &[u8]) {
        let _turn = lock(&self.writing);
        if let Err(error) = (&self.port).write_all(bytes) {
            println!("guest: bulk channel: {error}");
        }
    }

    fn read_all(&self) -> String {
        let mut decoder = Decoder::new(BULK_FRAME_MAX);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut input = match (&self.port).read(&mut buffer) {
                Ok(0) => return "the host closed the bulk channel".into(),
                Ok(length) => &buffer[..length],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return format!("bulk channel: {error}"),
            };
            loop {
                match decoder.next_frame(&mut input) {
                    Ok(None) => break,
                    Ok(Some(frame)) => match BulkFrame::decode(frame) {
                        Ok(frame) => self.take(frame),
                        Err(error) => return format!("bulk channel: {error}"),
                    },
                    Err(error) => return format!("bulk channel: {error}"),
                }
            }
        }
    }

    fn take(&self, frame: BulkFrame) {
        let Some(shared) = lock(&self.streams).get(&frame.stream()).cloned() else { return };
        let mut state = lock(&shared.state);
        let cost = frame.cost();
        match frame {
            BulkFrame::Data { data, .. } if cost <= state.granted => {
                state.granted -= cost;
                state.inbox.push_back(data);
            }
            BulkFrame::Data { .. } => state.reset = Some("sent without credit".into()),
            BulkFrame::End { .. } => state.ended = true,
            BulkFrame::Credit { bytes, .. } => {
                state.credit = state.credit.saturating_add(bytes as usize);
            }
            BulkFrame::Reset { reason, .. } => state.reset = Some(reason),
            BulkFrame::Open { .. } => {}
        }
        shared.changed.notify_all();
    }
}

impl Stream {
    /// Sends one data frame, waiting for credit; at most `CHUNK` bytes.
    pub fn send(&self, tag: Tag, data: &[u8]) -> Result<()> {
        let cost = data.len() + FRAME_COST;
        let mut state = lock(&self.shared.state);
        while state.reset.is_none() && state.credit < cost {
            state = self.wait(state);
        }
        if let Some(reason) = &state.reset {
            return Err(failure(FailureKind::Aborted, reason.clone()));
        }
        state.credit -= cost;
        drop(state);
        let mut bytes = Vec::with_capacity(data.len() + 16);
        if BulkFrame::encode_data(self.id, tag, data, &mut bytes).is_ok() {
            self.bulk.write_bytes(&bytes);
        }
        Ok(())
    }

    /// Lets the host send a window's worth.
    pub fn grant_window(&self) {
        lock(&self.shared.state).granted = WINDOW;
        self.bulk.write(&BulkFrame::Credit { stream: self.id, bytes: WINDOW as u32 });
    }

    /// The next bytes from the host, `None` at its end.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(reason) = &state.reset {
                return Err(failure(FailureKind::Aborted, reason.clone()));
            }
            if let Some(data) = state.inbox.pop_front() {
                let cost = data.len() + FRAME_COST;
                state.granted += cost;
                drop(state);
                self.bulk.write(&BulkFrame::Credit { stream: self.id, bytes: cost as u32 });
                return Ok(Some(data));
            }
            if state.ended {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }

    /// Whoever waits for the host's bytes waits no longer: nobody wants them any more.
    pub fn stop_receiving(&self) {
        let mut state = lock(&self.shared.state);
        state.inbox.clear();
        state.ended = true;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// We send no more.
    pub fn end(&self) {
        self.bulk.write(&BulkFrame::End { stream: self.id });
    }

    /// Both directions end.
    pub fn reset(&self, reason: &str) {
        let mut state = lock(&self.shared.state);
        if state.reset.is_none() {
            state.reset = Some(reason.to_owned());
            drop(state);
            self.shared.changed.notify_all();
            self.bulk.write(&BulkFrame::Reset { stream: self.id, reason: reason.to_owned() });
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.bulk.streams).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
