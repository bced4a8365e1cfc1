//! `executor install`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use executor::config::{ProcessEnvironment, kernel_dir, programs_dir};
use microvm::firecracker::install::{self as firecracker, RELEASE, RELEASES};
use microvm::kernel::{self, KernelSource};

use super::runtime;

#[derive(Subcommand)]
pub enum What {
    /// Everything: the kernel of microVMs and Firecracker. What is there already stays as it is.
    All {
        /// Folder with the packages of both, for machines without internet.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Put Firecracker and its jailer into the state directory. A second run changes nothing.
    Firecracker {
        /// Folder with the release's archive and its .sha256.txt, for machines without internet.
        #[arg(long, value_name = "DIR", conflicts_with = "url")]
        from: Option<PathBuf>,
        /// Where releases are downloaded from, for example a mirror.
        #[arg(long, value_name = "URL", default_value = RELEASES)]
        url: String,
    },
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
    /// Nothing to do: networks are made job by job. Known from other executors; checks what they need.
    #[command(name = "iptables-rules")]
    IptablesRules,
    /// Nothing to do: `src` steps run in the image EXECUTOR_SRC_CLI_IMAGE. Known from other executors.
    #[command(name = "src-cli")]
    SrcCli,
}

/// Installs.
///
/// # Errors
/// What is missing, with the fix.
pub fn run(what: What) -> anyhow::Result<ExitCode> {
    match what {
        What::All { from } => {
            vm_image(from.clone().map_or(KernelSource::DebianPackage, KernelSource::Directory))?;
            install_firecracker(from.as_deref(), RELEASES)?;
        }
        What::Firecracker { from, url } => install_firecracker(from.as_deref(), &url)?,
        What::VmImage { from, kernel, modules } => vm_image(match (from, kernel) {
            (Some(dir), _) => KernelSource::Directory(dir),
            (None, Some(kernel)) => KernelSource::Files { kernel, modules },
            (None, None) => KernelSource::DebianPackage,
        })?,
        What::IptablesRules => {
            for program in ["ip", "nft"] {
                let version = std::process::Command::new(program).arg("-V").output();
                version.with_context(|| {
                    format!("{program} cannot be run: install iproute2 and nftables")
                })?;
            }
            println!("nothing to install: each job's network is made with it and removed with it");
        }
        What::SrcCli => {
            println!(
                "nothing to install: set EXECUTOR_SRC_CLI_IMAGE to an image with the src program"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn vm_image(source: KernelSource) -> anyhow::Result<()> {
    let dir = kernel_dir(&ProcessEnvironment);
    let installation = kernel::install(&dir, &source, &mut |step| eprintln!("{step}"))?;
    println!(
        "{}: kernel {} ({}) in {}",
        state(installation.changed),
        installation.kernel.version,
        installation.kernel.origin,
        dir.display()
    );
    Ok(())
}

fn install_firecracker(from: Option<&Path>, releases: &str) -> anyhow::Result<()> {
    let dir = programs_dir(&ProcessEnvironment);
    let changed = !firecracker::is_installed(&dir);
    if changed {
        match from {
            Some(from) => firecracker::from_folder(from, &dir)?,
            None => {
                eprintln!("downloading {} from {releases}", firecracker::archive_name());
                let download = firecracker::download(releases, &dir);
                runtime().context("cannot start threads")?.block_on(download)?;
            }
        }
    }
    println!("{}: Firecracker {RELEASE} and its jailer in {}", state(changed), dir.display());
    Ok(())
}

fn state(changed: bool) -> &'static str {
    if changed { "installed" } else { "already installed" }
}
