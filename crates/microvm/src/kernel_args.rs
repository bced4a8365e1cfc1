//! Arguments of the guest's kernel that every VMM gives it.

/// Without those that are about channels and disks. `reboot` is how the kernel resets the machine
/// (admin-guide/kernel-parameters).
pub fn common(reboot: &str) -> Vec<String> {
    vec![
        "console=ttyS0".to_owned(),
        "quiet".to_owned(),
        format!("reboot={reboot}"),
        "panic=-1".to_owned(),
        // Not one of 32 ports that are not there.
        "8250.nr_uarts=1".to_owned(),
        // The emulated timer is fine; on a busy host the check says otherwise and panics.
        "no_timer_check".to_owned(),
        // Short waits for grace periods: nothing here is battery powered.
        "rcupdate.rcu_expedited=1".to_owned(),
        "cryptomgr.notests".to_owned(),
        // Tracing of kernel probes and the self-test of a key derivation, which nothing here uses, take a
        // tenth of the boot under emulation. Kernels without them ignore the names.
        "initcall_blacklist=init_kprobe_trace,crypto_kdf108_init".to_owned(),
    ]
}
