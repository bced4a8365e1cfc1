//! Random layers, merged by us and by the kernel's overlay file system, must look the same.
//!
//! The reference unpacks each layer into its own directory with plain system calls, inside a `chroot` so
//! that the kernel itself resolves symbolic links, writes whiteouts in overlay's own form, and mounts all
//! of them over each other.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink as make_symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use proptest::prelude::*;

use super::*;

/// Mounts of the calling thread stay its own and end with it.
pub fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .unwrap();
}

fn op() -> impl Strategy<Value = Item> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let target = (path.clone(), prop_oneof![Just(""), Just("/"), Just("../"), Just("../../")]);
    let meta =
        (prop_oneof![Just(0o755u16), Just(0o700), Just(0o4711), Just(0o1777)], 0u32..3, 0u32..3);
    (path, 0..12, target, meta, 0..9u8).prop_map(
        |(path, kind, (target, up), (mode, uid, gid), content)| {
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(p, n)| (p, n));
            let beside = |name: &str| {
                if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
            };
            let item = match kind {
                0..=2 => dir(&path),
                3..=5 => file(&path, &content.to_string().repeat(usize::from(content))),
                6 => symlink(&path, &format!("{up}{target}")),
                7 => hardlink(&path, &target),
                8 => item(&path, Kind::Fifo, 0),
                9 | 10 => file(&beside(&format!(".wh.{name}")), ""),
                _ => file(&beside(".wh..wh..opq"), ""),
            };
            item.mode(mode).owned(uid, gid)
        },
    )
}

#[derive(Default)]
struct Unpacked {
    /// Directories that an entry only implied.
    implied: HashSet<PathBuf>,
    /// Names with a whiteout.
    hidden: HashSet<PathBuf>,
}

impl Unpacked {
    /// The directory part of an entry, made if missing, links resolved.
    fn parent(&mut self, path: &Path) -> io::Result<PathBuf> {
        let mut done = PathBuf::from("/");
        for part in path.parent().unwrap().components() {
            done.push(part);
            // A whiteout gives way to the directory that this layer has after all.
            if let Ok(meta) = fs::symlink_metadata(&done)
                && is_whiteout(&meta)
            {
                fs::remove_file(&done)?;
            }
            if fs::symlink_metadata(&done).is_err() {
                fs::create_dir(&done)?;
                self.implied.insert(done.clone());
                self.unhide(&done);
            }
            done = fs::canonicalize(&done)?;
        }
        if !fs::metadata(&done)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(done)
    }

    fn unhide(&self, dir: &Path) {
        if self.hidden.contains(dir) {
            opaque(dir);
        }
    }

    fn clear(&mut self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => {
                self.hidden.retain(|hidden| hidden == path || !hidden.starts_with(path));
                fs::remove_dir_all(path)
            }
            Ok(_) => fs::remove_file(path),
            Err(_) => Ok(()),
        }
    }

    fn apply(&mut self, item: &Item) -> io::Result<()> {
        let text = String::from_utf8(item.entry.path.clone()).unwrap();
        let path = Path::new("/").join(&text);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parent = self.parent(&path)?;
        if name == ".wh..wh..opq" && parent == Path::new("/") {
            // The kernel does not look for the mark at the root of a layer.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if name == ".wh..wh..opq" {
            opaque(&parent);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            let path = parent.join(hidden);
            self.hidden.insert(path.clone());
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => opaque(&path),
                Ok(_) => {}
                Err(_) => mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0)?,
            }
            return Ok(());
        }
        let path = parent.join(name);
        let link = String::from_utf8(item.entry.link.clone()).unwrap();
        let there = fs::symlink_metadata(&path).ok();
        let mode = fs::Permissions::from_mode(item.entry.mode.into());
        if item.entry.kind == Kind::HardLink {
            let target = Path::new("/").join(&link);
            let target =
                fs::canonicalize(target.parent().unwrap())?.join(target.file_name().unwrap());
            let meta = fs::symlink_metadata(&target)?;
            // Links into lower layers have tests of their own.
            if meta.is_dir() || is_whiteout(&meta) || target == path {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let aside = parent.join("aside");
            fs::hard_link(&target, &aside)?;
            self.clear(&path)?;
            return fs::rename(&aside, &path);
        }
        if !(item.entry.kind == Kind::Dir && there.as_ref().is_some_and(|meta| meta.is_dir())) {
            self.clear(&path)?;
        }
        match item.entry.kind {
            Kind::Dir if !there.is_some_and(|meta| meta.is_dir()) => {
                fs::create_dir(&path)?;
                self.unhide(&path);
            }
            Kind::Dir => {}
            Kind::File => fs::write(&path, &item.content)?,
            Kind::Fifo => nix::unistd::mkfifo(&path, Mode::empty())?,
            Kind::Symlink => {
                make_symlink(&link, &path)?;
                return std::os::unix::fs::lchown(
                    &path,
                    Some(item.entry.uid),
                    Some(item.entry.gid),
                );
            }
            Kind::HardLink | Kind::Device => unreachable!("not generated"),
        }
        chown(&path, Some(item.entry.uid), Some(item.entry.gid))?;
        fs::set_permissions(&path, mode)
    }
}

fn is_whiteout(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn opaque(dir: &Path) {
    xattr::set(dir, "trusted.overlay.opaque", b"y").unwrap();
}

/// Unpacks a layer; the directories that it implied, or the index of the entry that cannot be unpacked.
fn unpack(dir: &Path, items: &[Item]) -> Result<HashSet<PathBuf>, usize> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The root directory is this thread's own from here on.
            unshare(CloneFlags::CLONE_FS).unwrap();
            nix::unistd::chroot(dir).unwrap();
            std::env::set_current_dir("/").unwrap();
            let mut unpacked = Unpacked::default();
            match items.iter().position(|item| unpacked.apply(item).is_err()) {
                None => Ok(unpacked.implied),
                Some(failed) => Err(failed),
            }
        });
        thread.join().unwrap()
    })
}

/// What the overlay mount shows, in the words of [`describe`].
fn seen(
    root: &Path,
    path: &Path,
    lines: &mut BTreeMap<String, String>,
    groups: &mut Vec<u64>,
) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    names.sort();
    for path in names {
        // A whiteout in a directory of one layer only is listed, but not there.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let owner = format!("{:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
        if meta.is_dir() {
            lines.insert(name, format!("dir {owner}"));
            seen(root, &path, lines, groups)?;
            continue;
        }
        let mut line = if meta.is_symlink() {
            format!("-> {} {owner}", fs::read_link(&path)?.display())
        } else if meta.is_file() {
            format!("file {} {owner}", fs::read_to_string(&path)?)
        } else {
            format!("fifo {owner}")
        };
        if meta.nlink() > 1 {
            let known = groups.iter().position(|ino| *ino == meta.ino());
            let number = known.unwrap_or_else(|| {
                groups.push(meta.ino());
                groups.len() - 1
            });
            line.push_str(&format!(" #{number}"));
        }
        lines.insert(name, line);
    }
    Ok(())
}

/// The reference's view. Entries that no engine can unpack are taken out of the layers.
fn reference(layers: &mut [Vec<Item>]) -> io::Result<(BTreeMap<String, String>, HashSet<PathBuf>)> {
    // Not on a tmpfs, which may lack trusted attributes on old kernels.
    let base = tempfile::tempdir_in("/var/tmp")?;
    let mut lower = Vec::new();
    let mut implied = HashSet::new();
    for (index, items) in layers.iter_mut().enumerate() {
        let dir = base.path().join(index.to_string());
        fs::create_dir(&dir)?;
        while let Err(failed) = unpack(&dir, items).map(|made| implied.extend(made)) {
            items.remove(failed);
            fs::remove_dir_all(&dir)?;
            fs::create_dir(&dir)?;
        }
        lower.insert(0, dir.display().to_string());
    }
    // A read-only overlay wants two layers.
    let (empty, view) = (base.path().join("empty"), base.path().join("view"));
    fs::create_dir(&empty)?;
    fs::create_dir(&view)?;
    lower.push(empty.display().to_string());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            private_mounts();
            let options = format!("lowerdir={}", lower.join(":"));
            mount(
                Some("overlay"),
                &view,
                Some("overlay"),
                MsFlags::MS_RDONLY,
                Some(options.as_str()),
            )?;
            let mut lines = BTreeMap::new();
            seen(&view, &view, &mut lines, &mut Vec::new())?;
            Ok((lines, implied))
        });
        thread.join().unwrap()
    })
}

/// Attributes of directories that a layer only implied differ between engines; a name that is linked but
/// seen once keeps its link count in a directory tree, not in ours.
fn comparable(
    mut lines: BTreeMap<String, String>,
    implied: &HashSet<PathBuf>,
) -> BTreeMap<String, String> {
    let groups: Vec<String> = lines
        .values()
        .filter_map(|line| line.rsplit_once(" #").map(|(_, group)| group.to_owned()))
        .collect();
    let mut renumbered: Vec<String> = Vec::new();
    for (path, line) in &mut lines {
        if line.starts_with("dir ") && implied.contains(&Path::new("/").join(path)) {
            "dir".clone_into(line);
        }
        if let Some((rest, group)) = line.clone().rsplit_once(" #") {
            rest.clone_into(line);
            if groups.iter().filter(|other| *other == group).count() > 1 {
                let known = renumbered.iter().position(|other| other == group);
                let number = known.unwrap_or_else(|| {
                    renumbered.push(group.to_owned());
                    renumbered.len() - 1
                });
                line.push_str(&format!(" #{number}"));
            }
        }
    }
    lines
}

proptest! {
    #[test]
    fn random_layers_look_as_overlayfs_shows_them(
        layers in proptest::collection::vec(proptest::collection::vec(op(), 0..8), 1..4),
    ) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: comparing with overlayfs needs root");
            return Ok(());
        }
        let mut layers = layers;
        let (theirs, implied) = reference(&mut layers).unwrap();
        let slices: Vec<&[Item]> = layers.iter().map(Vec::as_slice).collect();
        let ours = listing(&slices);
        prop_assert_eq!(comparable(ours.unwrap(), &implied), comparable(theirs, &implied));
    }
}
