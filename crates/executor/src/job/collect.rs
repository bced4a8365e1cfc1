//! Artifacts leave the guest as streams and go to the instance without touching the host's disk.

use std::io;

use bytes::Bytes;
use microvm::{CollectSpec, GuestClient};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use super::failure::{Failure, guest_failure};
use crate::client::{ClientError, JobClient};
use crate::logs::LogWriter;

/// Limits of one job's artifacts; the instance has its own, usually lower.
const MAX_FILE_BYTES: u64 = 4 << 30;
const MAX_TOTAL_BYTES: u64 = 16 << 30;
const MAX_FILES: u64 = 10_000;
const CHUNK: usize = 64 << 10;

/// Sends all files that match `globs`.
pub(super) async fn artifacts(
    guest: &GuestClient,
    globs: &[String],
    client: &JobClient,
    entry: &mut LogWriter,
) -> Result<(), Failure> {
    let spec = CollectSpec {
        globs: globs.to_vec(),
        max_file_bytes: MAX_FILE_BYTES,
        max_total_bytes: MAX_TOTAL_BYTES,
        max_files: MAX_FILES,
    };
    let lost = |error| guest_failure(&error);
    let mut collect = guest.collect(spec).await.map_err(lost)?;
    let mut refused = None;
    while let Some(file) = collect.next_file().await.map_err(lost)? {
        let header = file.header.clone();
        match send(client, &header.path, file).await {
            Ok(()) => entry.note(&format!("{} ({} bytes)", header.path, header.size))?,
            Err(error) => {
                entry.note(&format!("{}: {error}", header.path))?;
                refused.get_or_insert_with(|| {
                    Failure::executor(format!(
                        "artifact {:?} could not be stored: {error}",
                        header.path
                    ))
                });
            }
        }
    }
    let collected = collect.finish().await.map_err(lost)?;
    for note in &collected.notes {
        entry.note(note)?;
    }
    if collected.skipped > 0 {
        entry.note(&format!("{} files were skipped", collected.skipped))?;
    }
    if collected.files + collected.skipped == 0 {
        entry.note("no file matches")?;
    }
    refused.map_or(Ok(()), Err)
}

/// One artifact. A file that breaks off breaks the request off: a part never counts as the whole.
async fn send(
    client: &JobClient,
    path: &str,
    mut file: impl AsyncRead + Unpin,
) -> Result<(), ClientError> {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let body = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let item = match (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(chunk)),
                Err(error) => Err(error),
            };
            let broken = item.is_err();
            // The receiver is gone when the request ended early.
            if sender.send(item).await.is_err() || broken {
                return;
            }
        }
    };
    let upload = client.put_artifact(path, reqwest::Body::wrap_stream(body));
    tokio::join!(read, upload).1
}
