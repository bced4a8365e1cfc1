//! A microVM for a test: `Machine::boot().await`, then `run("nproc").await`, as in a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use microvm::disk::ScratchDisks;
use microvm::guest_client::{ExecResult, Prepare};
use microvm::kernel::{self, InstalledKernel, KernelSource};
use microvm::{Accel, Disk, Exec, ExecSpec, GuestClient, Stdio, Vm, VmSpec, Vmm};

/// Emulation on a busy machine is slow; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A VM with two images (`one`, `two`) and a workspace over a read-only image.
pub struct Machine {
    pub vm: Vm,
    dir: tempfile::TempDir,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub result: ExecResult,
}

impl Machine {
    pub async fn boot() -> Self {
        Self::boot_with(|_| {}).await
    }

    /// Boots after `change` had its way with the spec.
    pub async fn boot_with(change: impl FnOnce(&mut VmSpec)) -> Self {
        let (dir, mut spec) = spec();
        change(&mut spec);
        let vm = Vm::boot(spec, Instant::now() + PATIENCE).await.unwrap();
        let prepare = Prepare {
            scratch: "scratch".into(),
            workspace: Some("repo".into()),
            images: vec!["one".into(), "two".into()],
            max_processes: 200,
            ..Prepare::default()
        };
        vm.guest().prepare(prepare).await.unwrap();
        Self { vm, dir }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn guest(&self) -> &GuestClient {
        self.vm.guest()
    }

    /// Runs a shell command in the image `one`, in the workspace.
    pub async fn run(&self, script: &str) -> Output {
        self.run_as(shell(script)).await
    }

    pub async fn run_as(&self, spec: ExecSpec) -> Output {
        finish(self.guest().exec(spec).await.unwrap()).await
    }
}

/// A shell command in the image `one`, in the workspace.
pub fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        image: "one".into(),
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        cwd: "/data".into(),
        ..ExecSpec::default()
    }
}

/// Reads everything and waits for the end.
pub async fn finish(mut exec: Exec) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = exec.next().await {
        match chunk.stdio {
            Stdio::Stdout => stdout.extend_from_slice(&chunk.data),
            Stdio::Stderr => stderr.extend_from_slice(&chunk.data),
        }
    }
    let result = exec.wait().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { stdout: text(stdout), stderr: text(stderr), result }
}

/// The VMM: the one process that works in the run directory.
pub fn vmm_in(run_dir: &Path) -> Option<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.find(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == run_dir))
}

/// The spec of a test VM, and the folder that holds its run directory.
pub fn spec() -> (tempfile::TempDir, VmSpec) {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let scratch = run_dir.join("scratch.ext4");
    let disks = ScratchDisks::open(&cache().join("disks")).unwrap();
    disks.create(&scratch, 256).unwrap();
    let read_only =
        |serial: &str, path: PathBuf| Disk { path, read_only: true, serial: serial.into() };
    let vmm = Vmm::Qemu { binary: "qemu-system-x86_64".into(), accel: Accel::Tcg };
    let spec = VmSpec {
        memory_mib: 256,
        disks: vec![
            Disk { path: scratch, read_only: false, serial: "scratch".into() },
            read_only(
                "repo",
                image("repo", |root| write(root, "committed/file.txt", "from the image\n")),
            ),
            read_only("one", image("one", |root| busybox(root, "one"))),
            read_only("two", image("two", |root| busybox(root, "two"))),
        ],
        run_dir,
        ..VmSpec::new("test", &kernel(), vmm)
    };
    (dir, spec)
}

/// Debian's kernel with this build's guest, prepared once.
pub fn kernel() -> InstalledKernel {
    static KERNEL: OnceLock<InstalledKernel> = OnceLock::new();
    let install = || {
        let dir = cache().join("kernel");
        kernel::install(&dir, &KernelSource::DebianPackage, &mut |_| {}).unwrap().kernel
    };
    KERNEL.get_or_init(install).clone()
}

pub fn cache() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-tests");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A squashfs image whose content `fill` writes, made once per run.
pub fn image(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = cache().join(format!("{name}-{}.squashfs", std::process::id()));
    if !path.exists() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path());
        let output = Command::new("mksquashfs")
            .arg(root.path())
            .arg(&path)
            .args([
                "-quiet",
                "-no-progress",
                "-all-root",
                "-comp",
                "zstd",
                "-Xcompression-level",
                "1",
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    path
}

/// A root file system with a shell, users, and its name in a file.
fn busybox(root: &Path, name: &str) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("package busybox-static");
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::create_dir(root.join("tmp")).unwrap();
    write(root, "etc/name", name);
    write(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n");
    write(root, "etc/group", "root:x:0:\nann:x:1000:\nbuild:x:42:ann\n");
    // A trap: the agent must replace it, not write through it.
    std::os::unix::fs::symlink("/etc/name", root.join("etc/resolv.conf")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
