//! A folder or tar file as named members that can be read in any order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Where image files are read from.
pub(super) enum Archive {
    /// A folder on disk.
    Folder(PathBuf),
    /// An uncompressed tar; members by path.
    Tar {
        /// The file.
        file: File,
        /// Place of each regular file.
        members: HashMap<String, Member>,
        /// First segments of all paths, to recognise a root file system.
        top: Vec<String>,
    },
}

/// Place of a member's bytes, or the member that it links to.
#[derive(Clone, Debug)]
pub(super) enum Member {
    /// Offset and length.
    Bytes(u64, u64),
    /// Path of another member.
    Link(String),
}

/// Text members (indexes, manifests, configurations) are read whole up to this size.
const MAX_TEXT: u64 = 8 << 20;

impl Archive {
    /// Opens a folder, or a tar that may be compressed with gzip.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = plain(File::open(path)?)?;
        let mut members = HashMap::new();
        let mut top: Vec<String> = Vec::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let Some(path) = clean(&entry.path()?) else { continue };
            let first = path.split('/').next().unwrap_or_default().to_owned();
            if !top.contains(&first) && top.len() < 1000 {
                top.push(first);
            }
            let kind = entry.header().entry_type();
            if kind.is_file() {
                members.insert(path, Member::Bytes(entry.raw_file_position(), entry.size()));
            } else if let Some(target) = entry.link_name()? {
                let base = if kind.is_symlink() { parent(&path) } else { "" };
                if let Some(target) = clean(&Path::new(base).join(target)) {
                    members.insert(path, Member::Link(target));
                }
            }
        }
        Ok(Self::Tar { file, members, top })
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(name).is_file(),
            Self::Tar { members, .. } => members.contains_key(name),
        }
    }

    /// The bytes of a member; `None` when there is none.
    pub(super) fn open_member(
        &mut self,
        name: &str,
    ) -> io::Result<Option<Box<dyn Read + Send + '_>>> {
        let Some(name) = clean(Path::new(name)) else { return Ok(None) };
        match self {
            Self::Folder(root) => match File::open(root.join(name)) {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            },
            Self::Tar { file, members, .. } => {
                let mut member = members.get(&name);
                if let Some(Member::Link(target)) = member {
                    member = members.get(target);
                }
                let Some(Member::Bytes(offset, size)) = member else { return Ok(None) };
                file.seek(SeekFrom::Start(*offset))?;
                Ok(Some(Box::new(file.take(*size))))
            }
        }
    }

    /// A small member, whole.
    pub(super) fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(member) = self.open_member(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        member.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(io::Error::other(format!("{name} is larger than {MAX_TEXT} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// The file itself, or a decompressed copy that is deleted when it is closed.
fn plain(mut file: File) -> io::Result<File> {
    let mut magic = [0; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    if read == 4 && magic == [0x28, 0xb5, 0x2f, 0xfd] {
        return Err(io::Error::other("zstd archives are not read: decompress it with unzstd"));
    }
    if magic[..2] != [0x1f, 0x8b] {
        return Ok(file);
    }
    let mut copy = tempfile::tempfile()?;
    io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut copy)?;
    copy.rewind()?;
    Ok(copy)
}

/// A relative path without `.` and resolved `..`; `None` when it would leave the archive.
fn clean(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
