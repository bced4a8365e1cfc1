//! Sockets that something of a job connects to.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Listens on sockets of these names in `dir`, which may have a path of any length.
pub(crate) fn listen<const N: usize>(
    dir: &Path,
    names: [&str; N],
) -> io::Result<[UnixListener; N]> {
    // Paths of sockets are limited to 107 bytes; this one is short wherever the folder is.
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dir = OpenOptions::new().read(true).custom_flags(flags).open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let listeners: io::Result<Vec<_>> =
        names.iter().map(|name| UnixListener::bind(short.join(name))).collect();
    Ok(listeners?.try_into().expect("one for each name"))
}
