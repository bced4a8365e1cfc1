//! The step's root: the image under a fresh upper layer, the workspace, and the few kernel file systems
//! that programs expect. Made in a mount namespace of its own, so it goes when the step goes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use guest_wire::{GATEWAY_HOST, WORKSPACE};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare as unshare_namespaces};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::Plan;
use crate::failure::{Context, Result};
use crate::{files, gateway, images};

/// Where the root is put together; part of the agent's own file system.
const NEW_ROOT: &str = "/step";
/// Longest `/etc/passwd` that is read from an image, in bytes.
const ETC_MAX: u64 = 4 << 20;

/// `major, minor` of the devices that programs expect.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Parts of `/proc` that reach beyond the step: emptied.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger"];
/// Parts of `/proc` that would change the kernel: read-only.
const FROZEN: [&str; 4] = ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Leaves the agent's namespaces. Children are in a new PID namespace. The network is the VM's own.
pub fn unshare() -> Result<()> {
    unshare_namespaces(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .context("make namespaces")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make mounts private")
}

/// Puts the root together; returns where.
pub fn assemble(plan: &Plan) -> Result<PathBuf> {
    let root = PathBuf::from(NEW_ROOT);
    fs::create_dir_all(&root).context(NEW_ROOT)?;
    let (upper, work) = (plan.dir.join("upper"), plan.dir.join("work"));
    // The image decides how its root looks to everyone; an upper layer made by us would hide that.
    let mode = fs::metadata(&plan.image).context("the image's root")?.permissions();
    fs::set_permissions(&upper, mode).context("the image's root")?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=on",
        plan.image.display(),
        upper.display(),
        work.display()
    );
    let flags = MsFlags::MS_NODEV;
    mount(Some("overlay"), &root, Some("overlay"), flags, Some(options.as_str()))
        .context("mount the step's root over its image")?;
    let workspace = mount_point(&root, WORKSPACE.trim_start_matches('/'))?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(images::WORKSPACE), &workspace, None::<&str>, bind, None::<&str>)
        .context("bind the workspace")?;
    let dev = mount_point(&root, "dev")?;
    make_devices(&dev)?;
    let sys = mount_point(&root, "sys")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), &sys, Some("sysfs"), quiet | MsFlags::MS_RDONLY, None::<&str>)
        .context("mount sysfs")?;
    write_etc(&root, plan)?;
    mount_point(&root, "proc")?;
    Ok(root)
}

/// Enters the root as PID 1 of the namespace and closes the way back.
pub fn enter(plan: &Plan, root: &Path) -> Result<()> {
    let proc = mount_point(root, "proc")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), quiet, None::<&str>).context("mount proc")?;
    std::env::set_current_dir(root).context("change to the step's root")?;
    // Both at the same place: the old root ends up on top of the new one and is then taken off.
    nix::unistd::pivot_root(".", ".").context("pivot into the step's root")?;
    umount2(".", MntFlags::MNT_DETACH).context("let go of the agent's root")?;
    std::env::set_current_dir("/").context("change to /")?;
    let bind = MsFlags::MS_BIND;
    for path in MASKED.iter().filter(|path| Path::new(path).exists()) {
        mount(Some("/dev/null"), *path, None::<&str>, bind, None::<&str>).context(path)?;
    }
    for path in FROZEN.iter().filter(|path| Path::new(path).exists()) {
        mount(Some(*path), *path, None::<&str>, bind, None::<&str>).context(path)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | quiet;
        mount(None::<&str>, *path, None::<&str>, flags, None::<&str>).context(path)?;
    }
    nix::unistd::sethostname(&plan.hostname).context("set the host name")
}

/// A text file of the image, empty if it has none. Links lead nowhere outside the image.
pub fn read_etc(image: &Path, path: &str) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let read = || -> Result<String> {
        let file = File::from(open_in(image, path, flags, 0)?);
        let mut bytes = Vec::new();
        file.take(ETC_MAX).read_to_end(&mut bytes).context(path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// A directory of the root to mount on, made if missing, with links resolved inside the root.
fn mount_point(root: &Path, name: &str) -> Result<PathBuf> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let made = match open_in(root, name, flags, 0) {
        Ok(dir) => dir,
        Err(_) => {
            let path = root.join(name);
            // A file or a dangling link of the image stands in the way.
            if path.symlink_metadata().is_ok() {
                fs::remove_file(&path).context(path.display())?;
            }
            fs::create_dir(&path).context(path.display())?;
            open_in(root, name, flags, 0)?
        }
    };
    // Resolved once: the kernel tells where it is.
    let real = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
    fs::read_link(real).context(name)
}

fn open_in(root: &Path, path: &str, flags: OFlag, mode: u32) -> Result<OwnedFd> {
    let dir = files::open_dir(root)?;
    let how = OpenHow::new()
        .flags(flags)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(&dir, path, how).context(path)
}

fn make_devices(dev: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), dev, Some("tmpfs"), flags, Some("mode=755,size=64k"))
        .context("mount /dev")?;
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))
            .context(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context(path.display())?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).context(name)?;
    }
    // Terminals are devices; nobody can make any other there.
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let table = [
        ("devpts", "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", flags),
        ("tmpfs", "shm", "mode=1777", quiet),
        ("mqueue", "mqueue", "", quiet),
    ];
    for (kind, name, options, flags) in table {
        let path = dev.join(name);
        fs::create_dir(&path).context(path.display())?;
        mount(Some(kind), &path, Some(kind), flags, Some(options))
            .context(format_args!("/dev/{name}"))?;
    }
    Ok(())
}

/// Name resolution: the step itself and the gateway; with a network, one resolver for everything else.
fn write_etc(root: &Path, plan: &Plan) -> Result<()> {
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{} {GATEWAY_HOST}\n127.0.1.1 {}\n",
        gateway::ADDRESS,
        plan.hostname
    );
    let resolv_conf =
        plan.nameserver.map(|server| format!("nameserver {server}\n")).unwrap_or_default();
    let table = [
        ("hosts", hosts),
        ("hostname", format!("{}\n", plan.hostname)),
        ("resolv.conf", resolv_conf),
    ];
    let etc = mount_point(root, "etc")?;
    for (name, content) in table {
        // A link of the image (resolv.conf often is one) is replaced, not followed.
        let path = etc.join(name);
        if path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&path).context(path.display())?;
        }
        let mut file = File::create(&path).context(path.display())?;
        file.write_all(content.as_bytes()).context(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).context(path.display())?;
    }
    Ok(())
}
