//! squashfs files by `mksquashfs` of squashfs-tools (≥ 4.5).

mod root;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::error::ImageError;
use super::tree::{IMPLICIT_DIR, Meta};

/// `sqfstar` would do for tar streams, but its version 4.5 refuses the options of a compressor.
const PROGRAM: &str = "mksquashfs";

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

impl Compression {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Lz4 => &["-comp", "lz4", "-noI"],
            // The tool's default level 15 takes ten times as long for a few per cent.
            Self::Zstd => &["-comp", "zstd", "-Xcompression-level", "3", "-noI"],
            Self::None => &["-comp", "lz4", "-noI", "-noD", "-noF", "-noX"],
        }
    }
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
/// stored, not followed; extended attributes are left out. Returns the size in bytes. Blocks; call it
/// from a blocking thread.
pub fn from_dir(dir: &Path, out: &Path, options: &DirOptions) -> Result<u64, ImageError> {
    let mut arguments: Vec<OsString> = Vec::new();
    // A path that starts with a hyphen would be an option.
    arguments.push(absolute(dir)?.into());
    arguments.push(absolute(out)?.into());
    arguments.extend(["-noappend", "-no-recovery", "-no-xattrs"].map(OsString::from));
    if let Some((uid, gid)) = options.owner {
        let ids =
            ["-force-uid".to_owned(), uid.to_string(), "-force-gid".to_owned(), gid.to_string()];
        arguments.extend(ids.map(OsString::from));
    }
    if let Some(mtime) = options.mtime {
        arguments.extend(["-all-time".to_owned(), mtime.to_string()].map(OsString::from));
    }
    arguments.extend(shared_arguments(options.compression));
    if !options.exclude.is_empty() {
        arguments.push("-e".into());
        for path in &options.exclude {
            let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || path.as_os_str().is_empty() {
                let detail =
                    format!("exclude path {} must be relative, without `..`", path.display());
                return Err(ImageError::Squash { detail });
            }
            arguments.push(path.into());
        }
    }
    let running = start(&arguments, out, Stdio::null())?;
    finish(running, out)
}

/// Writes a squashfs file `out`, which must not exist, from the tar stream that `write` produces.
/// Returns its size in bytes. On an error of `write` or of the program nothing is left at `out`. The
/// stream must come from a trusted writer. Blocks; call it from a blocking thread.
pub fn from_tar(
    out: &Path,
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<u64, ImageError> {
    from_tar_with_root(out, compression, &IMPLICIT_DIR, write)
}

/// [`from_tar`] with the root directory's mode, owner and time, which the program does not read from
/// the stream.
pub(super) fn from_tar_with_root(
    out: &Path,
    compression: Compression,
    root: &Meta,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<u64, ImageError> {
    let mut arguments: Vec<OsString> = vec!["-".into(), absolute(out)?.into()];
    arguments.extend(
        ["-tar".to_owned(), "-root-mode".to_owned(), format!("{:o}", root.mode)]
            .map(OsString::from),
    );
    arguments.extend(shared_arguments(compression));
    let mut running = start(&arguments, out, Stdio::piped())?;
    let stdin = running.child.stdin.take().expect("stdin is piped");
    let mut pipe = Pipe { out: BufWriter::with_capacity(256 << 10, stdin), broken: false };
    let written =
        write(&mut pipe).and_then(|()| pipe.flush().map_err(ImageError::io("write", out)));
    let broken = pipe.broken;
    drop(pipe);
    match written {
        // The program ended first: its own words explain more than a broken pipe.
        Err(_) if broken => finish(running, out).and_then(|_| {
            let detail = "stopped reading before the end".to_owned();
            Err(ImageError::Squash { detail })
        }),
        Err(error) => {
            drop(running);
            remove(out);
            Err(error)
        }
        Ok(()) => {
            let size = finish(running, out)?;
            let file = File::options().read(true).write(true).open(out);
            file.and_then(|file| root::set(&file, root))
                .map_err(ImageError::io("complete", out))?;
            Ok(size)
        }
    }
}

struct Pipe<W: Write> {
    out: BufWriter<W>,
    broken: bool,
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|e| self.broken |= e.kind() == io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().inspect_err(|e| self.broken |= e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// A child that does not outlive its owner, and the end of its error output.
struct Running {
    child: Child,
    words: Option<JoinHandle<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shared_arguments(compression: Compression) -> impl Iterator<Item = OsString> {
    // The time of creation is fixed so that the same tree gives the same file. Without a bound the
    // program takes a quarter of the machine's memory.
    let fixed = ["-no-progress", "-quiet", "-mkfs-time", "0", "-mem", "256M"];
    compression.arguments().iter().copied().chain(fixed).map(OsString::from)
}

fn start(arguments: &[OsString], out: &Path, stdin: Stdio) -> Result<Running, ImageError> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        // Where it works: so it is found if we die before it (`kill_helpers`).
        .current_dir(absolute(out)?.parent().unwrap_or(Path::new("/")))
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let detail = match error.kind() {
                io::ErrorKind::NotFound => {
                    "not found; install the package squashfs-tools".to_owned()
                }
                _ => error.to_string(),
            };
            ImageError::Squash { detail }
        })?;
    // Read at once: a program that says much must not wait for us while we wait for it.
    let words = child.stderr.take().map(|stderr| std::thread::spawn(move || tail(stderr)));
    Ok(Running { child, words })
}

/// Waits for the program. Its input must be closed.
fn finish(mut running: Running, out: &Path) -> Result<u64, ImageError> {
    let status = running.child.wait().map_err(|e| ImageError::Squash { detail: e.to_string() })?;
    if !status.success() {
        remove(out);
        let words = running.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        return Err(ImageError::Squash { detail: format!("{status}: {words}") });
    }
    Ok(fs::metadata(out).map_err(ImageError::io("read", out))?.len())
}

/// The end of what a program said, on one line.
fn tail(mut stream: impl Read) -> String {
    const MAX: usize = 2000;
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..got]);
        kept.drain(..kept.len().saturating_sub(MAX));
    }
    String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn absolute(path: &Path) -> Result<PathBuf, ImageError> {
    std::path::absolute(path).map_err(ImageError::io("resolve", path))
}

fn remove(path: &Path) {
    // Nothing there is as good.
    let _ = fs::remove_file(path);
}
