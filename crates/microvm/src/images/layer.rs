//! One layer's tar stream as a tree, exactly as a container engine would unpack it into an empty
//! directory of its own, but without touching a file system.
//!
//! - An entry below a symbolic link *of the same layer* goes where the link points, never above the
//!   layer's root. A symbolic link of a lower layer is not followed: the layer has a directory there,
//!   which hides the link, as with overlay mounts.
//! - A later entry replaces an earlier one; only directory over directory keeps the content.
//! - Whiteouts (`.wh.NAME`, `.wh..wh..opq`) are marks for [`super::merge`]; they hide lower layers only,
//!   wherever in the stream they stand.
//! - Device nodes are dropped: the guest has its own `/dev`, and a device node with a loose mode would
//!   give a job's unprivileged user the guest's disks. They still hide what lower layers have there.
//! - Extended attributes of `user.` and `security.` are kept; those that steer an overlay mount and
//!   those that squashfs cannot hold are dropped.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md>.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::tar::{Entry, Kind, TarError, TarReader, display};
use super::tree::{Body, Dir, Leaf, MAX_DEPTH, MAX_PATH, Meta, Name, Node, components};

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// As many as Linux follows in one path.
const MAX_LINKS: u32 = 40;
/// Names, link targets and attributes of all layers together.
const MAX_METADATA: u64 = 512 << 20;

/// What all layers of an image may use together.
#[derive(Debug)]
pub struct Budget {
    /// Entries and directories that entries imply.
    pub nodes: u64,
    /// Bytes of names, link targets and attributes.
    pub metadata: u64,
    /// Entries as given, for the message.
    limit: u64,
}

impl Budget {
    /// For `entries` entries.
    pub fn new(entries: u64) -> Self {
        Self { nodes: entries, metadata: MAX_METADATA, limit: entries }
    }

    fn node(&mut self) -> Result<(), LayerError> {
        self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or(LayerError::TooLarge { what: "number of files", limit: self.limit })?;
        Ok(())
    }

    fn metadata(&mut self, bytes: usize) -> Result<(), LayerError> {
        self.metadata = self.metadata.checked_sub(bytes as u64).ok_or(LayerError::TooLarge {
            what: "bytes of names and attributes",
            limit: MAX_METADATA,
        })?;
        Ok(())
    }
}

/// Where file content goes: one stream for all layers of an image.
pub struct Spool<W> {
    out: W,
    offset: u64,
}

impl<W: Write> Spool<W> {
    /// An empty spool.
    pub fn new(out: W) -> Self {
        Self { out, offset: 0 }
    }

    /// Ends it; what was written, and how many bytes.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.out.flush()?;
        Ok((self.out, self.offset))
    }
}

impl<W: Write> Write for Spool<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Why a layer is refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Malformed or hostile.
    #[error("entry `{entry}`: {problem}")]
    Refused {
        /// Path, escaped; empty when it is about the whole layer.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// Over a limit.
    #[error("{what} exceeds {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The stream failed, which includes a broken compression.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The spool failed.
    #[error("{0}")]
    Output(io::Error),
}

impl From<TarError> for LayerError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Malformed { entry, problem } => Self::Refused { entry, problem },
            TarError::Io(error) => Self::Io(error),
            TarError::Output(error) => Self::Output(error),
        }
    }
}

fn refused(entry: &Entry, problem: impl Into<String>) -> LayerError {
    LayerError::Refused { entry: display(&entry.path), problem: problem.into() }
}

/// Reads a layer up to its end-of-archive mark.
pub fn read_layer<W: Write>(
    source: impl Read,
    spool: &mut Spool<W>,
    budget: &mut Budget,
) -> Result<Dir, LayerError> {
    let mut reader = TarReader::new(source);
    let mut root = Dir::default();
    while let Some(entry) = reader.next_entry()? {
        budget.node()?;
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        budget.metadata(entry.path.len() + entry.link.len() + xattrs)?;
        let path = components(&entry.path).map_err(|problem| refused(&entry, problem))?;
        match path.split_last() {
            None if entry.kind == Kind::Dir => root.meta = Some(meta(&entry)),
            None => return Err(refused(&entry, "the root is not a directory")),
            Some((name, parents)) => match role(name, parents).map_err(|p| refused(&entry, p))? {
                Role::Ignored => {}
                Role::Opaque => directory(&mut root, parents, &entry, budget)?.opaque = true,
                Role::Whiteout(name) => {
                    directory(&mut root, parents, &entry, budget)?.whiteouts.insert(name.into());
                }
                Role::Plain => {
                    let offset = spool.offset;
                    if entry.kind == Kind::File {
                        reader.copy_content(spool)?;
                    }
                    place(&mut root, &entry, parents, name, offset, budget)?;
                }
            },
        }
    }
    Ok(root)
}

enum Role<'a> {
    Plain,
    Whiteout(&'a [u8]),
    Opaque,
    /// Book-keeping of the AUFS driver, which every engine skips.
    Ignored,
}

fn role<'a>(name: &'a [u8], parents: &[&[u8]]) -> Result<Role<'a>, &'static str> {
    if parents.iter().any(|parent| parent.starts_with(AUFS)) {
        return Ok(Role::Ignored);
    }
    if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
        return Err("a whiteout is used as a directory");
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Role::Plain),
        Some(_) if name == OPAQUE => Ok(Role::Opaque),
        Some(_) if name.starts_with(AUFS) => Ok(Role::Ignored),
        Some(b"" | b"." | b"..") => Err("the whiteout names nothing"),
        Some(hidden) => Ok(Role::Whiteout(hidden)),
    }
}

fn place(
    root: &mut Dir,
    entry: &Entry,
    parents: &[&[u8]],
    name: &[u8],
    offset: u64,
    budget: &mut Budget,
) -> Result<(), LayerError> {
    let leaf = |body| Node::Leaf(Arc::new(Leaf { meta: meta(entry), body }));
    let node = match entry.kind {
        Kind::Dir => {
            let dir = directory(root, parents, entry, budget)?;
            match dir.children.get_mut(name) {
                Some(Node::Dir(known)) => known.meta = Some(meta(entry)),
                _ => {
                    let new = Dir { meta: Some(meta(entry)), ..Dir::default() };
                    dir.children.insert(name.into(), Node::Dir(new));
                }
            }
            return Ok(());
        }
        Kind::File => leaf(Body::File { offset, len: entry.size }),
        Kind::Fifo => leaf(Body::Fifo),
        Kind::Symlink => {
            // Whatever a header says, Linux has symbolic links with this mode only.
            let meta = Meta { mode: 0o777, ..meta(entry) };
            Node::Leaf(Arc::new(Leaf { meta, body: Body::Symlink(link_target(entry)?) }))
        }
        Kind::HardLink => hard_link(root, entry, parents, name)?,
        Kind::Device => {
            let dir = directory(root, parents, entry, budget)?;
            dir.children.remove(name);
            dir.whiteouts.insert(name.into());
            return Ok(());
        }
    };
    directory(root, parents, entry, budget)?.children.insert(name.into(), node);
    Ok(())
}

fn link_target(entry: &Entry) -> Result<Box<[u8]>, LayerError> {
    let target = &entry.link;
    if target.is_empty() || target.len() >= MAX_PATH {
        return Err(refused(entry, "the target of the symbolic link is empty or too long"));
    }
    if target.contains(&0) || target.contains(&b'\n') {
        return Err(refused(entry, "the target of the symbolic link contains NUL or a newline"));
    }
    Ok(target.as_slice().into())
}

fn hard_link(
    root: &Dir,
    entry: &Entry,
    parents: &[&[u8]],
    name: &[u8],
) -> Result<Node, LayerError> {
    let bad = |problem: &str| {
        refused(entry, format!("hard link to `{}`: {problem}", display(&entry.link)))
    };
    let target = components(&entry.link).map_err(bad)?;
    let Some((target_name, target_parents)) = target.split_last() else {
        return Err(bad("the root cannot be linked to"));
    };
    if target.iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err(bad("a whiteout cannot be linked to"));
    }
    let resolve = |parents: &[&[u8]], name: &[u8]| {
        resolve(root, parents).map(|mut path| {
            path.push(name.into());
            path
        })
    };
    let target = resolve(target_parents, target_name).map_err(bad)?;
    if target == resolve(parents, name).map_err(bad)? {
        return Err(bad("the entry links to itself"));
    }
    match root.get(&target) {
        Some(Node::Leaf(leaf)) => Ok(Node::Leaf(Arc::clone(leaf))),
        Some(Node::LowerLink(path)) => Ok(Node::LowerLink(path.clone())),
        Some(Node::Dir(_)) => Err(bad("directories cannot be linked to")),
        None => Ok(Node::LowerLink(target)),
    }
}

/// The directory at `path`, made where it is missing.
fn directory<'a>(
    root: &'a mut Dir,
    path: &[&[u8]],
    entry: &Entry,
    budget: &mut Budget,
) -> Result<&'a mut Dir, LayerError> {
    let path = resolve(root, path).map_err(|problem| refused(entry, problem))?;
    let mut dir = root;
    for name in path {
        if !dir.children.contains_key(&name) {
            budget.node()?;
            budget.metadata(name.len())?;
        }
        match dir.children.entry(name).or_insert_with(|| Node::Dir(Dir::default())) {
            Node::Dir(child) => dir = child,
            // `resolve` ends only at directories and at names that are free.
            _ => return Err(refused(entry, "lies below something that is not a directory")),
        }
    }
    Ok(dir)
}

/// Follows the layer's own symbolic links in a directory path; `..` of a link's target stops at the
/// root. Names that do not exist are kept.
fn resolve(root: &Dir, path: &[&[u8]]) -> Result<Vec<Name>, &'static str> {
    let mut todo: VecDeque<Name> = path.iter().map(|part| Name::from(*part)).collect();
    let mut done: Vec<Name> = Vec::with_capacity(path.len());
    let mut dirs: Vec<Option<&Dir>> = vec![Some(root)];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name.is_empty() || *name == *b"." {
            continue;
        }
        if *name == *b".." {
            if done.pop().is_some() {
                dirs.pop();
            }
            continue;
        }
        let here = dirs.last().copied().flatten();
        let next = match here.and_then(|dir| dir.children.get(&name)) {
            None => None,
            Some(Node::Dir(dir)) => Some(dir),
            Some(Node::Leaf(leaf)) => match &leaf.body {
                Body::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err("lies below a loop of symbolic links");
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                        dirs.truncate(1);
                    }
                    for part in target.split(|b| *b == b'/').rev() {
                        todo.push_front(part.into());
                    }
                    continue;
                }
                _ => return Err("lies below something that is not a directory"),
            },
            Some(Node::LowerLink(_)) => return Err("lies below something that is not a directory"),
        };
        done.push(name);
        dirs.push(next);
        if done.len() > MAX_DEPTH {
            return Err("the path has more than 255 components");
        }
    }
    // A link's target may have brought names in that no entry may have.
    if done.iter().any(|name| name.starts_with(WHITEOUT)) {
        return Err("a whiteout is used as a directory");
    }
    let joined = done.iter().map(|name| name.as_ref()).collect::<Vec<_>>().join(&b'/');
    components(&joined)?;
    Ok(done)
}

fn meta(entry: &Entry) -> Meta {
    let keep = |name: &[u8]| {
        let known = name.starts_with(b"user.") || name.starts_with(b"security.");
        known && !name.starts_with(b"user.overlay.")
    };
    Meta {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().filter(|(name, _)| keep(name)).cloned().collect(),
    }
}
