//! Builds the jail of a VM, starts Firecracker in it, and finds what is left of jails.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use guest_wire::{BULK_VSOCK_PORT, CONTROL_VSOCK_PORT};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::user_ids::UserId;
use super::{
    CONFIG, INITRAMFS, KERNEL, PROCESSOR, VSOCK, config, drive_name, jailer_arguments, processor,
};
use crate::cgroup::{Cgroups, Hierarchy};
use crate::pidfd;
use crate::sockets;
use crate::spec::VmSpec;

/// Folder of the jailer in a VM's run directory.
const BASE: &str = "jail";

/// A jail with all files in it, before its VMM runs.
#[derive(Debug)]
pub struct Jail {
    base: PathBuf,
    root: PathBuf,
    /// What the jailer calls the program, and the file with its process id.
    program: String,
    user: UserId,
}

/// A Firecracker that runs in its jail.
#[derive(Debug)]
pub struct Jailed {
    process: AsyncFd<std::os::fd::OwnedFd>,
    /// Nobody else's as long as the process is not seen to have ended.
    id: i32,
    /// Removed after the process was killed.
    cgroups: Cgroups,
    _user: UserId,
}

/// The VMM's output: the guest's serial console and its own messages.
pub struct Output {
    /// The console.
    pub stdout: ChildStdout,
    /// Messages.
    pub stderr: ChildStderr,
}

impl Jail {
    /// Makes it in the run directory of the VM. Blocking.
    ///
    /// # Errors
    /// The file system says no.
    pub fn build(spec: &VmSpec, binary: &Path) -> io::Result<Self> {
        let program = binary.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let base = spec.run_dir.join(BASE);
        let root = make_root(&base, &Path::new(program).join(&spec.name).join("root"))?;
        let user = UserId::take()?;
        let jail = Self { base, root, program: program.to_owned(), user };
        jail.share(&spec.kernel, KERNEL)?;
        jail.share(&spec.initramfs, INITRAMFS)?;
        for (index, disk) in spec.disks.iter().enumerate() {
            let name = drive_name(index);
            if disk.read_only {
                jail.share(&disk.path, &name)?;
            } else {
                fs::hard_link(&disk.path, jail.root.join(&name))?;
                jail.give(&jail.root.join(&name))?;
            }
        }
        for (name, content) in [(CONFIG, config(spec)), (PROCESSOR, processor())] {
            let path = jail.root.join(name);
            fs::write(&path, content.to_string())?;
            jail.give(&path)?;
        }
        Ok(jail)
    }

    /// Puts a file that many VMs read into the jail, without a copy where that is possible.
    fn share(&self, file: &Path, name: &str) -> io::Result<()> {
        // A link to a link would lead out of the jail.
        let file = fs::canonicalize(file)?;
        let target = self.root.join(name);
        match fs::hard_link(&file, &target) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(&file, &target)?;
            }
            linked => linked?,
        }
        // It belongs to root; the VMM reads it as one of the others.
        let mode = fs::metadata(&target)?.permissions().mode();
        if mode & 0o004 == 0 {
            fs::set_permissions(&target, Permissions::from_mode((mode & 0o7777) | 0o004))?;
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        let id = self.user.get();
        chown(path, Some(id), Some(id))
    }

    /// Listens where the guest's vsock connects to: first control, then bulk.
    ///
    /// # Errors
    /// The file system says no.
    pub fn listen(&self) -> io::Result<(UnixListener, UnixListener)> {
        let names = [CONTROL_VSOCK_PORT, BULK_VSOCK_PORT].map(|port| format!("{VSOCK}_{port}"));
        let [control, bulk] = sockets::listen(&self.root, [&names[0], &names[1]])?;
        for name in names {
            self.give(&self.root.join(name))?;
        }
        Ok((control, bulk))
    }

    /// Starts Firecracker by its jailer.
    ///
    /// # Errors
    /// The jailer cannot be started or failed; then with its words.
    pub async fn start(
        self,
        spec: &VmSpec,
        binary: &Path,
        jailer: &Path,
    ) -> io::Result<(Jailed, Output)> {
        let cgroups = Hierarchy::detect();
        let mut child = Command::new(jailer)
            .args(jailer_arguments(spec, binary, &self.base, self.user.get(), &cgroups))
            // Until it is in the jail, it is found by this.
            .current_dir(&spec.run_dir)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdout, stderr) =
            child.stdout.take().zip(child.stderr.take()).expect("both are piped");
        let mut output = Output { stdout, stderr };
        // It leaves as soon as the VMM is under way in a process namespace of its own.
        let status = child.wait().await?;
        if !status.success() {
            let words = last_words(&mut output).await;
            return Err(io::Error::other(format!("jailer: {status}: {words}")));
        }
        let (id, process) = match self.find_process() {
            Ok(found) => found,
            Err(error) => {
                let words = last_words(&mut output).await;
                return Err(io::Error::other(format!("{}: {error}: {words}", self.program)));
            }
        };
        // SAFETY: the descriptor is owned, and neither closed nor changed as long as it is watched.
        let process =
            unsafe { AsyncFd::register_with_interest(process, tokio::io::Interest::READABLE) }?;
        let cgroups = Cgroups::of_jail(&spec.name);
        Ok((Jailed { process, id, cgroups, _user: self.user }, output))
    }

    fn find_process(&self) -> io::Result<(i32, std::os::fd::OwnedFd)> {
        let text = fs::read_to_string(self.root.join(format!("{}.pid", self.program)))?;
        let pid: i32 = text.trim().parse().map_err(io::Error::other)?;
        let process = pidfd::open(pid)?;
        // Looked at through the handle's process: the id may be another's by now.
        let root = fs::metadata(format!("/proc/{pid}/root"))?;
        if roots_in(&self.base).contains(&(root.dev(), root.ino())) {
            Ok((pid, process))
        } else {
            Err(io::Error::other("it ended at once"))
        }
    }
}

impl Jailed {
    /// Its process id, on the host.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Its cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Waits until it ended.
    pub async fn wait(&mut self) {
        // Readable from its end on; an error would say that it cannot be watched, which is as good as dead.
        let _: io::Result<_> = self.process.readable().await.map(drop);
    }

    /// Kills it and waits.
    pub async fn kill(&mut self) {
        if let Err(error) = pidfd::kill(self.process.get_ref()) {
            tracing::warn!(%error, "VMM not killed");
        }
        self.wait().await;
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        let _: io::Result<()> = pidfd::kill(self.process.get_ref());
    }
}

/// Makes the folders down to a jail's root, in a run directory that is ours alone. A link that somebody
/// planted in there is not followed: the jailer would, as root.
fn make_root(base: &Path, below: &Path) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    let mut names = below.components();
    loop {
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ if !fs::symlink_metadata(&path)?.is_dir() => {
                let problem = format!("{} is in the way of the jail", path.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, problem));
            }
            _ => {}
        }
        match names.next() {
            Some(name) => path.push(name),
            None => return Ok(path),
        }
    }
}

async fn last_words(output: &mut Output) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut text = Vec::new();
    for pipe in
        [&mut output.stderr as &mut (dyn tokio::io::AsyncRead + Unpin + Send), &mut output.stdout]
    {
        // What cannot be read is not worth another error.
        let _: io::Result<usize> = pipe.take(4096).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The roots of the jails in a VM's run directory, as device and inode: how processes in them are found.
pub fn roots(run_dir: &Path) -> Vec<(u64, u64)> {
    roots_in(&run_dir.join(BASE))
}

/// `<base>/<program>/<vm>/root`
fn roots_in(base: &Path) -> Vec<(u64, u64)> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let jails = folders(base).into_iter().flat_map(|program| folders(&program));
    let roots = jails.filter_map(|jail| fs::symlink_metadata(jail.join("root")).ok());
    roots.map(|root| (root.dev(), root.ino())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Puts something in the way of a folder; the second path is a file of somebody else's.
    type Plant = fn(&Path, &Path);

    const PLANTED: [(&str, Plant); 5] = [
        ("a link to a folder", |path, theirs| symlink(theirs.parent().unwrap(), path).unwrap()),
        ("a link to a file", |path, theirs| symlink(theirs, path).unwrap()),
        ("a hard link", |path, theirs| fs::hard_link(theirs, path).unwrap()),
        ("a pipe", |path, _| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("a socket", |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];

    #[test]
    fn what_is_planted_in_the_way_of_a_jail_is_not_followed() {
        let below = Path::new("firecracker/vm/root");
        let places =
            ["jail", "jail/firecracker", "jail/firecracker/vm", "jail/firecracker/vm/root"];
        for place in places {
            for (what, plant) in PLANTED {
                let dir = tempfile::tempdir().unwrap();
                let theirs = dir.path().join("elsewhere/theirs");
                fs::create_dir(theirs.parent().unwrap()).unwrap();
                fs::write(&theirs, "theirs").unwrap();
                let looks = || {
                    let seen = fs::metadata(&theirs).unwrap();
                    (seen.mode(), seen.uid(), seen.len(), seen.mtime_nsec())
                };
                let before = looks();
                let path = dir.path().join(place);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                plant(&path, &theirs);
                assert!(make_root(&dir.path().join(BASE), below).is_err(), "{what} at {place}");
                assert_eq!(looks(), before, "{what} at {place}");
                let beside = fs::read_dir(theirs.parent().unwrap()).unwrap().count();
                assert_eq!(beside, 1, "{what} at {place}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let root = make_root(&dir.path().join(BASE), below).unwrap();
        assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
