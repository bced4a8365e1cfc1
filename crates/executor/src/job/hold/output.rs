//! Output of a terminal that the instance has not acknowledged yet.

use bytes::{Bytes, BytesMut};
use protocol::hold::MAX_CHUNK;

use crate::client::ClientError;
use crate::client::job::Appended;

/// Bytes on their way, by their offset in the terminal's whole output.
#[derive(Default)]
pub(super) struct Unsent {
    /// Bytes that the instance has.
    offset: u64,
    bytes: BytesMut,
}

/// What came of a delivery.
pub(super) enum Sent {
    /// The instance has everything.
    All,
    /// There is more to send.
    Part,
    /// It wants bytes that are gone, or has some that never were.
    Lost(ClientError),
}

impl Unsent {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether more may gather.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < MAX_CHUNK
    }

    /// What to send next, and where it belongs.
    pub(super) fn chunk(&self) -> (u64, Bytes) {
        let length = self.bytes.len().min(MAX_CHUNK);
        (self.offset, Bytes::copy_from_slice(&self.bytes[..length]))
    }

    /// Takes the instance's word for where its copy ends.
    pub(super) fn acknowledged(&mut self, appended: Appended) -> Sent {
        let (Appended::Stored(end) | Appended::Gap(end)) = appended;
        let known = end.checked_sub(self.offset).and_then(|known| usize::try_from(known).ok());
        match known {
            Some(known) if known <= self.bytes.len() => {
                let _ = self.bytes.split_to(known);
                self.offset = end;
                if self.bytes.is_empty() { Sent::All } else { Sent::Part }
            }
            _ => Sent::Lost(ClientError::Answer {
                endpoint: "terminal output".to_owned(),
                reason: format!(
                    "the instance has {end} bytes, {} to {} are at hand",
                    self.offset,
                    self.offset + self.bytes.len() as u64
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_goes_and_the_rest_stays() {
        let mut unsent = Unsent::default();
        unsent.push(&vec![b'a'; MAX_CHUNK]);
        unsent.push(b"rest");
        let (offset, chunk) = unsent.chunk();
        assert_eq!((offset, chunk.len()), (0, MAX_CHUNK));
        assert!(matches!(unsent.acknowledged(Appended::Stored(MAX_CHUNK as u64)), Sent::Part));
        assert_eq!(unsent.chunk(), (MAX_CHUNK as u64, Bytes::from_static(b"rest")));
        // An answer that was lost, and the repetition.
        assert!(matches!(unsent.acknowledged(Appended::Gap(MAX_CHUNK as u64 + 1)), Sent::Part));
        assert_eq!(unsent.chunk(), (MAX_CHUNK as u64 + 1, Bytes::from_static(b"est")));
        assert!(matches!(unsent.acknowledged(Appended::Stored(MAX_CHUNK as u64 + 4)), Sent::All));
        assert!(matches!(unsent.acknowledged(Appended::Gap(3)), Sent::Lost(_)), "long gone");
        assert!(matches!(unsent.acknowledged(Appended::Stored(1 << 40)), Sent::Lost(_)));
    }
}
