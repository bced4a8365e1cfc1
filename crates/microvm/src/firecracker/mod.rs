//! A [`VmSpec`] as Firecracker's configuration and its jailer's command line. Pure; snapshots of both are in
//! `tests`. What is done with them is in [`jail`].

pub mod download;
pub mod install;
pub(crate) mod jail;
mod user_ids;
pub mod version;

use std::ffi::OsString;
use std::path::Path;

use guest_wire::{CHANNEL_ARGUMENT, DISKS_ARGUMENT};
use serde_json::{Value, json};

use crate::cgroup::{self, Hierarchy};
use crate::kernel_args;
use crate::net::{GUEST_MAC, TAP};
use crate::spec::{Nic, VmSpec};

/// Names inside the jail, whose root is the VMM's working directory.
const CONFIG: &str = "config.json";
const PROCESSOR: &str = "processor.json";
const KERNEL: &str = "vmlinux";
const INITRAMFS: &str = "initramfs";
const VSOCK: &str = "vsock";
/// Address of the guest on its vsock; each VM has a vsock of its own.
const GUEST_CID: u32 = 3;
/// Refilled so often that a limited card does not stutter.
const REFILL_MS: u64 = 100;

/// The whole configuration of the VM (`--config-file`), with paths as seen from inside the jail.
fn config(spec: &VmSpec) -> Value {
    let drives: Vec<Value> = spec
        .disks
        .iter()
        .enumerate()
        .map(|(index, disk)| {
            json!({
                "drive_id": format!("disk{index}"),
                "path_on_host": drive_name(index),
                "is_root_device": false,
                "is_read_only": disk.read_only,
                // Nothing needs to survive the host's crash.
                "cache_type": "Unsafe",
            })
        })
        .collect();
    let mut config = json!({
        "boot-source": {
            "kernel_image_path": KERNEL,
            "initrd_path": INITRAMFS,
            "boot_args": boot_args(spec).join(" "),
        },
        "cpu-config": PROCESSOR,
        "machine-config": { "vcpu_count": spec.vcpus, "mem_size_mib": spec.memory_mib },
        "drives": drives,
        "vsock": { "guest_cid": GUEST_CID, "uds_path": VSOCK },
    });
    if let Some(nic) = &spec.nic {
        config["network-interfaces"] = json!([network_card(nic)]);
    }
    config
}

/// What the guest's processor differs in from the host's: it has no virtualisation, which is attack surface
/// that no job asked for. VMX is bit 5 of ECX of leaf 1 (Intel SDM 2A, CPUID), SVM bit 2 of ECX of leaf
/// 8000_0001h (AMD APM 3, E.4.2).
fn processor() -> Value {
    let clear_in_ecx = |leaf: &str, bit: usize| {
        let bits: String = (0..32).rev().map(|at| if at == bit { '0' } else { 'x' }).collect();
        let modifier = json!({ "register": "ecx", "bitmap": format!("0b{bits}") });
        json!({ "leaf": leaf, "subleaf": "0x0", "flags": 0, "modifiers": [modifier] })
    };
    json!({ "cpuid_modifiers": [clear_in_ecx("0x1", 5), clear_in_ecx("0x80000001", 2)] })
}

fn boot_args(spec: &VmSpec) -> Vec<String> {
    // The keyboard controller: the one reset that Firecracker has.
    let mut args = kernel_args::common("k");
    args.push("pci=off".to_owned());
    args.push(format!("{CHANNEL_ARGUMENT}vsock"));
    // Firecracker derives the serials of disks from their files: the guest goes by the order.
    let serials: Vec<&str> = spec.disks.iter().map(|disk| disk.serial.as_str()).collect();
    args.push(format!("{DISKS_ARGUMENT}{}", serials.join(",")));
    args.extend(spec.kernel_args.iter().cloned());
    args
}

fn network_card(nic: &Nic) -> Value {
    let mut card = json!({ "iface_id": "net", "host_dev_name": TAP, "guest_mac": GUEST_MAC });
    let limit = |bytes_per_second: u64| {
        let size = (bytes_per_second * REFILL_MS / 1000).max(1);
        json!({ "bandwidth": { "size": size, "refill_time": REFILL_MS } })
    };
    if let Some(ingress) = nic.ingress {
        card["rx_rate_limiter"] = limit(ingress);
    }
    if let Some(egress) = nic.egress {
        card["tx_rate_limiter"] = limit(egress);
    }
    card
}

fn drive_name(index: usize) -> String {
    format!("disk{index}")
}

/// Arguments of the jailer. `base` is where it builds its jails.
fn jailer_arguments(
    spec: &VmSpec,
    binary: &Path,
    base: &Path,
    user: u32,
    cgroups: &Hierarchy,
) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut pair = |flag: &str, value: OsString| arguments.extend([OsString::from(flag), value]);
    pair("--id", spec.name.clone().into());
    pair("--exec-file", binary.into());
    pair("--uid", user.to_string().into());
    pair("--gid", user.to_string().into());
    pair("--chroot-base-dir", base.into());
    if let Some(nic) = &spec.nic {
        pair("--netns", format!("/run/netns/{}", nic.namespace).into());
    }
    for (flag, value) in cgroup::jailer_arguments(cgroups, spec) {
        pair(flag, value.into());
    }
    arguments.push("--new-pid-ns".into());
    arguments
        .extend(["--", "--no-api", "--config-file", CONFIG, "--level", "Error"].map(Into::into));
    arguments
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::{Disk, HostLimits, Vmm};

    fn spec() -> VmSpec {
        VmSpec {
            name: "job-7".into(),
            vcpus: 2,
            memory_mib: 2048,
            kernel: "/lib/executor/kernel/vmlinux".into(),
            initramfs: "/lib/executor/kernel/initramfs".into(),
            disks: vec![
                Disk { path: "/run/scratch".into(), read_only: false, serial: "scratch".into() },
                Disk { path: "/images/a,b\"c".into(), read_only: true, serial: "image-0".into() },
            ],
            run_dir: "/run/vm".into(),
            nic: Some(Nic {
                namespace: "ns".into(),
                ingress: Some(524_288_000),
                egress: Some(1_000_000),
            }),
            vmm: Vmm::Firecracker {
                binary: "/bin/firecracker".into(),
                jailer: "/bin/jailer".into(),
            },
            host_limits: HostLimits {
                memory_overhead_mib: Some(256),
                cpu_percent: Some(250),
                tasks: Some(20),
            },
            kernel_args: vec!["extra=1".into()],
            silence_limit: Duration::from_secs(30),
        }
    }

    #[test]
    fn the_configuration() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&config(&spec())).unwrap());
        insta::assert_snapshot!("processor", serde_json::to_string_pretty(&processor()).unwrap());
    }

    fn command_line(spec: &VmSpec, cgroups: &Hierarchy) -> String {
        let base = Path::new("/run/vm/jail");
        let words = jailer_arguments(spec, Path::new("/bin/firecracker"), base, 7, cgroups);
        let mut lines = String::new();
        for word in words {
            let word = word.into_string().unwrap();
            lines.push_str(if word.starts_with('-') { "\n" } else { " " });
            lines.push_str(&word);
        }
        lines
    }

    #[test]
    fn the_jailer_under_both_kinds_of_cgroups() {
        let v1 = Hierarchy::V1 { controllers: vec!["/c/memory".into(), "/c/pids".into()] };
        let v2 = Hierarchy::V2 { root: "/sys/fs/cgroup".into() };
        insta::assert_snapshot!("v1", command_line(&spec(), &v1));
        insta::assert_snapshot!("v2", command_line(&spec(), &v2));
        assert!(!command_line(&spec(), &Hierarchy::None).contains("cgroup"));
        let unlimited = VmSpec { host_limits: HostLimits::default(), ..spec() };
        assert!(!command_line(&unlimited, &v2).contains("cgroup"));
    }
}
