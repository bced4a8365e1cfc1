//! Puts the files of a job into its workspace, inside the guest: a link in a hostile repository
//! cannot redirect a write of the host.

use std::io;

use futures_util::TryStreamExt as _;
use microvm::guest_client::FailureKind;
use microvm::{GuestClient, GuestError};
use protocol::job::ZERO_TIME;
use protocol::{FailureReason, VirtualFile};
use tokio::time::Instant;
use tokio_util::io::StreamReader;

use super::failure::{Failure, guest_failure};
use crate::client::JobClient;
use crate::logs::LogWriter;

/// As stock executors write them.
const MODE: u32 = 0o777;

/// Writes one file; literal content, or a download from the instance.
pub(super) async fn write(
    guest: &GuestClient,
    client: &JobClient,
    path: &str,
    file: &VirtualFile,
    entry: &mut LogWriter,
) -> Result<(), Failure> {
    let started = Instant::now();
    let modified = modified(&file.modified_at);
    let written = if file.bucket.is_empty() || file.key.is_empty() {
        guest.write_file(path, MODE, modified, file.content.as_slice()).await
    } else {
        let download = client.file(&file.bucket, &file.key).await.map_err(|error| {
            Failure::executor(format!("cannot download the file {path:?}: {error}"))
        })?;
        let stream = download.bytes_stream().map_err(|error| io::Error::other(error.without_url()));
        guest.write_file(path, MODE, modified, StreamReader::new(stream)).await
    };
    written.map_err(|error| write_failure(path, &error))?;
    entry.note(&format!("Wrote {path} in {} ms", started.elapsed().as_millis()))?;
    Ok(())
}

/// Writes a script.
pub(super) async fn write_script(
    guest: &GuestClient,
    path: &str,
    text: &str,
) -> Result<(), Failure> {
    let written = guest.write_file(path, MODE, None, text.as_bytes()).await;
    written.map(drop).map_err(|error| write_failure(path, &error))
}

fn write_failure(path: &str, error: &GuestError) -> Failure {
    let failure = guest_failure(error);
    match error {
        GuestError::Failed(cause) if cause.kind == FailureKind::UnsafePath => Failure::new(
            FailureReason::InvalidJob,
            format!("cannot write {path:?} into the workspace: {}", cause.message),
        ),
        _ => Failure {
            message: format!("cannot write {path:?} into the workspace: {}", failure.message),
            ..failure
        },
    }
}

/// Seconds since 1970; `None` for Go's zero time and for what cannot be read.
fn modified(text: &str) -> Option<i64> {
    if text.is_empty() || text == ZERO_TIME {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_zero_means_unset() {
        assert_eq!(modified("2023-03-05T11:20:41.5-03:00"), Some(1_678_026_041));
        assert_eq!(modified(ZERO_TIME), None);
        assert_eq!(modified(""), None);
        assert_eq!(modified("soon"), None);
    }
}
