//! Layers built by hand, merged, and looked at.

mod hostile;
mod overlay;
mod rules;
mod squashed;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layer::{Budget, LayerError, Spool, read_layer};
use super::merge;
use super::tar::{Entry, Kind, TarWriter};
use super::tree::{Body, Dir, IMPLICIT_DIR, Leaf, Node};

/// An entry and its content.
#[derive(Clone, Debug)]
pub struct Item {
    pub entry: Entry,
    pub content: Vec<u8>,
}

fn item(path: &str, kind: Kind, mode: u16) -> Item {
    let entry = Entry {
        path: path.as_bytes().to_vec(),
        kind,
        link: Vec::new(),
        mode,
        uid: 0,
        gid: 0,
        mtime: 1,
        size: 0,
        xattrs: Vec::new(),
    };
    Item { entry, content: Vec::new() }
}

fn file(path: &str, content: &str) -> Item {
    let mut item = item(path, Kind::File, 0o644);
    item.entry.size = content.len() as u64;
    item.content = content.as_bytes().to_vec();
    item
}

fn dir(path: &str) -> Item {
    item(path, Kind::Dir, 0o750)
}

fn link(path: &str, kind: Kind, target: &str) -> Item {
    let mut item = item(path, kind, 0o777);
    item.entry.link = target.as_bytes().to_vec();
    item
}

fn symlink(path: &str, target: &str) -> Item {
    link(path, Kind::Symlink, target)
}

fn hardlink(path: &str, target: &str) -> Item {
    link(path, Kind::HardLink, target)
}

impl Item {
    fn owned(mut self, uid: u32, gid: u32) -> Self {
        (self.entry.uid, self.entry.gid) = (uid, gid);
        self
    }

    fn mode(mut self, mode: u16) -> Self {
        self.entry.mode = mode;
        self
    }

    fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.entry.xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
        self
    }
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TarWriter::new(&mut bytes);
    for item in items {
        match item.entry.kind {
            Kind::File => writer.file(&item.entry, &mut item.content.as_slice()).unwrap(),
            _ => writer.header(&item.entry).unwrap(),
        }
    }
    writer.finish().unwrap();
    bytes
}

/// The merged view of tar streams, and the spool.
fn merged(layers: &[Vec<u8>]) -> Result<(Dir, Vec<u8>), LayerError> {
    let mut spool = Spool::new(Vec::new());
    let mut budget = Budget::new(10_000);
    let mut view = Dir::default();
    for layer in layers {
        let tree = read_layer(layer.as_slice(), &mut spool, &mut budget)?;
        merge::apply(&mut view, tree)?;
    }
    merge::measure(&view)?;
    let (content, _) = spool.finish().unwrap();
    Ok((view, content))
}

/// One line per path: kind, mode, owner, and content or target. Hard-linked names share a number.
fn listing(layers: &[&[Item]]) -> Result<BTreeMap<String, String>, LayerError> {
    let archives: Vec<Vec<u8>> = layers.iter().map(|items| archive(items)).collect();
    let (view, spool) = merged(&archives)?;
    let mut lines = BTreeMap::new();
    let mut groups: Vec<*const Leaf> = Vec::new();
    describe(&view, "", &spool, &mut groups, &mut lines);
    Ok(lines)
}

fn describe(
    dir: &Dir,
    path: &str,
    spool: &[u8],
    groups: &mut Vec<*const Leaf>,
    lines: &mut BTreeMap<String, String>,
) {
    for (name, node) in &dir.children {
        let path = format!("{path}{}", String::from_utf8_lossy(name));
        match node {
            Node::Dir(child) => {
                let meta = child.meta.as_ref().unwrap_or(&IMPLICIT_DIR);
                lines
                    .insert(path.clone(), format!("dir {:o} {}:{}", meta.mode, meta.uid, meta.gid));
                describe(child, &format!("{path}/"), spool, groups, lines);
            }
            Node::Leaf(leaf) => {
                let meta = &leaf.meta;
                let body = match &leaf.body {
                    Body::File { offset, len } => {
                        let content = &spool[*offset as usize..(*offset + *len) as usize];
                        format!("file {}", String::from_utf8_lossy(content))
                    }
                    Body::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                    Body::Fifo => "fifo".to_owned(),
                };
                let mut line = format!("{body} {:o} {}:{}", meta.mode, meta.uid, meta.gid);
                if Arc::strong_count(leaf) > 1 {
                    let known = groups.iter().position(|group| *group == Arc::as_ptr(leaf));
                    let number = known.unwrap_or_else(|| {
                        groups.push(Arc::as_ptr(leaf));
                        groups.len() - 1
                    });
                    line.push_str(&format!(" #{number}"));
                }
                lines.insert(path, line);
            }
            Node::LowerLink(_) => panic!("{path} is unresolved"),
        }
    }
}

/// Paths only.
fn paths(layers: &[&[Item]]) -> Vec<String> {
    listing(layers).unwrap().into_keys().collect()
}
