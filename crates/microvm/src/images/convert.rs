//! Layers in, one squashfs file out.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::layer::{Budget, LayerError, Spool, read_layer};
use super::merge;
use super::reference::Digest;
use super::request::{Limits, Phase, Progress, ProgressFn};
use super::squash::{Compression, from_tar_with_root};
use super::tree::{Dir, IMPLICIT_DIR};

/// A downloaded layer.
#[derive(Clone, Debug)]
pub struct LayerFile {
    /// Where it is.
    pub path: PathBuf,
    /// Digest of its unpacked form, from the image's configuration.
    pub diff_id: Digest,
}

/// What a conversion may use and whom it tells.
pub struct Job<'a> {
    /// Upper bounds.
    pub limits: Limits,
    /// Of the result.
    pub compression: Compression,
    /// Set when nobody waits for the result any more.
    pub canceled: &'a AtomicBool,
    /// Told now and then.
    pub progress: &'a ProgressFn,
    /// Asked for room before so many more bytes are written.
    pub reserve: &'a dyn Fn(u64) -> Result<(), ImageError>,
}

/// A finished conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Bytes of the squashfs file.
    pub size: u64,
    /// Digest of the squashfs file.
    pub digest: Digest,
}

/// Merges `layers`, lowest first, into the squashfs file `out`. `spool` is a scratch file; it is
/// unlinked at once, so that nothing remains of it after a crash.
pub fn convert(
    layers: &[LayerFile],
    spool: &Path,
    out: &Path,
    job: &Job<'_>,
) -> Result<Converted, ImageError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(spool)
        .map_err(ImageError::io("make", spool))?;
    std::fs::remove_file(spool).map_err(ImageError::io("remove", spool))?;
    let root = merge_layers(layers, &file, job)?;
    let extent = merge::measure(&root).map_err(|e| layer_error(0, e))?;
    // Content that does not compress, and the inode, directory and attribute tables.
    (job.reserve)(extent.content + extent.entries * 128)?;
    let meta = root.meta.as_ref().unwrap_or(&IMPLICIT_DIR).clone();
    let mut done = 0;
    let size = from_tar_with_root(out, job.compression, &meta, |pipe| {
        let written = merge::write_tar(&root, pipe, |offset, len| {
            done += len;
            (job.progress)(Progress { phase: Phase::Writing, done, total: extent.content });
            let range = Range { file: &file, offset, left: len };
            Watched { inner: range, canceled: job.canceled }
        });
        written.map_err(|e| stopped(&e).unwrap_or_else(|| ImageError::io("write", out)(e)))
    })?;
    let digest = hash_file(out, job.canceled)?;
    Ok(Converted { size, digest })
}

/// SHA-256 of a whole file.
pub fn hash_file(path: &Path, canceled: &AtomicBool) -> Result<Digest, ImageError> {
    let file = File::open(path).map_err(ImageError::io("open", path))?;
    let mut hash = Sha256::new();
    io::copy(
        &mut BufReader::with_capacity(1 << 20, Watched { inner: file, canceled }),
        &mut HashWriter(&mut hash),
    )
    .map_err(|e| stopped(&e).unwrap_or_else(|| ImageError::io("read", path)(e)))?;
    Ok(Digest::from_sha256(hash.finalize()))
}

fn merge_layers(layers: &[LayerFile], spool: &File, job: &Job<'_>) -> Result<Dir, ImageError> {
    let mut total = 0;
    for layer in layers {
        total += std::fs::metadata(&layer.path).map_err(ImageError::io("read", &layer.path))?.len();
    }
    let writer = Reserved { inner: spool, job, left: 0 };
    let mut spool = Spool::new(BufWriter::with_capacity(256 << 10, writer));
    let mut budget = Budget::new(job.limits.entries);
    let mut view = Dir::default();
    let mut bytes_left = job.limits.uncompressed_bytes;
    let mut done = 0;
    for (index, layer) in layers.iter().enumerate() {
        let number = index + 1;
        let file = File::open(&layer.path).map_err(ImageError::io("open", &layer.path))?;
        let counted = Counted { inner: file, done: &mut done, total, job };
        let plain = decompress(counted).map_err(|e| layer_error(number, e.into()))?;
        let mut metered = Metered {
            inner: Watched { inner: plain, canceled: job.canceled },
            hash: Sha256::new(),
            left: &mut bytes_left,
            limit: job.limits.uncompressed_bytes,
        };
        let tree = read_layer(&mut metered, &mut spool, &mut budget)
            .map_err(|e| layer_error(number, e))?;
        // What follows the end of the archive still counts for the digest.
        io::copy(&mut metered, &mut io::sink()).map_err(|e| layer_error(number, e.into()))?;
        let found = Digest::from_sha256(metered.hash.finalize());
        if found != layer.diff_id {
            let problem =
                format!("unpacks to {found}, the image's configuration says {}", layer.diff_id);
            return Err(ImageError::Layer { layer: number, entry: String::new(), problem });
        }
        merge::apply(&mut view, tree).map_err(|e| layer_error(number, e))?;
    }
    spool
        .finish()
        .map_err(|e| stopped(&e).unwrap_or_else(|| ImageError::io("write", "spool")(e)))?;
    Ok(view)
}

/// gzip and zstd are recognised by their first bytes, as container engines do; media types lie.
fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    use std::io::BufRead as _;
    /// 128 MiB of window, the most that a frame may ask for without a special option.
    const ZSTD_WINDOW_LOG: u32 = 27;
    let mut source = BufReader::with_capacity(128 << 10, source);
    let start = source.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(source),
    })
}

fn layer_error(layer: usize, error: LayerError) -> ImageError {
    match error {
        LayerError::Refused { entry, problem } => ImageError::Layer { layer, entry, problem },
        LayerError::TooLarge { what, limit } => ImageError::TooLarge { what, limit },
        LayerError::Output(error) => {
            stopped(&error).unwrap_or_else(|| ImageError::io("write", "spool")(error))
        }
        LayerError::Io(error) => stopped(&error).unwrap_or_else(|| {
            let problem = format!("cannot be unpacked: {error}");
            ImageError::Layer { layer, entry: String::new(), problem }
        }),
    }
}

/// Travels inside an `io::Error` through code that knows only those.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("canceled")]
    Canceled,
    #[error("{what} exceeds {limit}")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("{0}")]
    Other(String),
}

fn stopped(error: &io::Error) -> Option<ImageError> {
    match error.get_ref()?.downcast_ref::<Stop>()? {
        Stop::Canceled => Some(ImageError::Canceled),
        Stop::TooLarge { what, limit } => Some(ImageError::TooLarge { what, limit: *limit }),
        Stop::Other(_) => None,
    }
}

struct Watched<'a, R> {
    inner: R,
    canceled: &'a AtomicBool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.canceled.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stop::Canceled));
        }
        self.inner.read(buffer)
    }
}

struct Counted<'a, R> {
    inner: R,
    done: &'a mut u64,
    total: u64,
    job: &'a Job<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        *self.done += got as u64;
        (self.job.progress)(Progress {
            phase: Phase::Merging,
            done: *self.done,
            total: self.total,
        });
        Ok(got)
    }
}

struct Metered<'a, R> {
    inner: R,
    hash: Sha256,
    left: &'a mut u64,
    limit: u64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        *self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            io::Error::other(Stop::TooLarge { what: "bytes of unpacked layers", limit: self.limit })
        })?;
        self.hash.update(&buffer[..got]);
        Ok(got)
    }
}

/// Asks for room in large steps before it writes.
struct Reserved<'a> {
    inner: &'a File,
    job: &'a Job<'a>,
    left: u64,
}

impl Write for Reserved<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const STEP: u64 = 4 << 20;
        while self.left < bytes.len() as u64 {
            (self.job.reserve)(STEP).map_err(|error| {
                io::Error::other(match error {
                    ImageError::TooLarge { what, limit } => Stop::TooLarge { what, limit },
                    other => Stop::Other(other.to_string()),
                })
            })?;
            self.left += STEP;
        }
        let written = (&mut &*self.inner).write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Range<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..want], self.offset)?;
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
