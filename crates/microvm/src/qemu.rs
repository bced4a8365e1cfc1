//! A [`VmSpec`] as a QEMU command line. Pure; snapshots of it are in `tests`.

use std::ffi::OsString;
use std::path::Path;

use guest_wire::{BULK_PORT, BULK_SOCKET, CONTROL_PORT, CONTROL_SOCKET};
use serde_json::json;

use crate::kernel_args;
use crate::net::{GUEST_MAC, TAP};
use crate::spec::{Accel, Disk, VmSpec};

/// QEMU's own events. As the other sockets it is in the run directory, which is QEMU's working directory: their
/// paths may be of any length.
pub const QMP_SOCKET: &str = "qmp.sock";

/// Frequency of the host's time stamp counter, in kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscKhz(pub u64);

/// Arguments of `qemu-system-x86_64`. `tsc` is needed under software emulation only, where the guest
/// sees the host's counter, and finding out its frequency by itself fails on a busy host.
pub fn arguments(spec: &VmSpec, accel: Accel, tsc: Option<TscKhz>) -> Vec<OsString> {
    let mut out = Arguments::default();
    out.pair("-name", format!("guest={}", spec.name));
    machine(spec, accel, &mut out);
    confinement(&mut out);
    boot(spec, tsc, &mut out);
    channels(&mut out);
    for (index, disk) in spec.disks.iter().enumerate() {
        block_device(index, disk, &mut out);
    }
    if spec.nic.is_some() {
        network_card(&mut out);
    }
    out.0
}

fn machine(spec: &VmSpec, accel: Accel, out: &mut Arguments) {
    // The kernel of distributions has no virtio-mmio devices by command line, hence ACPI.
    out.pair("-machine", "microvm,acpi=on");
    match accel {
        Accel::Kvm => {
            out.pair("-accel", "kvm");
            // No virtualisation inside: it is attack surface that no job asked for.
            out.pair("-cpu", "host,-vmx,-svm");
        }
        Accel::Tcg => {
            // Caps the cache of translated code, which would otherwise take up to 1 GiB.
            out.pair("-accel", "tcg,tb-size=256");
            out.pair("-cpu", "max,-vmx,-svm");
        }
    }
    out.pair("-smp", spec.vcpus.to_string());
    out.pair("-m", format!("{}M", spec.memory_mib));
}

fn confinement(out: &mut Arguments) {
    out.flag("-nodefaults");
    out.flag("-no-user-config");
    // A guest that resets ends, so that panics (`panic=-1`) are seen at once.
    out.flag("-no-reboot");
    out.pair("-display", "none");
    out.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

fn boot(spec: &VmSpec, tsc: Option<TscKhz>, out: &mut Arguments) {
    out.path("-kernel", &spec.kernel);
    out.path("-initrd", &spec.initramfs);
    // Triple fault: works on every machine type and takes no time.
    let mut kernel = kernel_args::common("t");
    if let Some(TscKhz(khz)) = tsc {
        kernel.push(format!("tsc_early_khz={khz}"));
        kernel.push("tsc=reliable".to_owned());
    }
    kernel.extend(spec.kernel_args.iter().cloned());
    out.pair("-append", kernel.join(" "));
}

fn channels(out: &mut Arguments) {
    out.pair("-chardev", "stdio,id=console,signal=off");
    out.pair("-serial", "chardev:console");
    out.pair("-chardev", format!("socket,id=qmp,path={QMP_SOCKET}"));
    out.pair("-mon", "chardev=qmp,mode=control");
    out.pair("-device", "virtio-serial-device,id=ports,max_ports=4");
    let ports = [("control", CONTROL_SOCKET, CONTROL_PORT), ("bulk", BULK_SOCKET, BULK_PORT)];
    for (number, (id, socket, name)) in (1..).zip(ports) {
        out.pair("-chardev", format!("socket,id={id},path={socket}"));
        let port = format!("virtserialport,bus=ports.0,nr={number},chardev={id},name={name}");
        out.pair("-device", port);
    }
}

/// As JSON: paths may hold commas.
fn block_device(index: usize, disk: &Disk, out: &mut Arguments) {
    let node = format!("disk{index}");
    let mut block = json!({
        "driver": "raw",
        "node-name": node,
        "read-only": disk.read_only,
        "file": { "driver": "file", "filename": disk.path, "read-only": disk.read_only },
    });
    if !disk.read_only {
        // What is freed in the guest is freed on the host; nothing needs to survive the host's crash.
        block["discard"] = json!("unmap");
        block["cache"] = json!({ "no-flush": true });
        block["file"]["discard"] = json!("unmap");
        block["file"]["cache"] = json!({ "no-flush": true });
    }
    out.pair("-blockdev", block.to_string());
    let device = json!({ "driver": "virtio-blk-device", "drive": node, "serial": disk.serial });
    out.pair("-device", device.to_string());
}

/// The TAP is there already, with our rules; QEMU runs in its namespace and makes nothing.
fn network_card(out: &mut Arguments) {
    out.pair("-netdev", format!("tap,id=net,ifname={TAP},script=no,downscript=no"));
    out.pair("-device", format!("virtio-net-device,netdev=net,mac={GUEST_MAC}"));
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.flag(flag);
        self.0.push(value.into());
    }

    fn path(&mut self, flag: &str, path: &Path) {
        self.pair(flag, path);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::{HostLimits, Nic, Vmm};

    fn spec(accel: Accel) -> VmSpec {
        VmSpec {
            name: "job-7".into(),
            vcpus: 2,
            memory_mib: 2048,
            kernel: "/lib/executor/kernel/vmlinux".into(),
            initramfs: "/lib/executor/kernel/initramfs".into(),
            disks: vec![
                Disk { path: "/run/scratch".into(), read_only: false, serial: "scratch".into() },
                Disk { path: "/images/a,b\"c".into(), read_only: true, serial: "image0".into() },
            ],
            run_dir: "/run/vm".into(),
            nic: Some(Nic { namespace: "ns".into(), ingress: None, egress: None }),
            vmm: Vmm::Qemu { binary: "qemu-system-x86_64".into(), accel },
            host_limits: HostLimits::default(),
            kernel_args: vec!["extra=1".into()],
            silence_limit: Duration::from_secs(30),
        }
    }

    fn lines(accel: Accel, tsc: Option<TscKhz>) -> String {
        let text =
            arguments(&spec(accel), accel, tsc).into_iter().map(|word| word.into_string().unwrap());
        let mut lines = String::new();
        for word in text {
            lines.push_str(if word.starts_with('-') { "\n" } else { " " });
            lines.push_str(&word);
        }
        lines
    }

    #[test]
    fn under_kvm() {
        insta::assert_snapshot!(lines(Accel::Kvm, None));
    }

    #[test]
    fn under_emulation() {
        insta::assert_snapshot!(lines(Accel::Tcg, Some(TscKhz(2_500_000))));
    }
}
