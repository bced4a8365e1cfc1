//! The end of the VM.

use nix::sys::reboot::{RebootMode, reboot};

/// Powers off at once: the scratch disk ends with the VM, so writing it out would only take time, and
/// might not end when the disk is slow or gone. Never returns.
pub fn off() -> ! {
    // On success it does not return. If the kernel refuses there is nobody left to tell; leaving PID 1
    // panics the kernel, which ends the VM as well.
    let refused = reboot(RebootMode::RB_POWER_OFF);
    println!("guest: power-off refused: {refused:?}");
    std::process::abort()
}
