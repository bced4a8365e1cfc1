//! Disks: the read-only images, the scratch disk, the workspace.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest_wire::DISKS_ARGUMENT;
use guest_wire::message::{FailureKind, Prepare};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use crate::arguments;
use crate::cgroup;
use crate::failure::{Context, Result, bad_request, failure};
use crate::modules;
use crate::pause::pause;

/// Where the workspace is mounted for the agent.
pub const WORKSPACE: &str = guest_wire::AGENT_WORKSPACE;
const SCRATCH: &str = "/scratch";
const IMAGES: &str = "/images";
const DEVICE_PATIENCE: Duration = Duration::from_secs(20);

/// What prepare made. A container has nothing of it: its steps are other containers.
#[derive(Default)]
pub struct Assembled {
    images: HashSet<String>,
    /// Answers the names that steps look up.
    pub nameserver: Option<IpAddr>,
}

/// Blocks and inodes of the scratch disk.
#[derive(Clone, Copy)]
pub struct Space {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that steps can still write.
    pub free: u64,
    /// Nothing more can be written or made.
    pub full: bool,
}

/// Does what [`Prepare`] asks.
pub fn assemble(prepare: &Prepare) -> Result<Assembled> {
    mount_disk(&prepare.scratch, SCRATCH, "ext4", MsFlags::empty(), SCRATCH_OPTIONS)?;
    let mut images = HashSet::new();
    for serial in prepare.images.iter().chain(&prepare.workspace) {
        if images.insert(serial.clone()) {
            mount_image(serial)?;
        }
    }
    make_workspace(prepare.workspace.as_deref())?;
    fs::create_dir_all(Path::new(SCRATCH).join("steps")).context("make the folder for steps")?;
    if prepare.max_processes > 0 {
        cgroup::limit_processes(prepare.max_processes)?;
    }
    Ok(Assembled { images, nameserver: None })
}

// The disk lives no longer than the VM: no journal is worth its time. Zeroed inode tables come with it.
const SCRATCH_OPTIONS: &str = "noinit_itable,nobarrier,errors=remount-ro";

impl Assembled {
    /// The mounted image of that serial.
    pub fn image(&self, serial: &str) -> Result<PathBuf> {
        if !self.images.contains(serial) {
            return Err(bad_request(format!("no image with the serial {serial:?} was prepared")));
        }
        Ok(Path::new(IMAGES).join(serial))
    }

    /// The folder for what step `number` writes to its own root.
    pub fn step_dir(&self, number: u32) -> PathBuf {
        Path::new(SCRATCH).join("steps").join(number.to_string())
    }
}

/// Space on the scratch disk. What is kept back for root does not count as free: steps cannot have it.
pub fn space() -> Space {
    let Ok(stat) = statvfs(SCRATCH) else { return Space { used: 0, free: 0, full: false } };
    let block = stat.fragment_size();
    Space {
        used: (stat.blocks() - stat.blocks_free()) * block,
        free: stat.blocks_available() * block,
        full: stat.blocks_available() * block < 64 << 10 || stat.files_available() == 0,
    }
}

fn make_workspace(image: Option<&str>) -> Result<()> {
    fs::create_dir_all(WORKSPACE).context(WORKSPACE)?;
    let base = Path::new(SCRATCH).join("workspace");
    let (upper, work) = (base.join("upper"), base.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).context(dir.display())?;
    }
    // Images choose their user; whoever it is can add files. As with a container engine's bind mount,
    // files of the repository belong to root.
    open_to_all(&upper)?;
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    let Some(image) = image else {
        let bind = MsFlags::MS_BIND;
        mount(Some(&upper), WORKSPACE, None::<&str>, bind, None::<&str>)
            .context("bind the workspace")?;
        return Ok(());
    };
    let lower = Path::new(IMAGES).join(image);
    // metacopy: a change of owner or mode does not copy the file's bytes.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=on,metacopy=on",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), WORKSPACE, Some("overlay"), flags, Some(options.as_str()))
        .context("mount the workspace over its image")
}

fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).context(dir.display())
}

fn mount_image(serial: &str) -> Result<()> {
    let device = find_disk(serial)?;
    let kind = image_kind(&device)?;
    let target = Path::new(IMAGES).join(serial);
    mount_device(&device, &target, kind, MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "")
}

fn mount_disk(serial: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount_device(&find_disk(serial)?, Path::new(target), kind, flags, options)
}

fn mount_device(
    device: &Path,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> Result<()> {
    fs::create_dir_all(target).context(target.display())?;
    mount(Some(device), target, Some(kind), flags, Some(options)).context(format_args!(
        "mount {} on {}",
        device.display(),
        target.display()
    ))
}

/// The block device with that serial. Drivers may still be busy finding it.
fn find_disk(serial: &str) -> Result<PathBuf> {
    if serial.is_empty() || serial.contains('/') {
        return Err(bad_request(format!("{serial:?} is not a serial")));
    }
    let by_order =
        arguments::value(DISKS_ARGUMENT)?.and_then(|disks| name_by_order(&disks, serial));
    let deadline = Instant::now() + DEVICE_PATIENCE;
    loop {
        if let Some(name) =
            by_order.as_ref().filter(|name| Path::new("/sys/block").join(name).exists())
        {
            return Ok(Path::new("/dev").join(name));
        }
        for entry in fs::read_dir("/sys/block").context("/sys/block")?.flatten() {
            let found = fs::read_to_string(entry.path().join("serial"));
            if found.is_ok_and(|found| found.trim_end() == serial) {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        if Instant::now() > deadline {
            let message = format!("no disk with the serial {serial:?}");
            return Err(failure(FailureKind::NotFound, message));
        }
        pause(Duration::from_millis(2));
    }
}

/// `vda` for the first of `disks`, and so on.
fn name_by_order(disks: &str, serial: &str) -> Option<String> {
    let index = disks.split(',').position(|disk| disk == serial)?;
    let letter = ('a'..='z').nth(index)?;
    Some(format!("vd{letter}"))
}

/// Which read-only file system a device holds, by its magic number.
fn image_kind(device: &Path) -> Result<&'static str> {
    let mut head = [0; 1028];
    let file = File::open(device).context(device.display())?;
    match file.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error).context("read")?,
        _ => {}
    }
    if head.starts_with(b"hsqs") {
        Ok("squashfs")
    } else if head[1024..] == 0xE0F5_E1E2_u32.to_le_bytes() {
        modules::load_later("erofs")?;
        Ok("erofs")
    } else {
        Err(bad_request(format!("{} holds neither squashfs nor erofs", device.display())))
    }
}
