//! `executor install`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use executor::config::{ProcessEnvironment, kernel_dir};
use microvm::kernel::{self, KernelSource};

#[derive(Subcommand)]
pub enum What {
    /// Prepare the kernel and initramfs of microVMs. A second run changes nothing.
    VmImage {
        /// Folder with a linux-image-*-cloud-amd64 package, for machines without internet.
        #[arg(long, value_name = "DIR", conflicts_with = "kernel")]
        from: Option<PathBuf>,
        /// Your own kernel, vmlinuz or vmlinux.
        #[arg(long, value_name = "FILE")]
        kernel: Option<PathBuf>,
        /// Folder with the modules of your own kernel.
        #[arg(long, value_name = "DIR", requires = "kernel")]
        modules: Option<PathBuf>,
    },
}

/// Installs.
///
/// # Errors
/// What is missing, with the fix.
pub fn run(what: What) -> anyhow::Result<ExitCode> {
    let What::VmImage { from, kernel, modules } = what;
    let source = match (from, kernel) {
        (Some(dir), _) => KernelSource::Directory(dir),
        (None, Some(kernel)) => KernelSource::Files { kernel, modules },
        (None, None) => KernelSource::DebianPackage,
    };
    let dir = kernel_dir(&ProcessEnvironment);
    let installation = kernel::install(&dir, &source, &mut |step| eprintln!("{step}"))?;
    let state = if installation.changed { "installed" } else { "already installed" };
    println!(
        "{state}: kernel {} ({}) in {}",
        installation.kernel.version,
        installation.kernel.origin,
        dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
