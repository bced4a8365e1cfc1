//! Length-prefixed frames: four bytes little-endian length, then that many bytes.

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// The peer sent something that is not a frame; the channel is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix exceeds the channel's limit. Nothing was allocated for it.
    #[error("frame of {length} bytes exceeds the limit of {max}")]
    TooLong {
        /// What the prefix said.
        length: usize,
        /// The channel's limit.
        max: usize,
    },
}

/// Cuts a byte stream into frames. Pure: the caller reads, the decoder remembers at most one frame.
#[derive(Debug)]
pub struct Decoder {
    max: usize,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    body: Vec<u8>,
    want: usize,
}

impl Decoder {
    /// A decoder that refuses frames longer than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, prefix: [0; PREFIX], prefix_len: 0, body: Vec::new(), want: 0 }
    }

    /// Takes bytes from the front of `input` until a frame is complete or `input` is empty.
    ///
    /// Call it in a loop until it returns `Ok(None)`; then read more.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the prefix says so; the decoder then refuses everything.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if self.prefix_len < PREFIX {
            let take = input.len().min(PREFIX - self.prefix_len);
            self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(&input[..take]);
            self.prefix_len += take;
            *input = &input[take..];
            if self.prefix_len < PREFIX {
                return Ok(None);
            }
            self.want = u32::from_le_bytes(self.prefix) as usize;
        }
        if self.want > self.max {
            return Err(FrameError::TooLong { length: self.want, max: self.max });
        }
        // Grows with what really arrives: a peer that announces a long frame and sends nothing costs nothing.
        let take = input.len().min(self.want - self.body.len());
        self.body.extend_from_slice(&input[..take]);
        *input = &input[take..];
        if self.body.len() < self.want {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Whether the stream may end here without cutting a frame.
    pub fn is_at_boundary(&self) -> bool {
        self.prefix_len == 0
    }
}

/// Appends one frame made of `parts` to `out`.
///
/// # Errors
/// [`FrameError::TooLong`] if the parts together exceed `max`; `out` is then unchanged.
pub fn encode(parts: &[&[u8]], max: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let prefix = u32::try_from(length).ok().filter(|_| length <= max);
    let Some(prefix) = prefix else { return Err(FrameError::TooLong { length, max }) };
    out.reserve(PREFIX + length);
    out.extend_from_slice(&prefix.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_prefix_is_refused_before_any_of_the_body_arrives() {
        let mut decoder = Decoder::new(64);
        let mut input: &[u8] = &u32::MAX.to_le_bytes();
        let error = decoder.next_frame(&mut input).unwrap_err();
        assert_eq!(error, FrameError::TooLong { length: u32::MAX as usize, max: 64 });
        let mut more: &[u8] = b"anything";
        assert!(decoder.next_frame(&mut more).is_err(), "a broken channel stays broken");
    }

    #[test]
    fn empty_frames_are_frames() {
        let mut out = Vec::new();
        encode(&[], 8, &mut out).unwrap();
        encode(&[b"x"], 8, &mut out).unwrap();
        let mut decoder = Decoder::new(8);
        let mut input = out.as_slice();
        assert_eq!(decoder.next_frame(&mut input), Ok(Some(vec![])));
        assert_eq!(decoder.next_frame(&mut input), Ok(Some(b"x".to_vec())));
        assert_eq!(decoder.next_frame(&mut input), Ok(None));
        assert!(decoder.is_at_boundary());
    }

    #[test]
    fn encoding_too_much_changes_nothing() {
        let mut out = vec![7];
        assert!(encode(&[&[0; 9]], 8, &mut out).is_err());
        assert_eq!(out, [7]);
    }
}
