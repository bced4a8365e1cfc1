//! A machine with KVM where there is none: QEMU emulates a processor with AMD-V, and Debian's kernel in it has
//! a `/dev/kvm` under which guests really run, slowly. Firecracker is tested in there.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::images;
use crate::program::{Program, binary, run_command};
use crate::wait::until;

/// Where the box sees this machine's loopback address.
pub const HOST: &str = "10.0.2.2";
/// The folder of the programs in the box; `vm-image` beside them holds kernel and initramfs of the guests.
pub const PROGRAMS: &str = "/usr/local/bin";
/// See [`PROGRAMS`].
pub const VM_IMAGE: &str = "/opt/vm-image";

const BOOT: Duration = Duration::from_secs(180);
const COMMAND: Duration = Duration::from_secs(60);

/// Firecracker and its jailer, which are given to the tests by `FIRECRACKER_BIN` and `JAILER_BIN`.
pub struct Firecracker {
    firecracker: PathBuf,
    jailer: PathBuf,
}

impl Firecracker {
    /// `None`, with a word about it, if they are not given.
    pub fn given() -> Option<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        let (Some(firecracker), Some(jailer)) = (path("FIRECRACKER_BIN"), path("JAILER_BIN"))
        else {
            eprintln!(
                "SKIPPED: FIRECRACKER_BIN and JAILER_BIN do not name a static Firecracker and its jailer"
            );
            return None;
        };
        Some(Self { firecracker, jailer })
    }
}

/// The running box.
pub struct KvmBox {
    _machine: Program,
    shell: Mutex<BufReader<UnixStream>>,
}

impl KvmBox {
    /// Boots one with the executor, Firecracker, and the guests' kernel in it.
    pub async fn boot(folder: &Path, programs: &Firecracker) -> Self {
        let dir = folder.join("box");
        std::fs::create_dir(&dir).expect("the test's folder is writable");
        run_command(Command::new("tar").arg("-xf").arg(images::tar("kvm-box")).arg("-C").arg(&dir));
        add_files(&dir, programs);
        let socket = dir.join("shell");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,+svm,+npt",
            "-smp",
            "2",
        ])
        .args(["-m", "3072", "-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-kernel")
        .arg(dir.join("vmlinuz"))
        .arg("-initrd")
        .arg(dir.join("root.cpio"))
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init"])
        .args(["-serial", "stdio", "-device", "virtio-serial-pci"])
        .args(["-device", "virtserialport,chardev=shell", "-chardev"])
        .arg(format!("socket,id=shell,path={},server=on,wait=off", socket.display()))
        .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        let machine = Program::start("box", qemu, folder);
        until("the box is ready", BOOT, async || {
            machine.log().contains("box: ready").then_some(())
        })
        .await;
        let shell = UnixStream::connect(&socket).expect("QEMU listens");
        shell.set_read_timeout(Some(COMMAND)).expect("it is a socket");
        Self { _machine: machine, shell: Mutex::new(BufReader::new(shell)) }
    }

    /// Runs a shell command in the box: its exit code and what it printed.
    pub fn try_run(&self, command: &str) -> (i32, String) {
        let mut shell = self.shell.lock().expect("no command panicked");
        let line = format!("{{ {command}\n}} </dev/null 2>&1; echo; echo \"@@ $?\"\n");
        // The exit code is that of the group, not of the empty echo before it.
        let line = line.replace("; echo; echo \"@@ $?\"", "; code=$?; echo; echo \"@@ $code\"");
        shell.get_mut().write_all(line.as_bytes()).expect("the box runs");
        let mut output = String::new();
        loop {
            let mut line = String::new();
            let length = shell.read_line(&mut line).expect("the command ends in time");
            assert!(length > 0, "the box ended:\n{output}");
            if let Some(code) = line.strip_prefix("@@ ") {
                let code = code.trim().parse().expect("a shell counts in numbers");
                return (code, output.trim().to_owned());
            }
            output += &line;
        }
    }

    /// [`Self::try_run`] for a command that must succeed.
    pub fn run(&self, command: &str) -> String {
        let (code, output) = self.try_run(command);
        assert_eq!(code, 0, "{command}:\n{output}");
        output
    }
}

/// Appends a second archive to the box's root: kernels unpack one after the other.
fn add_files(dir: &Path, programs: &Firecracker) {
    let files = dir.join("files");
    let bin = files.join(PROGRAMS.trim_start_matches('/'));
    std::fs::create_dir_all(&bin).expect("the test's folder is writable");
    for (name, path) in [
        ("executor", binary("executor")),
        ("firecracker", programs.firecracker.clone()),
        ("jailer", programs.jailer.clone()),
    ] {
        run_command(Command::new("strip").arg("-o").arg(bin.join(name)).arg(path));
    }
    let image = files.join(VM_IMAGE.trim_start_matches('/'));
    std::fs::create_dir_all(image.parent().expect("it is in a folder")).expect("it is writable");
    run_command(Command::new("cp").arg("-a").arg(images::kernel()).arg(&image));
    let root = File::options().append(true).open(dir.join("root.cpio")).expect("it was unpacked");
    let mut archive = Command::new("sh");
    archive.args(["-c", "find . | cpio --quiet --create --format=newc"]).current_dir(&files);
    let status = archive.stdout(Stdio::from(root)).status().expect("sh and cpio are installed");
    assert!(status.success(), "cpio ended with {status}");
}
