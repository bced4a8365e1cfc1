//! Files leave the workspace as a stream: no archive for the host to unpack, no link to follow.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use guest_wire::Tag;
use guest_wire::message::{Collect, Collected, FailureKind, FileEnd, FileHeader};
use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;

use crate::bulk::Stream;
use crate::failure::{Result, bad_request};
use crate::files;

/// Deeper directories are not looked into: each level holds a descriptor.
const DEPTH_MAX: usize = 128;
/// Reasons for skipping that are told.
const NOTES_MAX: usize = 10;

/// Sends every file that matches.
pub fn run(request: &Collect, stream: &Stream) -> Result<Collected> {
    let mut walk =
        Walk { request, stream, globs: compile(&request.globs)?, done: Collected::default() };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let root = files::open_beneath(&files::workspace()?, Path::new("."), flags, 0, ".")?;
    walk.directory(root, Path::new(""), 0)?;
    Ok(walk.done)
}

struct Walk<'a> {
    request: &'a Collect,
    stream: &'a Stream,
    globs: GlobSet,
    done: Collected,
}

impl Walk<'_> {
    fn directory(&mut self, dir: OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            self.skip(path, "too deep");
            return Ok(());
        }
        let Ok(handle) = dir.try_clone() else {
            self.skip(path, "too many open directories");
            return Ok(());
        };
        let mut listing = match Dir::from_fd(dir) {
            Ok(listing) => listing,
            Err(errno) => {
                self.skip(path, errno.desc());
                return Ok(());
            }
        };
        let mut names: Vec<_> = listing
            .iter()
            .flatten()
            .map(|entry| (os(entry.file_name().to_bytes()).to_owned(), entry.file_type()))
            .filter(|(name, _)| name != "." && name != "..")
            .collect();
        drop(listing);
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (name, kind) in names {
            let child = path.join(&name);
            if kind == Some(Type::Directory) {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                let shown = child.display().to_string();
                match files::open_beneath(&handle, Path::new(&name), flags, 0, &shown) {
                    Ok(open) => self.directory(open, &child, depth + 1)?,
                    Err(failure) => self.skip(&child, &failure.message),
                }
            } else if self.globs.is_match(&child) {
                self.file(&handle, Path::new(&name), &child)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: &OwnedFd, name: &Path, path: &Path) -> Result<()> {
        let Some(shown) = path.to_str() else {
            self.skip(path, "its name is not UTF-8");
            return Ok(());
        };
        let file = match files::open_regular(dir, name, shown) {
            Ok(file) => file,
            Err(failure) => {
                self.skip(path, &failure.message);
                return Ok(());
            }
        };
        let Ok(metadata) = file.metadata() else { return Ok(()) };
        let size = metadata.len();
        if size > self.request.max_file_bytes {
            self.skip(path, &format!("{size} bytes, at most {}", self.request.max_file_bytes));
        } else if self.done.bytes.saturating_add(size) > self.request.max_total_bytes {
            self.skip(path, "over the limit of all files together");
        } else if self.done.files >= self.request.max_files {
            self.skip(path, "over the number of files");
        } else {
            let mode = metadata.mode() & 0o777;
            self.send(file, &FileHeader { path: shown.to_owned(), size, mode })?;
        }
        Ok(())
    }

    /// Only a failing stream ends the walk; a failing file is told and passed over.
    fn send(&mut self, mut file: File, header: &FileHeader) -> Result<()> {
        self.stream.send(Tag::FileHeader, &json(header))?;
        let copied = files::copy_out(&mut file, header.size, self.stream, &header.path);
        let error = match copied {
            Ok(sent) if sent == header.size => None,
            Ok(sent) => Some(format!("shrank from {} to {sent} bytes", header.size)),
            Err(failure) if failure.kind == FailureKind::Aborted => return Err(failure),
            Err(failure) => Some(failure.message),
        };
        match &error {
            None => {
                self.done.files += 1;
                self.done.bytes += header.size;
            }
            Some(error) => self.skip(Path::new(&header.path), error),
        }
        self.stream.send(Tag::FileEnd, &json(&FileEnd { error }))
    }

    fn skip(&mut self, path: &Path, why: &str) {
        self.done.skipped += 1;
        if self.done.notes.len() < NOTES_MAX {
            let mut note = format!("{}: {why}", path.display());
            note.truncate(note.floor_char_boundary(300));
            self.done.notes.push(note);
        }
    }
}

fn compile(globs: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        // `./out/**` and `out/` are what people write.
        let text = glob.strip_prefix("./").unwrap_or(glob);
        let text = if text.ends_with('/') { format!("{text}**") } else { text.to_owned() };
        let glob = GlobBuilder::new(&text).literal_separator(true).build();
        set.add(glob.map_err(|error| bad_request(format!("artifacts: {error}")))?);
    }
    set.build().map_err(|error| bad_request(format!("artifacts: {error}")))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages have only string keys")
}

fn os(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_what_people_write() {
        let set = compile(&["./out/**".into(), "*.log".into(), "dist/".into()]).unwrap();
        let hits = |path: &str| set.is_match(Path::new(path));
        assert!(hits("out/a/b.txt") && hits("x.log") && hits("dist/deep/file"));
        assert!(!hits("sub/x.log") && !hits("outer/a"));
        assert!(compile(&["a[".into()]).is_err());
    }
}
