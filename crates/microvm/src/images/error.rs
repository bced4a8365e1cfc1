//! Why an image could not be had.

use std::path::PathBuf;

/// What the caller should make of an [`ImageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The registry does not have it. Permanent.
    NotFound,
    /// The registry refused the credentials or their absence. Permanent.
    Unauthorized,
    /// The reference or the image is malformed, hostile or over the limits. Permanent.
    Invalid,
    /// The registry could not be reached or kept failing after retries. May pass.
    Transient,
    /// A fault of this machine: disk, a missing program.
    Local,
}

/// Why an image could not be had. Texts never contain credentials.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference does not follow the grammar or names something that is not allowed here.
    #[error("image reference `{reference}`: {problem}")]
    Reference {
        /// As given.
        reference: String,
        /// Which part, and the fix.
        problem: String,
    },
    /// The registry has no such repository, tag or digest.
    #[error("image `{image}` was not found: {detail}")]
    NotFound {
        /// Reference.
        image: String,
        /// Which registry said so about what.
        detail: String,
    },
    /// 401 or 403.
    #[error("image `{image}`: {detail}")]
    Unauthorized {
        /// Reference.
        image: String,
        /// Which registry, and whether credentials were sent.
        detail: String,
    },
    /// The manifest, the configuration or the index is not acceptable.
    #[error("image `{image}` is invalid: {problem}")]
    Invalid {
        /// Reference.
        image: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer is malformed or hostile.
    #[error("layer {layer} of the image is refused: entry `{entry}`: {problem}")]
    Layer {
        /// Counted from 1, lowest first.
        layer: usize,
        /// Path of the entry, escaped; empty when it is about the layer as a whole.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// Over a limit or larger than the cache.
    #[error("image is too large: {what} exceeds {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit, in the unit of `what`.
        limit: u64,
    },
    /// The registry could not be reached or kept failing.
    #[error("image `{image}`: {detail}")]
    Unavailable {
        /// Reference.
        image: String,
        /// The last failure.
        detail: String,
    },
    /// Another process uses the cache directory.
    #[error("image cache {} is in use by another process; give each executor its own", dir.display())]
    Locked {
        /// The cache directory.
        dir: PathBuf,
    },
    /// Other images in use leave too little of the quota. May pass.
    #[error(
        "the image cache is full of images in use (quota {quota} bytes); give it more room or run fewer jobs"
    )]
    CacheFull {
        /// Bytes.
        quota: u64,
    },
    /// A file of the cache could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `mksquashfs` is missing or failed.
    #[error("mksquashfs: {detail}")]
    Squash {
        /// Exit status and the end of its error output, or the fix.
        detail: String,
    },
    /// The caller gave up.
    #[error("canceled")]
    Canceled,
}

impl ImageError {
    /// What the caller should make of it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Reference { .. }
            | Self::Invalid { .. }
            | Self::Layer { .. }
            | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Unavailable { .. } | Self::Canceled => ErrorKind::Transient,
            Self::Locked { .. }
            | Self::CacheFull { .. }
            | Self::Io { .. }
            | Self::Squash { .. } => ErrorKind::Local,
        }
    }

    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
