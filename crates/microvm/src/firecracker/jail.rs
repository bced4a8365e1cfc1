//! Builds the jail of a VM, starts Firecracker in it, and finds what is left of jails.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown};
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
use crate::own_files;
use crate::pidfd;
use crate::sockets;
use crate::spec::VmSpec;

/// Folder of the jailer in a VM's run directory.
const BASE: &str = "jail";
/// Of the file with a process id, in bytes.
const PID_MAX: u64 = 16;

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
        jail.fill(spec)?;
        Ok(jail)
    }

    fn fill(&self, spec: &VmSpec) -> io::Result<()> {
        self.share(&spec.kernel, KERNEL)?;
        self.share(&spec.initramfs, INITRAMFS)?;
        for (index, disk) in spec.disks.iter().enumerate() {
            let name = drive_name(index);
            if disk.read_only {
                self.share(&disk.path, &name)?;
            } else {
                self.hand_over(&disk.path, &name)?;
            }
        }
        self.write(CONFIG, &config(spec).to_string())?;
        self.write(PROCESSOR, &processor().to_string())
    }

    /// Puts a file that many VMs read into the jail, without a copy where that is possible.
    fn share(&self, path: &Path, name: &str) -> io::Result<()> {
        // A link to a link would lead out of the jail.
        let file = fs::canonicalize(path)?;
        let target = self.root.join(name);
        match fs::hard_link(&file, &target) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let mut source = own_files::open_regular(&file)?;
                io::copy(&mut source, &mut own_files::new_file(&target, 0o644)?)?;
            }
            linked => linked?,
        }
        let found = fs::symlink_metadata(&target)?;
        if !found.is_file() {
            return Err(own_files::refused(path, "is not a file"));
        }
        // It belongs to root; the VMM reads it as one of the others.
        let mode = found.mode();
        if mode & 0o004 == 0 {
            // Nobody's secret becomes readable because a link in our cache names it.
            if fs::symlink_metadata(path)?.is_symlink() {
                return Err(own_files::refused(path, "is a link to what others may not read"));
            }
            fs::set_permissions(&target, Permissions::from_mode((mode & 0o7777) | 0o004))?;
        }
        Ok(())
    }

    /// Gives the VMM a disk to write to: a file of ours without another name.
    fn hand_over(&self, disk: &Path, name: &str) -> io::Result<()> {
        let check = |path: &Path, names: u64| {
            let found = fs::symlink_metadata(path)?;
            if !found.is_file() {
                return Err(own_files::refused(disk, "is not a file"));
            }
            if found.nlink() != names {
                return Err(own_files::refused(disk, "has a second name somewhere"));
            }
            own_files::check_owner(disk, &found)
        };
        check(disk, 1)?;
        let target = self.root.join(name);
        fs::hard_link(disk, &target)?;
        // What was linked, which nobody can exchange any more.
        check(&target, 2)?;
        self.give(&target)
    }

    fn write(&self, name: &str, content: &str) -> io::Result<()> {
        let mut file = own_files::new_file(&self.root.join(name), 0o600)?;
        file.write_all(content.as_bytes())?;
        let id = self.user.get();
        fchown(&file, Some(id), Some(id))
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        let id = self.user.get();
        lchown(path, Some(id), Some(id))
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
        // The jail is the VMM's by now: it may have put something else there.
        let file = own_files::open_regular(&self.root.join(format!("{}.pid", self.program)))?;
        let mut text = String::new();
        file.take(PID_MAX).read_to_string(&mut text)?;
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

/// Makes the folders down to a jail's root, in a run directory that is ours alone. None may be there before:
/// whatever somebody planted in it, the jailer would follow, use or give away as root.
fn make_root(base: &Path, below: &Path) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    own_files::new_dir(&path)?;
    for name in below {
        path.push(name);
        own_files::new_dir(&path)?;
    }
    Ok(path)
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
    // No link is followed: it could lead to the jail of a VM that lives, which would be taken for a dead one's.
    let folders = |path: &Path| {
        let real = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        let entries = real.then(|| fs::read_dir(path)).into_iter().flatten().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let jails = folders(base).into_iter().flat_map(|program| folders(&program));
    let jails = jails.filter(|jail| fs::symlink_metadata(jail).is_ok_and(|found| found.is_dir()));
    let roots = jails.filter_map(|jail| fs::symlink_metadata(jail.join("root")).ok());
    roots.map(|root| (root.dev(), root.ino())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::kernel::InstalledKernel;
    use crate::own_files::planting::{ALL, expect_refusals};
    use crate::spec::{Disk, Vmm};

    const BELOW: &str = "firecracker/vm/root";

    #[test]
    fn what_is_planted_in_the_way_of_a_jail_is_not_followed() {
        let names = ["jail", "jail/firecracker", "jail/firecracker/vm", "jail/firecracker/vm/root"];
        let make = |dir: &Path| make_root(&dir.join(BASE), Path::new(BELOW)).map(drop);
        expect_refusals(&names, &ALL, make);
        let dir = tempfile::tempdir().unwrap();
        let root = make_root(&dir.path().join(BASE), Path::new(BELOW)).unwrap();
        assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(make(dir.path()).is_err(), "not even what we made before");
    }

    /// A jail in `dir`, with nothing in it yet.
    fn empty(dir: &Path) -> io::Result<Jail> {
        let base = dir.join(BASE);
        let root = base.join(BELOW);
        fs::create_dir_all(&root)?;
        let user = UserId::take_from(&dir.join("users"), 1_861_000_000..1_861_000_010)?;
        Ok(Jail { base, root, program: "firecracker".into(), user })
    }

    /// All that a VM needs, in `dir`.
    fn spec(dir: &Path) -> io::Result<VmSpec> {
        let files = dir.join("files");
        fs::create_dir_all(&files)?;
        for name in ["kernel", "initramfs", "scratch", "image"] {
            if fs::symlink_metadata(files.join(name)).is_err() {
                fs::write(files.join(name), name)?;
            }
        }
        let disk = |name: &str, read_only| {
            let path = files.join(name);
            Disk { path, read_only, serial: name.into() }
        };
        let kernel = InstalledKernel {
            vmlinux: files.join("kernel"),
            initramfs: files.join("initramfs"),
            version: String::new(),
            origin: String::new(),
        };
        let vmm = Vmm::Firecracker { binary: PathBuf::new(), jailer: PathBuf::new() };
        let disks = vec![disk("scratch", false), disk("image", true)];
        Ok(VmSpec { disks, ..VmSpec::new("vm", &kernel, vmm) })
    }

    fn needs_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("skipped: only root can give files to another user");
        }
        root
    }

    #[test]
    fn what_is_planted_inside_a_jail_is_not_followed_either() {
        if !needs_root() {
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let attempt = move |dir: &Path| {
            let jail = empty(dir)?;
            jail.fill(&spec(dir)?)?;
            let _runtime = handle.enter();
            jail.listen().map(drop)
        };
        let sockets = [CONTROL_VSOCK_PORT, BULK_VSOCK_PORT].map(|port| format!("{VSOCK}_{port}"));
        let names =
            [KERNEL, INITRAMFS, "disk0", "disk1", CONFIG, PROCESSOR, &sockets[0], &sockets[1]];
        let places = names.map(|name| format!("{BASE}/{BELOW}/{name}"));
        expect_refusals(&places.each_ref().map(String::as_str), &ALL, attempt.clone());

        let dir = tempfile::tempdir().unwrap();
        attempt(dir.path()).unwrap();
        for name in names {
            let found = fs::symlink_metadata(dir.path().join(BASE).join(BELOW).join(name)).unwrap();
            let theirs = ![KERNEL, INITRAMFS, "disk1"].contains(&name);
            assert_eq!(found.uid() >= 1_861_000_000, theirs, "{name}");
        }
    }

    #[test]
    fn what_is_planted_in_place_of_a_disk_is_not_given_away() {
        if !needs_root() {
            return;
        }
        let hand_over = |dir: &Path| empty(dir)?.hand_over(&dir.join("scratch"), "disk0");
        expect_refusals(&["scratch"], &ALL, hand_over);
    }

    #[test]
    fn a_link_does_not_make_a_secret_readable() {
        if !needs_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (secret, image) = (dir.path().join("secret"), dir.path().join("image"));
        fs::write(&secret, "secret").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &image).unwrap();
        let jail = empty(dir.path()).unwrap();
        let error = jail.share(&image, "disk1").unwrap_err().to_string();
        assert!(error.contains("is a link to what others may not read"), "{error}");
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
        jail.share(&secret, "disk2").unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o604, "one of ours by its name");
    }

    #[test]
    fn a_vmm_that_replaces_its_process_id_does_not_stop_us() {
        if !needs_root() {
            return;
        }
        let find = |dir: &Path| empty(dir)?.find_process().map(drop);
        expect_refusals(&[&format!("{BASE}/{BELOW}/firecracker.pid")], &ALL, find);
        let dir = tempfile::tempdir().unwrap();
        let jail = empty(dir.path()).unwrap();
        // Ours is not in the jail.
        let file = jail.root.join("firecracker.pid");
        fs::write(&file, std::process::id().to_string()).unwrap();
        assert!(jail.find_process().unwrap_err().to_string().contains("ended at once"));
        fs::write(&file, "1".repeat(100)).unwrap();
        assert!(jail.find_process().is_err());
    }
}
