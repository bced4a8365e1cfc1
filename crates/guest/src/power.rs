//! The end of the VM.

use nix::sys::reboot::{RebootMode, reboot};

/// Writes file systems out and powers off. Never returns.
pub fn off() -> ! {
    nix::unistd::sync();
    // On success it does not return. If the kernel refuses there is nobody left to tell; leaving PID 1
    // panics the kernel, which ends the VM as well.
    let refused = reboot(RebootMode::RB_POWER_OFF);
    println!("guest: power-off refused: {refused:?}");
    std::process::exit(1)
}
