//! From the kernel's hand-over to open channels.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use guest_wire::{BULK_PORT, BULK_VSOCK_PORT, CHANNEL_ARGUMENT, CONTROL_PORT, CONTROL_VSOCK_PORT};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use crate::arguments;
use crate::cgroup;
use crate::failure::{Context, Result};
use crate::modules;
use crate::network;
use crate::pause::pause;

/// The channels to the host.
pub struct Channels {
    /// Requests and replies.
    pub control: File,
    /// Streams.
    pub bulk: File,
}

/// How long devices may take to appear.
const DEVICE_PATIENCE: Duration = Duration::from_secs(20);

/// Mounts what the kernel offers, loads modules, opens the channels.
pub fn bring_up() -> Result<Channels> {
    mount_kernel_file_systems()?;
    modules::load_early()?;
    leave_initramfs()?;
    mount_cgroups()?;
    cgroup::set_up()?;
    network::loopback_up().context("bring the loopback interface up")?;
    // Steps that find no free memory must never choose the agent.
    fs::write("/proc/self/oom_score_adj", "-1000")
        .context("protect the agent from the OOM killer")?;
    if arguments::value(CHANNEL_ARGUMENT)?.as_deref() == Some("vsock") {
        modules::load_later("vmw_vsock_virtio_transport")?;
        let control = open_vsock(CONTROL_VSOCK_PORT)?;
        return Ok(Channels { control, bulk: open_vsock(BULK_VSOCK_PORT)? });
    }
    Ok(Channels { control: open_port(CONTROL_PORT)?, bulk: open_port(BULK_PORT)? })
}

fn mount_kernel_file_systems() -> Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let table = [
        ("proc", "/proc", plain),
        ("sysfs", "/sys", plain),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID),
    ];
    for (kind, target, flags) in table {
        fs::create_dir_all(target).context(target)?;
        mount(Some(kind), target, Some(kind), flags, None::<&str>)
            .context(format_args!("mount {kind}"))?;
    }
    Ok(())
}

/// Moves to a root that steps can pivot away from; the kernel's first root never lets go.
fn leave_initramfs() -> Result<()> {
    const ROOT: &str = "/root";
    fs::create_dir_all(ROOT).context(ROOT)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), ROOT, Some("tmpfs"), flags, Some("mode=755,size=1m"))
        .context("mount the agent's root")?;
    for name in ["proc", "sys", "dev"] {
        let target = Path::new(ROOT).join(name);
        fs::create_dir(&target).context(target.display())?;
        let from = Path::new("/").join(name);
        mount(Some(&from), &target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .context(format_args!("move {}", from.display()))?;
    }
    std::env::set_current_dir(ROOT).context(ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("move the agent's root")?;
    nix::unistd::chroot(".").context("change root")?;
    std::env::set_current_dir("/").context("change to /")
}

fn mount_cgroups() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), flags, None::<&str>)
        .context("mount the cgroups")
}

/// Opens the virtio-serial port of that name. The device may still be on its way: its driver learns the
/// names of its ports by messages.
fn open_port(name: &str) -> Result<File> {
    let deadline = Instant::now() + DEVICE_PATIENCE;
    loop {
        if let Some(device) = find_port(name) {
            let opened =
                OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(device));
            match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.context(format_args!("open the port {name}")),
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::from(io::ErrorKind::TimedOut))
                .context(format_args!("no virtio-serial port named {name}"));
        }
        pause(Duration::from_millis(1));
    }
}

/// Connects to a vsock port of the host, which listens before the VM starts. The device may still be on its
/// way.
fn open_vsock(port: u32) -> Result<File> {
    let deadline = Instant::now() + DEVICE_PATIENCE;
    loop {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)
            .context("make a vsock socket")?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        match connect(fd, &VsockAddr::new(libc::VMADDR_CID_HOST, port)) {
            Ok(()) => return Ok(File::from(socket)),
            Err(Errno::ENODEV | Errno::ENETUNREACH) if Instant::now() < deadline => {
                pause(Duration::from_millis(1));
            }
            Err(errno) => return Err(errno).context(format_args!("connect to vsock port {port}")),
        }
    }
}

fn find_port(name: &str) -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|found| found.trim_end() == name)
        {
            return entry.file_name().into_string().ok();
        }
    }
    None
}
