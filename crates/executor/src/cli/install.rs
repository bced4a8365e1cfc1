//! `executor install`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Subcommand;
use executor::config::{ProcessEnvironment, kernel_dir, programs_dir};
use microvm::firecracker::download::mebibytes;
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
                let runtime = runtime().context("cannot start threads")?;
                let mut shown = Shown::new(std::io::stderr().is_terminal());
                let mut progress = |come, total| {
                    if let Some(text) = shown.text(come, total, Instant::now()) {
                        eprint!("{text}");
                    }
                };
                let done = runtime.block_on(firecracker::download(releases, &dir, &mut progress));
                eprint!("{}", shown.end());
                done?;
            }
        }
    }
    println!("{}: Firecracker {RELEASE} and its jailer in {}", state(changed), dir.display());
    Ok(())
}

fn state(changed: bool) -> &'static str {
    if changed { "installed" } else { "already installed" }
}

/// The progress of a download for people: one line that changes on a terminal, a few lines elsewhere.
struct Shown {
    terminal: bool,
    /// When there is something to show again.
    next: Option<Instant>,
    last: String,
    /// Whether [`Self::last`] is what people see.
    is_shown: bool,
}

impl Shown {
    fn new(terminal: bool) -> Self {
        Self { terminal, next: None, last: String::new(), is_shown: true }
    }

    /// What to print, if anything, when so many bytes have come.
    fn text(&mut self, come: u64, total: Option<u64>, now: Instant) -> Option<String> {
        let goes_on = self.next.is_none() && come > 0;
        self.last = match total {
            Some(total) => format!("{} of {}", mebibytes(come), mebibytes(total)),
            None => mebibytes(come),
        };
        self.is_shown = self.next.is_none_or(|next| now >= next);
        if !self.is_shown {
            return None;
        }
        let pause =
            if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        self.next = Some(now + pause);
        Some(match (goes_on, self.terminal) {
            (true, _) => format!("going on after {}\n", self.last),
            (false, true) => format!("\r{}\x1b[K", self.last),
            (false, false) => format!("{}\n", self.last),
        })
    }

    /// What to print in the end.
    fn end(self) -> String {
        match (self.next, self.terminal, self.is_shown) {
            (None, ..) | (_, false, true) => String::new(),
            (_, true, _) => format!("\r{}\x1b[K\n", self.last),
            (_, false, false) => format!("{}\n", self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line_on_a_terminal_and_a_few_elsewhere() {
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        let total = Some(10 << 20);
        let mut shown = Shown::new(true);
        assert_eq!(shown.text(0, total, begin).unwrap(), "\r0.0 MiB of 10.0 MiB\x1b[K");
        assert_eq!(shown.text(1 << 20, total, after(100)), None);
        assert_eq!(shown.text(2 << 20, None, after(200)).unwrap(), "\r2.0 MiB\x1b[K");
        assert_eq!(shown.text(10 << 20, total, after(201)), None);
        assert_eq!(shown.end(), "\r10.0 MiB of 10.0 MiB\x1b[K\n");

        let mut shown = Shown::new(false);
        let text = shown.text(3 << 19, total, begin).unwrap();
        assert_eq!(text, "going on after 1.5 MiB of 10.0 MiB\n");
        assert_eq!(shown.text(2 << 20, total, after(9_999)), None);
        assert_eq!(shown.text(3 << 20, total, after(10_000)).unwrap(), "3.0 MiB of 10.0 MiB\n");
        assert_eq!(shown.text(10 << 20, total, after(10_001)), None);
        assert_eq!(shown.end(), "10.0 MiB of 10.0 MiB\n");
        assert_eq!(Shown::new(true).end(), "", "nothing came");
    }
}
