//! Layers on top of each other, as an overlay mount shows them.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::layer::LayerError;
use super::tar::{Entry, Kind, TarWriter, Xattrs, display};
use super::tree::{Body, Dir, IMPLICIT_DIR, Leaf, Meta, Name, Node};

/// squashfs keeps owners and groups in one table of 16-bit indexes.
const MAX_IDS: usize = 65_535;

/// Puts `upper` over the merged view `lower`.
pub fn apply(lower: &mut Dir, mut upper: Dir) -> Result<(), LayerError> {
    link_to_lower(&mut upper, lower, &mut Vec::new())?;
    merge(lower, upper);
    Ok(())
}

/// Replaces hard links into lower layers by what they link to.
fn link_to_lower(dir: &mut Dir, lower: &Dir, path: &mut Vec<u8>) -> Result<(), LayerError> {
    for (name, node) in &mut dir.children {
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name);
        match node {
            Node::Dir(child) => link_to_lower(child, lower, path)?,
            Node::Leaf(_) => {}
            Node::LowerLink(target) => match lower.get(target) {
                Some(Node::Leaf(leaf)) => *node = Node::Leaf(Arc::clone(leaf)),
                found => {
                    let joined =
                        target.iter().map(|name| name.as_ref()).collect::<Vec<_>>().join(&b'/');
                    let why = match found {
                        Some(_) => "directories cannot be linked to",
                        None => "it does not exist",
                    };
                    return Err(LayerError::Refused {
                        entry: display(path.get(1..).unwrap_or_default()),
                        problem: format!("hard link to `{}`: {why}", display(&joined)),
                    });
                }
            },
        }
        path.truncate(length);
    }
    Ok(())
}

fn merge(lower: &mut Dir, upper: Dir) {
    if upper.opaque {
        lower.children.clear();
    }
    for name in &upper.whiteouts {
        lower.children.remove(name);
    }
    if upper.meta.is_some() {
        lower.meta = upper.meta;
    }
    for (name, node) in upper.children {
        match node {
            Node::Dir(child) => merge(below(lower, name), child),
            other => drop(lower.children.insert(name, other)),
        }
    }
}

/// The lower directory of that name; anything else there gives way to a new one.
fn below(lower: &mut Dir, name: Name) -> &mut Dir {
    let node = lower.children.entry(name).or_insert_with(|| Node::Dir(Dir::default()));
    if !matches!(node, Node::Dir(_)) {
        *node = Node::Dir(Dir::default());
    }
    match node {
        Node::Dir(dir) => dir,
        Node::Leaf(_) | Node::LowerLink(_) => unreachable!("made a directory above"),
    }
}

/// What the merged view needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Names.
    pub entries: u64,
    /// Bytes of file content, each hard-linked file once.
    pub content: u64,
}

/// Counts, and refuses what squashfs cannot hold.
pub fn measure(root: &Dir) -> Result<Extent, LayerError> {
    let mut extent = Extent::default();
    let mut ids = BTreeSet::new();
    let mut linked = BTreeSet::new();
    let mut dirs = vec![root];
    while let Some(dir) = dirs.pop() {
        let meta = dir.meta.as_ref().unwrap_or(&IMPLICIT_DIR);
        ids.extend([meta.uid, meta.gid]);
        for node in dir.children.values() {
            extent.entries += 1;
            match node {
                Node::Dir(child) => dirs.push(child),
                Node::Leaf(leaf) => {
                    ids.extend([leaf.meta.uid, leaf.meta.gid]);
                    if Arc::strong_count(leaf) == 1 || linked.insert(Arc::as_ptr(leaf)) {
                        extent.content += length(leaf);
                    }
                }
                Node::LowerLink(_) => {}
            }
        }
    }
    if ids.len() > MAX_IDS {
        return Err(LayerError::TooLarge {
            what: "number of owners and groups",
            limit: MAX_IDS as u64,
        });
    }
    Ok(extent)
}

fn length(leaf: &Leaf) -> u64 {
    match leaf.body {
        Body::File { len, .. } => len,
        Body::Symlink(_) | Body::Fifo => 0,
    }
}

/// Writes the merged view, without its root, as one tar stream. `content` opens a range of the spool.
pub fn write_tar<R: Read>(
    root: &Dir,
    out: impl Write,
    mut content: impl FnMut(u64, u64) -> R,
) -> io::Result<()> {
    let mut emitter = Emitter { tar: TarWriter::new(out), first_names: HashMap::new() };
    emitter.dir(root, &mut Vec::new(), &mut content)?;
    emitter.tar.finish()
}

struct Emitter<W> {
    tar: TarWriter<W>,
    first_names: HashMap<*const Leaf, Vec<u8>>,
}

impl<W: Write> Emitter<W> {
    fn dir<R: Read>(
        &mut self,
        dir: &Dir,
        path: &mut Vec<u8>,
        content: &mut impl FnMut(u64, u64) -> R,
    ) -> io::Result<()> {
        for (name, node) in &dir.children {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match node {
                Node::Dir(child) => {
                    let meta = child.meta.as_ref().unwrap_or(&IMPLICIT_DIR);
                    self.tar.header(&entry(path, Kind::Dir, meta))?;
                    self.dir(child, path, content)?;
                }
                Node::Leaf(leaf) => self.leaf(leaf, path, content)?,
                Node::LowerLink(_) => return Err(io::Error::other("unresolved hard link")),
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn leaf<R: Read>(
        &mut self,
        leaf: &Arc<Leaf>,
        path: &[u8],
        content: &mut impl FnMut(u64, u64) -> R,
    ) -> io::Result<()> {
        if Arc::strong_count(leaf) > 1 {
            if let Some(first) = self.first_names.get(&Arc::as_ptr(leaf)) {
                let mut link = entry(path, Kind::HardLink, &leaf.meta);
                link.link.clone_from(first);
                link.xattrs = Xattrs::new();
                return self.tar.header(&link);
            }
            self.first_names.insert(Arc::as_ptr(leaf), path.to_vec());
        }
        match &leaf.body {
            Body::File { offset, len } => {
                let mut file = entry(path, Kind::File, &leaf.meta);
                file.size = *len;
                self.tar.file(&file, &mut content(*offset, *len))
            }
            Body::Symlink(target) => {
                let mut link = entry(path, Kind::Symlink, &leaf.meta);
                link.link = target.to_vec();
                self.tar.header(&link)
            }
            Body::Fifo => self.tar.header(&entry(path, Kind::Fifo, &leaf.meta)),
        }
    }
}

fn entry(path: &[u8], kind: Kind, meta: &Meta) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        link: Vec::new(),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        size: 0,
        xattrs: meta.xattrs.clone(),
    }
}
