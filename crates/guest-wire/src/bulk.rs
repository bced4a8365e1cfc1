//! Frames of the bulk channel: many streams, each with its own credit.
//!
//! **Who opens.** Streams that belong to a request (output, files) carry an even number that the host
//! chose and named in the request. Connections to the gateway are opened by the guest with
//! [`BulkFrame::Open`] and an odd number. Numbers are not reused within a boot.
//!
//! **Credit.** A data frame costs its bytes plus [`FRAME_COST`]. From guest to host every stream starts
//! with [`WINDOW`]; from host to guest with nothing, because the guest may not know the stream yet: it
//! grants when it is ready. The receiver grants more as its reader consumes. Whoever sends without
//! credit is broken or hostile and is cut off.

use crate::BULK_FRAME_MAX;
use crate::frame::{self, FrameError};

/// Credit that a stream from guest to host starts with, and the most a receiver lets stand, in bytes.
pub const WINDOW: usize = 128 * 1024;
/// What each data frame costs besides its bytes, so that floods of tiny frames are bounded too.
pub const FRAME_COST: usize = 64;
/// Data that a well-behaved sender puts into one frame, in bytes: small enough to take turns fairly.
pub const CHUNK: usize = 32 * 1024;
/// Connections to the gateway that may be open at once; more are reset.
pub const MAX_GATEWAY_STREAMS: usize = 32;
/// Longest reason in a [`BulkFrame::Reset`], in bytes.
pub const RESET_REASON_MAX: usize = 1024;

const HEADER: usize = 6;

/// What the bytes of a data frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Content of a file or a connection.
    Plain,
    /// Standard output of a step.
    Stdout,
    /// Standard error of a step.
    Stderr,
    /// JSON of [`crate::message::FileHeader`]: content of that file follows.
    FileHeader,
    /// JSON of [`crate::message::FileEnd`]: the file is complete, or why it is not.
    FileEnd,
}

impl Tag {
    const fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::FileHeader => 3,
            Self::FileEnd => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Plain,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::FileHeader,
            4 => Self::FileEnd,
            _ => return None,
        })
    }
}

/// One frame of the bulk channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkFrame {
    /// Guest to host only: a connection to the gateway.
    Open {
        /// Odd.
        stream: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Which stream.
        stream: u32,
        /// What they are.
        tag: Tag,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The sender sends no more on this stream; the other direction stays open.
    End {
        /// Which stream.
        stream: u32,
    },
    /// The receiver may be sent that many bytes more.
    Credit {
        /// Which stream.
        stream: u32,
        /// Bytes.
        bytes: u32,
    },
    /// Both directions end at once.
    Reset {
        /// Which stream.
        stream: u32,
        /// Why, for people; cut to [`RESET_REASON_MAX`] bytes.
        reason: String,
    },
}

/// Bytes that were a frame but not one of the bulk channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Shorter than a header.
    #[error("bulk frame of {0} bytes has no header")]
    Short(usize),
    /// Unknown kind.
    #[error("bulk frame of unknown kind {0}")]
    Kind(u8),
    /// Unknown tag.
    #[error("bulk data with unknown tag {0}")]
    Tag(u8),
    /// A body of the wrong length for its kind.
    #[error("bulk frame of kind {kind} with a body of {length} bytes")]
    Body {
        /// The kind's code.
        kind: u8,
        /// Bytes after the header.
        length: usize,
    },
}

impl BulkFrame {
    /// Credit that sending this frame takes.
    pub fn cost(&self) -> usize {
        match self {
            Self::Data { data, .. } => data.len() + FRAME_COST,
            _ => 0,
        }
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> u32 {
        match *self {
            Self::Open { stream }
            | Self::Data { stream, .. }
            | Self::End { stream }
            | Self::Credit { stream, .. }
            | Self::Reset { stream, .. } => stream,
        }
    }

    /// Reads the content of one frame (without its length prefix).
    ///
    /// # Errors
    /// [`BulkError`] for anything that this generation does not know.
    pub fn decode(mut frame: Vec<u8>) -> Result<Self, BulkError> {
        if frame.len() < HEADER {
            return Err(BulkError::Short(frame.len()));
        }
        let (kind, tag) = (frame[0], frame[1]);
        let stream = u32::from_le_bytes([frame[2], frame[3], frame[4], frame[5]]);
        let length = frame.len() - HEADER;
        match kind {
            1 if length == 0 => Ok(Self::Open { stream }),
            2 => {
                let tag = Tag::from_code(tag).ok_or(BulkError::Tag(tag))?;
                frame.drain(..HEADER);
                Ok(Self::Data { stream, tag, data: frame })
            }
            3 if length == 0 => Ok(Self::End { stream }),
            4 if length == 4 => {
                let bytes = u32::from_le_bytes([frame[6], frame[7], frame[8], frame[9]]);
                Ok(Self::Credit { stream, bytes })
            }
            5 if length <= RESET_REASON_MAX => {
                let mut reason = String::from_utf8_lossy(&frame[HEADER..]).into_owned();
                // What stands for a wrong byte is longer than the byte.
                reason.truncate(reason.floor_char_boundary(RESET_REASON_MAX));
                Ok(Self::Reset { stream, reason })
            }
            1 | 3..=5 => Err(BulkError::Body { kind, length }),
            other => Err(BulkError::Kind(other)),
        }
    }

    /// Appends the frame with its length prefix to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] for data beyond [`BULK_FRAME_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match self {
            Self::Open { stream } => Self::put(1, 0, *stream, &[], out),
            Self::Data { stream, tag, data } => Self::encode_data(*stream, *tag, data, out),
            Self::End { stream } => Self::put(3, 0, *stream, &[], out),
            Self::Credit { stream, bytes } => Self::put(4, 0, *stream, &bytes.to_le_bytes(), out),
            Self::Reset { stream, reason } => {
                let cut = reason.floor_char_boundary(RESET_REASON_MAX);
                Self::put(5, 0, *stream, &reason.as_bytes()[..cut], out)
            }
        }
    }

    /// [`BulkFrame::encode`] of a data frame without owning its bytes.
    ///
    /// # Errors
    /// See [`BulkFrame::encode`].
    pub fn encode_data(
        stream: u32,
        tag: Tag,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        Self::put(2, tag.code(), stream, data, out)
    }

    fn put(
        kind: u8,
        tag: u8,
        stream: u32,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let [a, b, c, d] = stream.to_le_bytes();
        frame::encode(&[&[kind, tag, a, b, c, d], body], BULK_FRAME_MAX, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_frames_are_named() {
        assert_eq!(BulkFrame::decode(vec![1, 0]), Err(BulkError::Short(2)));
        assert_eq!(BulkFrame::decode(vec![9, 0, 0, 0, 0, 0]), Err(BulkError::Kind(9)));
        assert_eq!(BulkFrame::decode(vec![2, 99, 0, 0, 0, 0]), Err(BulkError::Tag(99)));
        let open_with_body = BulkFrame::decode(vec![1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(open_with_body, Err(BulkError::Body { kind: 1, length: 1 }));
        let long_reset = [vec![5, 0, 0, 0, 0, 0], vec![b'x'; RESET_REASON_MAX + 1]].concat();
        assert!(matches!(BulkFrame::decode(long_reset), Err(BulkError::Body { kind: 5, .. })));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        let reason = "ä".repeat(RESET_REASON_MAX);
        BulkFrame::Reset { stream: 2, reason }.encode(&mut out).unwrap();
        let frame = BulkFrame::decode(out.split_off(4)).unwrap();
        assert_eq!(frame, BulkFrame::Reset { stream: 2, reason: "ä".repeat(512) });
    }

    #[test]
    fn empty_data_is_not_free() {
        let frame = BulkFrame::Data { stream: 2, tag: Tag::Plain, data: vec![] };
        assert_eq!(frame.cost(), FRAME_COST);
    }
}
