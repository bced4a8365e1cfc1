//! The guest's kernel and initramfs, prepared once per machine.

mod debian;
mod install;
mod lz4;
mod manifest;
mod modules;
mod vmlinux;

use std::path::{Path, PathBuf};

pub use install::{install, open};

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// Debian's `linux-image-cloud-amd64`, by `apt-get download`; unpacked, not installed.
    DebianPackage,
    /// A folder with `linux-image-*-cloud-amd64*.deb`, for machines without internet.
    Directory(PathBuf),
    /// The operator's own: a bzImage or ELF vmlinux, and the `lib/modules/<version>` of it.
    Files {
        /// `vmlinuz` or `vmlinux`.
        kernel: PathBuf,
        /// Folder with the modules; `None` if all that is needed is built in.
        modules: Option<PathBuf>,
    },
}

/// A kernel that is ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledKernel {
    /// Uncompressed ELF.
    pub vmlinux: PathBuf,
    /// With this build's guest inside.
    pub initramfs: PathBuf,
    /// `uname -r` of the guest.
    pub version: String,
    /// Where it came from, for people.
    pub origin: String,
}

/// What [`install`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The kernel to boot.
    pub kernel: InstalledKernel,
    /// `false` if everything was there already.
    pub changed: bool,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Nothing is installed in this folder yet.
    #[error("no kernel in {dir}: run `executor install vm-image`")]
    NotInstalled {
        /// The folder.
        dir: PathBuf,
    },
    /// The host's file system said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A program that is needed is missing or failed.
    #[error("{program}: {message}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said, or how to get it.
        message: String,
    },
    /// The source does not hold what is needed.
    #[error("{path}: {problem}")]
    Source {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl KernelError {
    /// For `map_err` on file operations on `path`.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
