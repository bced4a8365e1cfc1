//! Files that leave the guest. What it says about them is checked before anyone sees it.

use std::path::{Component, Path};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use guest_wire::Tag;
use guest_wire::message::{self, Collected, FileEnd, FileHeader, Reply, Request};
use tokio::io::{AsyncRead, ReadBuf};

use super::{GuestError, unexpected};
use crate::channel::{Channel, Event, PendingReply, Receiver, Sender};

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

/// Files leaving the guest.
#[derive(Debug)]
pub struct Collect {
    channel: Arc<Channel>,
    sender: Sender,
    receiver: Receiver,
    reply: PendingReply,
    spec: CollectSpec,
    files: u64,
    bytes: u64,
    file: Option<OpenFile>,
    finished: bool,
}

/// The file that is on its way.
#[derive(Debug)]
struct OpenFile {
    remaining: u64,
    chunk: Bytes,
    end: Option<FileEnd>,
}

/// One file of a [`Collect`]: `AsyncRead` of its content. If it ends with an error, the guest could not
/// read all of it.
#[derive(Debug)]
pub struct CollectedFile<'a> {
    /// Path (relative, UTF-8, no `..`; checked), size at opening, permission bits.
    pub header: FileHeader,
    collect: &'a mut Collect,
}

impl Collect {
    pub(super) async fn start(
        channel: Arc<Channel>,
        spec: CollectSpec,
    ) -> Result<Self, GuestError> {
        let (sender, receiver) = channel.stream();
        let request = message::Collect {
            stream: sender.id(),
            globs: spec.globs.clone(),
            max_file_bytes: spec.max_file_bytes,
            max_total_bytes: spec.max_total_bytes,
            max_files: spec.max_files,
        };
        let reply = channel.request(Request::Collect(request)).await?;
        let (files, bytes, file, finished) = (0, 0, None, false);
        Ok(Self { channel, sender, receiver, reply, spec, files, bytes, file, finished })
    }

    /// The next file; what was not read of the former one is skipped. `None` after the last.
    ///
    /// # Errors
    /// [`GuestError::Gone`] also when the guest sends what is not a safe path or exceeds the limits.
    pub async fn next_file(&mut self) -> Result<Option<CollectedFile<'_>>, GuestError> {
        loop {
            match std::future::poll_fn(|cx| self.poll_chunk(cx)).await {
                Ok(true) => {
                    if let Some(file) = &mut self.file {
                        file.chunk.clear();
                    }
                }
                Ok(false) => break,
                // Told to whoever read that file; the next one may be fine.
                Err(_) if self.file.as_ref().is_some_and(|file| file.end.is_some()) => break,
                Err(error) => return Err(GuestError::Gone(error.to_string())),
            }
        }
        self.file = None;
        let header = match self.receiver.next().await {
            Some(Event::Data(Tag::FileHeader, json)) => self.check(&json)?,
            Some(Event::End | Event::Reset(_)) => {
                self.finished = true;
                return Ok(None);
            }
            None if self.finished => return Ok(None),
            None => {
                return Err(self.channel.explain(GuestError::Gone("its channel closed".into())));
            }
            Some(Event::Data(tag, _)) => {
                return Err(self.breach(&format!("{tag:?} instead of a file's header")));
            }
        };
        self.file = Some(OpenFile { remaining: header.size, chunk: Bytes::new(), end: None });
        Ok(Some(CollectedFile { header, collect: self }))
    }

    /// What was sent and skipped.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn finish(mut self) -> Result<Collected, GuestError> {
        while self.next_file().await?.is_some() {}
        match self.reply.wait().await.map_err(|error| self.channel.explain(error))? {
            Reply::Collected(collected) => Ok(collected),
            other => Err(unexpected(&other)),
        }
    }

    fn check(&mut self, json: &[u8]) -> Result<FileHeader, GuestError> {
        let header: FileHeader = serde_json::from_slice(json)
            .map_err(|error| self.breach(&format!("a file's header: {error}")))?;
        let path = Path::new(&header.path);
        let plain = !header.path.is_empty()
            && !header.path.contains('\0')
            && path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err(self.breach(&format!("the unsafe path {:?}", header.path)));
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(header.size);
        if header.size > self.spec.max_file_bytes
            || self.bytes > self.spec.max_total_bytes
            || self.files > self.spec.max_files
        {
            return Err(self.breach("more than was asked for"));
        }
        Ok(header)
    }

    /// The guest lies: nothing of it is believed any more.
    fn breach(&self, what: &str) -> GuestError {
        let reason = format!("the guest broke the protocol: it sent {what}");
        self.channel.fail(&reason);
        GuestError::Gone(reason)
    }

    /// Makes sure that the open file has a chunk: `true`; or is complete (or there is none): `false`.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        loop {
            let Some(file) = &mut self.file else { return Poll::Ready(Ok(false)) };
            if !file.chunk.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if let Some(end) = &file.end {
                return Poll::Ready(match &end.error {
                    None => Ok(false),
                    Some(error) => Err(std::io::Error::other(error.clone())),
                });
            }
            let event = ready!(self.receiver.poll_next(cx));
            let length = |data: &Bytes| data.len() as u64;
            match event {
                Some(Event::Data(Tag::Plain, data)) if length(&data) <= file.remaining => {
                    file.remaining -= length(&data);
                    file.chunk = data;
                }
                Some(Event::Data(Tag::FileEnd, json)) => match serde_json::from_slice(&json) {
                    Ok(FileEnd { error: None }) if file.remaining > 0 => {
                        return Poll::Ready(Err(self.cut("a file shorter than it said")));
                    }
                    Ok(end) => file.end = Some(end),
                    Err(_) => return Poll::Ready(Err(self.cut("a file's end that is none"))),
                },
                Some(Event::Data(..)) => {
                    return Poll::Ready(Err(self.cut("something else within a file")));
                }
                Some(Event::End | Event::Reset(_)) | None => {
                    return Poll::Ready(Err(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }

    fn cut(&self, what: &str) -> std::io::Error {
        std::io::Error::other(self.breach(what).to_string())
    }
}

impl Drop for Collect {
    fn drop(&mut self) {
        // The guest would wait for credit for ever.
        if !self.finished
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (channel, stream) = (Arc::clone(&self.channel), self.sender.id());
            runtime.spawn(async move { channel.reset(stream).await });
        }
    }
}

impl AsyncRead for CollectedFile<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !ready!(self.collect.poll_chunk(cx))? {
            return Poll::Ready(Ok(()));
        }
        if let Some(file) = &mut self.collect.file {
            let take = file.chunk.len().min(buf.remaining());
            buf.put_slice(&file.chunk[..take]);
            file.chunk.advance(take);
        }
        Poll::Ready(Ok(()))
    }
}
