//! Tar streams. Reading is strict and bounded (layers are hostile); writing produces the one plain form
//! that is handed to squashfs-tools, so that no byte of a layer's own headers reaches a C parser.
//!
//! Source: POSIX.1-2017 `pax`, <https://www.gnu.org/software/tar/manual/html_node/Standard.html>, and
//! the behaviour of Go's `archive/tar` where they leave room, since container engines use it.

mod number;
mod pax;
mod read;
mod write;

pub use read::{TarError, TarReader};
pub use write::TarWriter;

/// Size of a header and the unit of padding.
pub const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Regular file with content.
    File,
    /// Another name for an earlier entry.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Directory.
    Dir,
    /// Named pipe.
    Fifo,
    /// Character or block device.
    Device,
}

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry's header, all extensions applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As stored: bytes, possibly absolute, possibly with `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky, `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch, cut to what squashfs can hold.
    pub mtime: u32,
    /// Bytes of content; 0 unless a file.
    pub size: u64,
    /// Extended attributes, in the order of the stream, last one wins.
    pub xattrs: Xattrs,
}

/// Bytes as text for messages: printable ASCII stays, the rest is escaped, the length is bounded.
pub fn display(bytes: &[u8]) -> String {
    const MAX: usize = 200;
    let mut text: String = bytes
        .iter()
        .take(MAX)
        .copied()
        .flat_map(std::ascii::escape_default)
        .map(char::from)
        .collect();
    if bytes.len() > MAX {
        text.push('…');
    }
    text
}
