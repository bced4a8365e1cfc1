//! Files and folders of the host that nobody but us may have made. What somebody put in their place (a link, a
//! pipe, a device, what belongs to another user) is refused with its name; it is neither followed nor opened,
//! so that nothing else changes and nothing waits for the other end of a pipe.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder that is not there yet, with mode 0700.
///
/// # Errors
/// The file system says no, or there is anything of that name, even a folder of ours.
pub fn new_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| in_the_way(path, error))
}

/// Makes a folder with mode 0700, or keeps the one that is there if it is ours.
///
/// # Errors
/// As [`check_dir`].
pub fn dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_dir(path),
        made => made,
    }
}

/// Checks that a folder is ours, and nobody else may put anything into it.
///
/// # Errors
/// It is not, or there is none.
pub fn check_dir(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(refused(path, "is not a folder: remove it"));
    }
    check_owner(path, &found)?;
    if found.mode() & 0o022 != 0 {
        return Err(refused(path, "can be written by others: see what is in it, then chmod 0700"));
    }
    Ok(())
}

/// Makes a file that is not there yet, for writing.
///
/// # Errors
/// The file system says no, or there is anything of that name.
pub fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.map_err(|error| in_the_way(path, error))
}

/// Opens a file of ours for reading.
///
/// # Errors
/// The file system says no; it is not a file, not ours, or has a second name.
pub fn open(path: &Path) -> io::Result<File> {
    open_own(path, OpenOptions::new().read(true))
}

/// Opens a file of ours for reading and writing, empty with mode 0600 if there was none.
///
/// # Errors
/// As [`open`].
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_own(path, &options),
        made => made,
    }
}

/// Opens for reading what may be anybody's, as long as it is a file.
///
/// # Errors
/// The file system says no, or it is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_checked(path, OpenOptions::new().read(true), |found| regular(path, found))
}

fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    open_checked(path, options, |found| {
        regular(path, found)?;
        check_owner(path, found)?;
        match found.nlink() {
            // None when it was removed meanwhile.
            0 | 1 => Ok(()),
            _ => Err(refused(path, "has a second name somewhere: remove it")),
        }
    })
}

fn open_checked(
    path: &Path,
    options: &OpenOptions,
    check: impl FnOnce(&Metadata) -> io::Result<()>,
) -> io::Result<File> {
    // A handle only: a device does nothing yet, and a pipe does not wait.
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let handle = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check(&handle.metadata()?)?;
    options.open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn regular(path: &Path, found: &Metadata) -> io::Result<()> {
    if found.is_file() { Ok(()) } else { Err(refused(path, "is not a file: remove it")) }
}

/// Checks that it belongs to us.
///
/// # Errors
/// It is another's.
pub fn check_owner(path: &Path, found: &Metadata) -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    if found.uid() == own {
        return Ok(());
    }
    let problem = format!("belongs to user {}, and we are user {own}: remove it", found.uid());
    Err(refused(path, &problem))
}

/// An error that says what is wrong with a path.
pub fn refused(path: &Path, problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {problem}", path.display()))
}

fn in_the_way(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let problem = format!("{} is in the way: remove it", path.display());
            io::Error::new(io::ErrorKind::AlreadyExists, problem)
        }
        _ => error,
    }
}

/// Plants things in our way, for tests.
#[cfg(test)]
pub mod planting {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use nix::unistd::mkfifo;

    use super::*;

    /// Whoever plants, and owns what he plants or points at.
    const SOMEBODY: u32 = 4711;
    /// Nothing may wait; so long is for ever.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// One thing in the way.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Plant {
        LinkToFile,
        LinkToFolder,
        LinkToNothing,
        HardLink,
        Pipe,
        Socket,
        Device,
        ForeignFolder,
        OpenFolder,
        ForeignFile,
    }

    pub const ALL: [Plant; 10] = [
        Plant::LinkToFile,
        Plant::LinkToFolder,
        Plant::LinkToNothing,
        Plant::HardLink,
        Plant::Pipe,
        Plant::Socket,
        Plant::Device,
        Plant::ForeignFolder,
        Plant::OpenFolder,
        Plant::ForeignFile,
    ];

    impl Plant {
        fn needs_root(self) -> bool {
            matches!(self, Self::Device | Self::ForeignFolder | Self::ForeignFile)
        }

        fn put(self, place: &Path, victim: &Path) {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            match self {
                Self::LinkToFile => symlink(victim.join("file"), place).unwrap(),
                Self::LinkToFolder => symlink(victim, place).unwrap(),
                Self::LinkToNothing => symlink(victim.join("new"), place).unwrap(),
                Self::HardLink => fs::hard_link(victim.join("file"), place).unwrap(),
                Self::Pipe => mkfifo(place, Mode::from_bits_truncate(0o666)).unwrap(),
                Self::Socket => drop(UnixListener::bind(place).unwrap()),
                Self::Device => {
                    mknod(place, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
                        .unwrap();
                }
                Self::ForeignFolder => {
                    fs::create_dir(place).unwrap();
                    chown(place, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
                }
                Self::OpenFolder => {
                    fs::create_dir(place).unwrap();
                    fs::set_permissions(place, Permissions::from_mode(0o777)).unwrap();
                }
                Self::ForeignFile => {
                    fs::write(place, "theirs").unwrap();
                    chown(place, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
                }
            }
        }
    }

    /// All that could change about what is at a path, and below it.
    fn state(path: &Path) -> Vec<String> {
        let found = fs::symlink_metadata(path).unwrap();
        let content = if found.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let (mode, uid, gid, links) = (found.mode(), found.uid(), found.gid(), found.nlink());
        let changed = (found.mtime(), found.mtime_nsec());
        let of_itself = format!("{path:?} {mode:o} {uid} {gid} {links} {changed:?} {content:?}");
        let mut all = vec![of_itself];
        if found.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            let mut paths: Vec<PathBuf> = entries.collect();
            paths.sort();
            all.extend(paths.iter().flat_map(|path| state(path)));
        }
        all
    }

    /// Puts each of `plants` at each of `names` in a folder of its own, and expects that `attempt`, which gets
    /// the folder, refuses it: soon, and with everything as it was.
    pub fn expect_refusals(
        names: &[&str],
        plants: &[Plant],
        attempt: impl Fn(&Path) -> io::Result<()> + Send + Clone + 'static,
    ) {
        let root = nix::unistd::geteuid().is_root();
        for (name, plant) in names.iter().flat_map(|name| plants.iter().map(move |p| (name, *p))) {
            if plant.needs_root() && !root {
                eprintln!("skipped: {plant:?} can only be planted by root");
                continue;
            }
            let (dir, victim) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (file, place) = (victim.path().join("file"), dir.path().join(name));
            fs::write(&file, "not ours to change").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
            plant.put(&place, victim.path());
            let before = (state(victim.path()), state(&place));
            let (done, answer) = mpsc::channel();
            let (attempt, path) = (attempt.clone(), dir.path().to_owned());
            std::thread::spawn(move || done.send(attempt(&path)));
            let outcome = answer.recv_timeout(PATIENCE);
            let outcome = outcome.unwrap_or_else(|_| panic!("{plant:?} at {name}: it waits"));
            assert!(outcome.is_err(), "{plant:?} at {name} is not refused");
            let after = (state(victim.path()), state(&place));
            assert_eq!(before, after, "{plant:?} at {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::planting::{ALL, expect_refusals};
    use super::*;

    #[test]
    fn what_is_planted_is_refused_and_left_as_it_is() {
        expect_refusals(&["it"], &ALL, |dir| super::dir(&dir.join("it")));
        expect_refusals(&["it"], &ALL, |dir| new_dir(&dir.join("it")));
        expect_refusals(&["it"], &ALL, |dir| new_file(&dir.join("it"), 0o600).map(drop));
        expect_refusals(&["it"], &ALL, |dir| open(&dir.join("it")).map(drop));
        expect_refusals(&["it"], &ALL, |dir| open_or_create(&dir.join("it")).map(drop));
    }

    #[test]
    fn what_is_ours_is_used() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, file) = (temp.path().join("folder"), temp.path().join("file"));
        for _ in 0..2 {
            dir(&folder).unwrap();
            open_or_create(&file).unwrap();
        }
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        fs::write(&file, "ours").unwrap();
        assert_eq!(io::read_to_string(open_or_create(&file).unwrap()).unwrap(), "ours");
        assert_eq!(io::read_to_string(open(&file).unwrap()).unwrap(), "ours");
        let error = new_file(&file, 0o600).unwrap_err().to_string();
        assert!(error.ends_with("file is in the way: remove it"), "{error}");
    }
}
