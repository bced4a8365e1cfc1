//! QEMU's machine protocol, as far as we need it: why did the machine stop?
//! <https://www.qemu.org/docs/master/interop/qmp-spec.html>

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longer lines end the conversation, in bytes.
const LINE_MAX: u64 = 64 * 1024;

/// The reason of the last `SHUTDOWN` event: `guest-shutdown`, `guest-reset`, `guest-panic`, `host-…`.
#[derive(Clone, Debug, Default)]
pub struct ShutdownReason(Arc<Mutex<Option<String>>>);

impl ShutdownReason {
    /// What QEMU said, if it did.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens until QEMU is gone.
    pub async fn listen(self, mut stream: UnixStream) {
        let (source, mut sink) = stream.split();
        // Events flow only after the capabilities were negotiated.
        if sink.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await.is_err() {
            return;
        }
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut source).take(LINE_MAX).read_until(b'\n', &mut line).await {
                Ok(1..) if line.ends_with(b"\n") => {}
                _ => return,
            }
            let Ok(Message { event, data: Some(Data { reason: Some(reason) }) }) =
                serde_json::from_slice(&line)
            else {
                continue;
            };
            if event == "SHUTDOWN" {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            }
        }
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    event: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reason_is_found_among_other_talk() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reason = ShutdownReason::default();
        let listening = tokio::spawn(reason.clone().listen(ours));
        let talk = "{\"QMP\":{}}\r\n{\"return\":{}}\r\n{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\
                    \"reason\":\"guest-reset\"}}\r\n{\"event\":\"STOP\",\"data\":{\"reason\":\"x\"}}\n";
        theirs.write_all(talk.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        listening.await.unwrap();
        assert_eq!(reason.get().as_deref(), Some("guest-reset"));
    }
}
