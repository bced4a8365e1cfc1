//! Kernel modules out of the initramfs.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::stat::Mode;

use crate::failure::{Context, Result};
use crate::files;

const DIR: &str = "/modules";

/// The folder, which outlives the agent's move to another root.
static MODULES: OnceLock<OwnedFd> = OnceLock::new();

/// Loads what every boot needs, and gives its memory back.
pub fn load_early() -> Result<()> {
    if !Path::new(DIR).exists() {
        return Ok(());
    }
    let dir = files::open_dir(Path::new(DIR))?;
    for name in list(&dir, "early")?.lines() {
        load(&dir, name)?;
        fs::remove_file(Path::new(DIR).join(name)).context(name)?;
    }
    // Only PID 1's first thread gets here, once.
    let _: std::result::Result<(), OwnedFd> = MODULES.set(dir);
    Ok(())
}

/// Loads `name.ko` and what comes before it in the list, which is what it may depend on. A kernel that has
/// it built in has no such module here.
pub fn load_later(name: &str) -> Result<()> {
    let Some(dir) = MODULES.get() else { return Ok(()) };
    let file = format!("{name}.ko");
    let list = list(dir, "later")?;
    if list.lines().any(|line| line == file) {
        for line in list.lines() {
            load(dir, line)?;
            if line == file {
                break;
            }
        }
    }
    Ok(())
}

fn list(dir: &OwnedFd, name: &str) -> Result<String> {
    let mut text = String::new();
    match open(dir, name) {
        Err(Errno::ENOENT) => {}
        file => {
            file.context(name)?.read_to_string(&mut text).context(name)?;
        }
    }
    Ok(text)
}

fn load(dir: &OwnedFd, name: &str) -> Result<()> {
    let file = open(dir, name).context(name)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).context(format_args!("load {name}")),
    }
}

fn open(dir: &OwnedFd, name: &str) -> nix::Result<File> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}
