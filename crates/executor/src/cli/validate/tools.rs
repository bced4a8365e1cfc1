//! Programs that are run.

use std::path::Path;
use std::time::Duration;

use executor::config::{Config, RuntimeChoice};
use executor::telemetry;
use tokio::process::Command;

use super::{Check, Finding, check};

/// A program that does not answer a question for its version is broken.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![
        check("git", git().await),
        check("mksquashfs", program(Path::new("mksquashfs"), "-version", "squashfs-tools").await),
        check(
            "sqfstar",
            program(Path::new("sqfstar"), "-version", "squashfs-tools 4.5 or later").await,
        ),
    ];
    if config.runtime != RuntimeChoice::Docker {
        let found = program(Path::new("mkfs.ext4"), "-V", "e2fsprogs").await;
        checks.push(check("mkfs.ext4", found));
    }
    checks
}

/// QEMU, for machines that run it.
pub(super) async fn qemu(config: &Config) -> Check {
    check("qemu", program(&config.qemu.binary, "--version", "qemu-system-x86").await)
}

async fn git() -> Finding {
    let Some(version) = telemetry::git_version().await else {
        return Finding::error("git cannot be run", "install git 2.31 or later");
    };
    let mut numbers = version.split(['.', ' ']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Settings through the environment, by which git gets credentials, came with 2.31.
    if found < (2, 31) {
        return Finding::error(
            format!("version {version} is too old"),
            "install git 2.31 or later",
        );
    }
    Finding::Ok(version)
}

/// Whether a program runs; `package` has it.
pub(super) async fn program(path: &Path, question: &str, package: &str) -> Finding {
    let output = Command::new(path).arg(question).kill_on_drop(true).output();
    match tokio::time::timeout(LIMIT, output).await {
        Ok(Ok(output)) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            Finding::Ok(text.lines().next().unwrap_or("found").to_owned())
        }
        Ok(Err(error)) => Finding::error(
            format!("{} cannot be run: {error}", path.display()),
            format!("install the package {package}"),
        ),
        Err(_) => Finding::error(
            format!("{} does not answer", path.display()),
            format!("reinstall the package {package}"),
        ),
    }
}
