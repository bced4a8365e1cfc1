//! The workspace of a job in containers: a folder of the host, filled before any step can see it.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Writes the checkout, which is a squashfs file, into the workspace.
pub(super) const CHECKOUT: &str = "unsquashfs";

/// Files of `/etc` that every step gets afresh. Engines have their own ideas of them, and each another.
#[derive(Clone, Debug)]
pub(super) struct Etc {
    dir: PathBuf,
    hosts: String,
    resolv_conf: String,
}

impl Etc {
    /// `hosts` by name, and who answers for other names.
    pub(super) fn new(run_dir: &Path, hosts: &[(String, &str)], nameserver: IpAddr) -> Self {
        let mut text = "127.0.0.1\tlocalhost job\n::1\tlocalhost\n".to_owned();
        for (address, name) in hosts {
            text += &format!("{address}\t{name}\n");
        }
        let resolv_conf = format!("nameserver {nameserver}\n");
        Self { dir: run_dir.join("etc"), hosts: text, resolv_conf }
    }

    /// Writes them; returns each with where a step sees it.
    pub(super) fn write(&self) -> io::Result<[(PathBuf, &'static str); 2]> {
        std::fs::create_dir_all(&self.dir)?;
        let (hosts, resolv_conf) = (self.dir.join("hosts"), self.dir.join("resolv.conf"));
        std::fs::write(&hosts, &self.hosts)?;
        std::fs::write(&resolv_conf, &self.resolv_conf)?;
        Ok([(hosts, "/etc/hosts"), (resolv_conf, "/etc/resolv.conf")])
    }
}

/// Makes the folders of a machine; returns the workspace.
pub(super) fn make_dirs(run_dir: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    let workspace = run_dir.join("workspace");
    for dir in [&run_dir.join("channels"), &workspace] {
        std::fs::create_dir(dir)?;
        // For users of any image; nobody on the host gets through the folder above.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
    }
    Ok(workspace)
}

pub(super) async fn unpack(checkout: &Path, workspace: &Path) -> io::Result<()> {
    let output = Command::new(CHECKOUT)
        .args(["-force", "-no-progress", "-no-xattrs", "-dest"])
        .arg(workspace)
        .arg(checkout)
        // In the run directory: so it is found if we die before it.
        .current_dir(workspace)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{CHECKOUT} ended with {}: {words}", output.status)));
    }
    // The image's own root has its say about the folder, too.
    std::fs::set_permissions(workspace, std::fs::Permissions::from_mode(0o777))
}

/// Who the root of a container is on the host (user_namespaces(7)); `None` if its process cannot be seen.
pub(super) fn root_of(pid: u32) -> Option<(u32, u32)> {
    let first = |name: &str| {
        let map = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
        let mut words = map.lines().next()?.split_whitespace();
        (words.next()? == "0").then_some(())?;
        words.next()?.parse().ok()
    };
    Some((first("uid_map")?, first("gid_map")?))
}

/// Gives the tree to that user and group. Nobody else is at it yet.
pub(super) fn give_all(dir: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    lchown(dir, Some(user), Some(group))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_all(&entry.path(), (user, group))?;
        } else {
            lchown(entry.path(), Some(user), Some(group))?;
        }
    }
    Ok(())
}
