//! Directory trees: one layer as it would lie in its own directory, and the merged view of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tar::Xattrs;

/// One component of a path.
pub type Name = Box<[u8]>;

/// Longest path, in bytes, as `PATH_MAX` of Linux.
pub const MAX_PATH: usize = 4096;
/// Longest component, in bytes, as `NAME_MAX` of Linux.
pub const MAX_NAME: usize = 255;
/// Most components of a path.
pub const MAX_DEPTH: usize = 255;

/// Owner, mode, time and attributes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Extended attributes that an image may have.
    pub xattrs: Xattrs,
}

/// Of a directory that no layer describes.
pub static IMPLICIT_DIR: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };

/// A directory of a layer or of the merged view.
#[derive(Debug, Default)]
pub struct Dir {
    /// `None`: the layer does not describe it; below it lies what the lower layers say.
    pub meta: Option<Meta>,
    /// Nothing of the lower layers shows through.
    pub opaque: bool,
    /// These names of the lower layers do not show through.
    pub whiteouts: BTreeSet<Name>,
    /// What is in it.
    pub children: BTreeMap<Name, Node>,
}

/// What a name stands for.
#[derive(Debug)]
pub enum Node {
    /// A directory.
    Dir(Dir),
    /// Anything else; hard links share it.
    Leaf(Arc<Leaf>),
    /// A hard link to what a lower layer has at this path.
    LowerLink(Vec<Name>),
}

/// A file that is not a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Owner, mode, time.
    pub meta: Meta,
    /// What it is.
    pub body: Body,
}

/// What a [`Leaf`] is.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Regular file: where its content lies in the spool.
    File {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Symbolic link, target as stored.
    Symlink(Box<[u8]>),
    /// Named pipe.
    Fifo,
}

impl Dir {
    /// What is at a path, no symbolic link followed.
    pub fn get(&self, path: &[Name]) -> Option<&Node> {
        let (last, parents) = path.split_last()?;
        let mut dir = self;
        for name in parents {
            match dir.children.get(name) {
                Some(Node::Dir(child)) => dir = child,
                _ => return None,
            }
        }
        dir.children.get(last)
    }
}

/// Splits a path as stored in a layer: absolute ones are taken relative to the root, empty parts and `.`
/// are dropped, `..` and names that no image needs are refused.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.len() > MAX_PATH {
        return Err("the path is longer than 4096 bytes");
    }
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    for part in &parts {
        if *part == b".." {
            return Err("the path contains `..`");
        }
        if part.len() > MAX_NAME {
            return Err("a name is longer than 255 bytes");
        }
        if part.contains(&0) || part.contains(&b'\n') {
            return Err("a name contains NUL or a newline");
        }
    }
    if parts.len() > MAX_DEPTH {
        return Err("the path has more than 255 components");
    }
    Ok(parts)
}
