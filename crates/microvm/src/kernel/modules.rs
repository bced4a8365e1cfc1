//! The modules that the guest needs, found in a kernel's module tree, dependencies first.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{KernelError, vmlinux};
use crate::initramfs::Module;

/// Loaded at every boot, in this order. They are missing only when they are built in.
const EARLY: [&str; 5] = ["virtio_mmio", "virtio_console", "virtio_blk", "overlay", "squashfs"];
/// Loaded when they are needed; not every kernel has them.
const LATER: [&str; 3] = ["erofs", "virtio_net", "vmw_vsock_virtio_transport"];
/// Larger modules are not believed, in bytes.
const MODULE_MAX: u64 = 64 << 20;

/// Reads what the guest needs from `tree` (`lib/modules/<version>`).
///
/// # Errors
/// [`KernelError::Source`] if a required module is neither there nor built in.
pub fn pick(tree: &Path) -> Result<Vec<Module>, KernelError> {
    let mut available = HashMap::new();
    index(&tree.join("kernel"), &mut available)?;
    let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
    let mut picked = Vec::new();
    for name in EARLY {
        let is_builtin = builtin.lines().filter_map(module_name).any(|found| found == name);
        if !available.contains_key(name) && !is_builtin {
            let problem = format!("the kernel has no module {name}, nor is it built in");
            return Err(KernelError::Source { path: tree.to_owned(), problem });
        }
        add(name, true, &available, &mut picked)?;
    }
    for name in LATER {
        add(name, false, &available, &mut picked)?;
    }
    Ok(picked)
}

/// Adds a module after those that it depends on.
fn add(
    name: &str,
    early: bool,
    available: &HashMap<String, PathBuf>,
    picked: &mut Vec<Module>,
) -> Result<(), KernelError> {
    let file = format!("{name}.ko");
    if picked.iter().any(|module| module.name == file) {
        return Ok(());
    }
    // What is not there is built in, or the kernel will say so when it is loaded.
    let Some(path) = available.get(name) else { return Ok(()) };
    let content = read(path)?;
    for dependency in dependencies(&content) {
        add(&dependency, early, available, picked)?;
    }
    picked.push(Module { name: file, content, early });
    Ok(())
}

fn index(dir: &Path, available: &mut HashMap<String, PathBuf>) -> Result<(), KernelError> {
    let io = |source| KernelError::Io { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() {
            index(&entry.path(), available)?;
        } else if let Some(name) = entry.file_name().to_str().and_then(module_name) {
            available.insert(name, entry.path());
        }
    }
    Ok(())
}

/// `drivers/block/virtio-blk.ko.xz` → `virtio_blk`: file names and module names differ in dashes.
fn module_name(path: &str) -> Option<String> {
    let (name, _compression) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    let io = |source| KernelError::Io { path: path.to_owned(), source };
    let packed = fs::read(path).map_err(io)?;
    let mut content = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            content = vmlinux::xz(&packed)
                .map_err(|problem| KernelError::Source { path: path.to_owned(), problem })?;
        }
        Some("zst") => {
            let decoder = zstd::stream::read::Decoder::new(packed.as_slice()).map_err(io)?;
            decoder.take(MODULE_MAX).read_to_end(&mut content).map_err(io)?;
        }
        Some("gz") => {
            let decoder = flate2::read::GzDecoder::new(packed.as_slice());
            decoder.take(MODULE_MAX).read_to_end(&mut content).map_err(io)?;
        }
        _ => content = packed,
    }
    Ok(content)
}

/// The `depends=` entry of a module's `.modinfo` section: NUL-terminated `key=value` texts.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, depends) in files {
            let path = dir.path().join("kernel").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("ELF\0depends={depends}\0name=x\0")).unwrap();
        }
        dir
    }

    const REQUIRED_BUILTIN: &str = "kernel/drivers/char/virtio_console.ko\nkernel/a/virtio_blk.ko\n\
                                    kernel/fs/overlay.ko\nkernel/fs/squashfs.ko\n";

    #[test]
    fn dependencies_come_first_and_once() {
        let dir = tree(&[
            ("drivers/virtio_mmio.ko", "virtio,virtio_ring"),
            ("drivers/virtio.ko", "virtio_ring"),
            ("drivers/virtio_ring.ko", ""),
            ("drivers/virtio-net.ko", "virtio"),
        ]);
        fs::write(dir.path().join("modules.builtin"), REQUIRED_BUILTIN).unwrap();
        let modules = pick(dir.path()).unwrap();
        assert!(modules[2].early && !modules[3].early);
        let names: Vec<_> = modules.into_iter().map(|module| module.name).collect();
        assert_eq!(names, ["virtio_ring.ko", "virtio.ko", "virtio_mmio.ko", "virtio_net.ko"]);
    }

    #[test]
    fn a_missing_required_module_is_named() {
        let dir = tree(&[("drivers/virtio_mmio.ko", "")]);
        let error = pick(dir.path()).unwrap_err().to_string();
        assert!(error.contains("virtio_console"), "{error}");
    }
}
