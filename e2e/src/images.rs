//! What every virtual machine in the tests needs, prepared once per machine: a kernel and a tiny image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program::{binary, run, run_command};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e/ is in the root")
}

/// The root file system of the image `images/<name>`, as a tar.
pub fn tar(name: &str) -> PathBuf {
    run(repository().join("images/build"), &[name]).trim().into()
}

/// The folder with kernel and initramfs (`EXECUTOR_KERNEL_DIR`), made by `executor install vm-image`.
pub fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let programs = binary("executor").parent().expect("it is in a folder").to_owned();
        let folder = programs.join("e2e-kernel");
        let mut install = Command::new(binary("executor"));
        install.args(["install", "vm-image"]).env("EXECUTOR_KERNEL_DIR", &folder);
        run_command(install.env("EXECUTOR_STATE_DIR", &folder));
        folder
    })
}
