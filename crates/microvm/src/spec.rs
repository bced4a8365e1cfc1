//! What a microVM is made of: plain data, checked before anything is started.

use std::path::PathBuf;
use std::time::Duration;

/// Longest serial of a virtio disk, in bytes (virtio 1.2 §5.2.6.1).
pub const SERIAL_MAX: usize = 20;
/// Disks that fit on QEMU's `microvm` machine besides its other devices.
pub const DISKS_MAX: usize = 18;

/// A microVM to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSpec {
    /// Unique on this host; letters, digits, `-`, `_`; shown in process lists.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Uncompressed ELF kernel; see [`crate::kernel`].
    pub kernel: PathBuf,
    /// Initramfs whose `/init` is our guest; see [`crate::kernel`].
    pub initramfs: PathBuf,
    /// Disks in order; the guest finds them by serial.
    pub disks: Vec<Disk>,
    /// Everything that this VM leaves on the host is in here. Made by boot with mode 0700 if missing,
    /// removed by [`crate::Vm::destroy`]. See [`crate::RunDirs`].
    pub run_dir: PathBuf,
    /// Its network; `None` = no network card at all.
    pub nic: Option<Nic>,
    /// The program that runs it.
    pub vmm: Vmm,
    /// Limits of the VMM process on the host. QEMU is started without them where there are no cgroups, or no root.
    pub host_limits: HostLimits,
    /// More kernel arguments, for tests and diagnosis.
    pub kernel_args: Vec<String>,
    /// A guest that does not answer for this long counts as crashed.
    pub silence_limit: Duration,
}

/// A disk of a microVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A raw image on the host.
    pub path: PathBuf,
    /// The guest cannot write to it, whatever it does.
    pub read_only: bool,
    /// How the guest finds it: 1 to [`SERIAL_MAX`] bytes of letters, digits, `-`, `_`.
    pub serial: String,
}

/// The network card of a microVM: the other end of the TAP in a [`crate::net::Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Network namespace that holds the TAP; the VMM runs in it.
    pub namespace: String,
    /// Most bytes per second towards the guest, where the VMM can limit them.
    pub ingress: Option<u64>,
    /// Most bytes per second from the guest, where the VMM can limit them.
    pub egress: Option<u64>,
}

/// The program that runs a microVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// `qemu-system-x86_64 -M microvm`.
    Qemu {
        /// The program.
        binary: PathBuf,
        /// How it executes guest code.
        accel: Accel,
    },
    /// Firecracker in the jail of its jailer; needs root and KVM.
    Firecracker {
        /// The program, an absolute path.
        binary: PathBuf,
        /// Its jailer of the same version, an absolute path.
        jailer: PathBuf,
    },
}

/// How guest code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accel {
    /// By the processor, through `/dev/kvm`.
    Kvm,
    /// By software emulation.
    Tcg,
}

impl Accel {
    /// QEMU's name for it, also shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Limits of the VMM process itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Memory of the VMM above the guest's own, in MiB; `None` = no limit.
    pub memory_overhead_mib: Option<u64>,
    /// CPU time in percent of one CPU; `None` = no limit.
    pub cpu_percent: Option<u32>,
    /// Threads of the VMM; `None` = no limit.
    pub tasks: Option<u32>,
}

/// What is wrong with a [`VmSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the microVM: {problem}")]
pub struct SpecError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl VmSpec {
    /// A spec with defaults for all but what every VM must state.
    pub fn new(name: impl Into<String>, kernel: &crate::kernel::InstalledKernel, vmm: Vmm) -> Self {
        Self {
            name: name.into(),
            vcpus: 1,
            memory_mib: 512,
            kernel: kernel.vmlinux.clone(),
            initramfs: kernel.initramfs.clone(),
            disks: Vec::new(),
            run_dir: PathBuf::new(),
            nic: None,
            vmm,
            host_limits: HostLimits::default(),
            kernel_args: Vec::new(),
            silence_limit: Duration::from_secs(30),
        }
    }

    /// Refuses what no VMM could run, or what could be read as something else on its command line.
    ///
    /// # Errors
    /// [`SpecError`] for the first field that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |field, problem: &str| Err(SpecError { field, problem: problem.to_owned() });
        if !is_plain(&self.name, 64) {
            return wrong("name", "must be 1 to 64 letters, digits, `-` or `_`");
        }
        if matches!(self.vmm, Vmm::Firecracker { .. }) && self.name.contains('_') {
            return wrong("name", "must have no `_` under Firecracker");
        }
        if !(1..=64).contains(&self.vcpus) {
            return wrong("vcpus", "must be 1 to 64");
        }
        if self.memory_mib < 128 {
            return wrong("memory_mib", "must be at least 128");
        }
        if self.disks.len() > DISKS_MAX {
            return Err(SpecError {
                field: "disks",
                problem: format!("{} given, at most {DISKS_MAX} fit", self.disks.len()),
            });
        }
        for (index, disk) in self.disks.iter().enumerate() {
            if !is_plain(&disk.serial, SERIAL_MAX) {
                return wrong("disks", "serials must be 1 to 20 letters, digits, `-` or `_`");
            }
            if self.disks[..index].iter().any(|other| other.serial == disk.serial) {
                return wrong("disks", "serials must differ");
            }
        }
        if self.nic.as_ref().is_some_and(|nic| !is_plain(&nic.namespace, 255)) {
            return wrong("nic", "the namespace must be 1 to 255 letters, digits, `-` or `_`");
        }
        let plain_arg = |arg: &String| arg.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.kernel_args.iter().all(plain_arg) {
            return wrong("kernel_args", "must be printable without spaces");
        }
        if !self.run_dir.is_absolute() {
            return wrong("run_dir", "must be an absolute path");
        }
        Ok(())
    }
}

fn is_plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
