//! What is in a folder of an installed kernel, with checksums, so that damage is noticed.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KernelError;

/// `manifest.json` of a version's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Where the kernel came from: package and version, or the operator's file and its checksum.
    pub origin: String,
    /// `uname -r`.
    pub version: String,
    /// SHA-256 of `vmlinux`.
    pub vmlinux: String,
    /// SHA-256 of `initramfs`.
    pub initramfs: String,
    /// SHA-256 of the guest inside the initramfs.
    pub guest: String,
    /// Modules, each after those that it depends on; kept in `modules/`.
    pub modules: Vec<ModuleName>,
}

/// A module of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleName {
    /// File name.
    pub name: String,
    /// Loaded at every boot.
    pub early: bool,
}

const NAME: &str = "manifest.json";

impl Manifest {
    /// Reads the manifest of `dir`.
    pub fn read(dir: &Path) -> Result<Self, KernelError> {
        let path = dir.join(NAME);
        let text = fs::read(&path).map_err(KernelError::io(&path))?;
        serde_json::from_slice(&text)
            .map_err(|error| KernelError::Source { path, problem: error.to_string() })
    }

    /// Writes the manifest into `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), KernelError> {
        let json = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        write_atomically(&dir.join(NAME), &json)
    }
}

/// Replaces a file whole or not at all.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), KernelError> {
    let dir = path.parent().expect("files of an installation have a folder");
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(KernelError::io(path))
}

/// SHA-256 in hexadecimal.
pub fn checksum(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
