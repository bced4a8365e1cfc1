//! Single files of the workspace. Steps may have planted links anywhere: no path is followed through one,
//! and none leaves the workspace.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use guest_wire::Tag;
use guest_wire::bulk::CHUNK;
use guest_wire::message::{FailureKind, ReadFile, WriteFile};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::bulk::Stream;
use crate::failure::{Context, Result, failure};
use crate::images::WORKSPACE;

/// Receives a file. What was there is replaced, never written through.
pub fn write(request: &WriteFile, stream: &Stream) -> Result<u64> {
    let (dir, name) = parent(&request.path, true)?;
    remove_at(&dir, name, &request.path)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = File::from(open_beneath(&dir, Path::new(name), flags, 0o600, &request.path)?);
    stream.grant_window();
    let mut length = 0;
    while let Some(data) = stream.receive()? {
        file.write_all(&data).context(&request.path)?;
        length += data.len() as u64;
    }
    let mode = Mode::from_bits_truncate(request.mode & 0o7777);
    nix::sys::stat::fchmod(&file, mode).context(&request.path)?;
    if let Some(seconds) = request.modified {
        let time = nix::sys::time::TimeSpec::new(seconds, 0);
        nix::sys::stat::futimens(&file, &time, &time).context(&request.path)?;
    }
    Ok(length)
}

/// Sends a file.
pub fn read(request: &ReadFile, stream: &Stream) -> Result<u64> {
    let (dir, name) = parent(&request.path, false)?;
    let mut file = open_regular(&dir, Path::new(name), &request.path)?;
    let size = file.metadata().context(&request.path)?.len();
    if size > request.max_bytes {
        let message = format!("{}: {size} bytes, at most {}", request.path, request.max_bytes);
        return Err(failure(FailureKind::TooLarge, message));
    }
    copy_out(&mut file, size, stream, &request.path)
}

/// Removes a file or an empty directory; absent is fine.
pub fn remove(path: &str) -> Result<()> {
    match parent(path, false) {
        Ok((dir, name)) => remove_at(&dir, name, path),
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Opens a regular file below `dir` without following links or waiting (a pipe would wait for ever).
pub fn open_regular(dir: &OwnedFd, path: &Path, shown: &str) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open_beneath(dir, path, flags, 0, shown)?);
    if !file.metadata().context(shown)?.is_file() {
        let message = format!("{shown}: not a regular file");
        return Err(failure(FailureKind::UnsafePath, message));
    }
    Ok(file)
}

/// Sends at most `size` bytes; a file that shrank meanwhile is shorter.
pub fn copy_out(file: &mut File, size: u64, stream: &Stream, shown: &str) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < size {
        let want = CHUNK.min(usize::try_from(size - sent).unwrap_or(CHUNK));
        let length = file.read(&mut buffer[..want]).context(shown)?;
        if length == 0 {
            break;
        }
        stream.send(Tag::Plain, &buffer[..length])?;
        sent += length as u64;
    }
    Ok(sent)
}

/// The workspace itself.
pub fn workspace() -> Result<OwnedFd> {
    open(WORKSPACE, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("the workspace")
}

/// Opens below `dir`: never above it, never through a link of any kind.
pub fn open_beneath(
    dir: &OwnedFd,
    path: &Path,
    flags: OFlag,
    mode: u32,
    shown: &str,
) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    openat2(dir, path, how).context(shown)
}

/// The directory that holds `path`, made if asked, and the name in it.
fn parent(path: &str, make: bool) -> Result<(OwnedFd, &str)> {
    let unsafe_path = || failure(FailureKind::UnsafePath, format!("{path:?} is not a plain path"));
    let relative = Path::new(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let name = relative.file_name().and_then(|name| name.to_str());
    let (true, Some(name), false) = (plain, name, path.contains('\0')) else {
        return Err(unsafe_path());
    };
    let mut dir = workspace()?;
    for part in relative.parent().into_iter().flat_map(Path::components) {
        let part: &Path = part.as_ref();
        if make {
            match mkdirat(&dir, part, Mode::from_bits_truncate(0o777)) {
                // Steps of any user may add to it.
                Ok(()) => chmod(&dir, part, 0o777)?,
                Err(Errno::EEXIST) => {}
                Err(errno) => Err(errno).context(path)?,
            }
        }
        dir = open_beneath(&dir, part, OFlag::O_PATH | OFlag::O_DIRECTORY, 0, path)?;
    }
    Ok((dir, name))
}

fn chmod(dir: &OwnedFd, name: &Path, mode: u32) -> Result<()> {
    let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(dir, name, Mode::from_bits_truncate(mode), flags)
        .context(name.display())
}

fn remove_at(dir: &OwnedFd, name: &str, shown: &str) -> Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno).context(shown),
        },
        Err(errno) => Err(errno).context(shown),
    }
}

/// Opens the directory of the process's namespace, for callers outside the workspace.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).context(path.display())
}
