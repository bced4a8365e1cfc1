//! The last words of a serial console: a bounded ring, however much the guest writes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are kept.
pub const KEPT: usize = 64 * 1024;
/// Bytes that go into messages.
const TAIL: usize = 4 * 1024;

/// Shared between who fills and who looks.
#[derive(Clone, Debug, Default)]
pub struct Console {
    ring: Arc<Mutex<VecDeque<u8>>>,
}

impl Console {
    /// Reads `source` to its end, keeping the last [`KEPT`] bytes.
    pub async fn fill_from(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            self.push(&buffer[..length]);
        }
    }

    /// The last few KiB as text; control characters other than line feeds and tabs are left out.
    pub fn tail(&self) -> String {
        let text = self.text();
        let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
        text[start..].trim_end().to_owned()
    }

    /// The line with which the kernel says that it gave up.
    pub fn panic_line(&self) -> Option<String> {
        let text = self.text();
        let at = text.find("Kernel panic - not syncing")?;
        let line = text[at..].lines().next().unwrap_or_default();
        Some(line.chars().take(300).collect())
    }

    fn push(&self, bytes: &[u8]) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
        let excess = (ring.len() + bytes.len()).saturating_sub(KEPT);
        ring.drain(..excess);
        ring.extend(bytes);
    }

    fn text(&self) -> String {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(ring.make_contiguous());
        text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_leaves_the_last_words_only() {
        let console = Console::default();
        let flood = [vec![b'x'; 10 * KEPT], b"\nKernel panic - not syncing: why\r\nend".to_vec()];
        console.clone().fill_from(flood.concat().as_slice()).await;
        assert_eq!(console.ring.lock().unwrap().len(), KEPT);
        assert!(console.tail().len() <= TAIL && console.tail().ends_with("end"));
        assert_eq!(console.panic_line().unwrap(), "Kernel panic - not syncing: why");
    }

    #[test]
    fn terminal_commands_are_not_text() {
        let console = Console::default();
        console.push(b"a\x1b[31mred\x07\xff");
        assert_eq!(console.tail(), "a[31mred\u{fffd}");
    }
}
