//! Puts a kernel in place: `<dir>/<version>-<checksum>/{vmlinux,initramfs,modules/,manifest.json}`, and
//! `<dir>/current` names the folder in use. Both appear whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, ModuleName, checksum, write_atomically};
use super::{Installation, InstalledKernel, KernelError, KernelSource, debian, modules, vmlinux};
use crate::initramfs::{self, GUEST, Module};

const CURRENT: &str = "current";
const VMLINUX: &str = "vmlinux";
const INITRAMFS: &str = "initramfs";
const MODULES: &str = "modules";

/// Prepares `dir` from `source`; `progress` is told each step in a few words. A second run is a no-op,
/// an interrupted one is resumed. Blocking.
///
/// # Errors
/// [`KernelError`].
pub fn install(
    dir: &Path,
    source: &KernelSource,
    progress: &mut dyn FnMut(&str),
) -> Result<Installation, KernelError> {
    fs::create_dir_all(dir).map_err(KernelError::io(dir))?;
    let _lock = lock(dir)?;
    let input = Input::of(source)?;
    if let Some(kernel) = installed_from(dir, &input.origin)? {
        return Ok(Installation { kernel, changed: false });
    }
    let before = fs::read_to_string(dir.join(CURRENT)).unwrap_or_default();
    let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(dir);
    let fresh = fresh.map_err(KernelError::io(dir))?;
    let (kernel, tree) = input.files(dir, fresh.path(), progress)?;
    progress("extracting the kernel");
    let version = fill(fresh.path(), &kernel, tree.as_deref(), input.origin)?;
    let name = format!("{version}-{}", &checksum_of(&kernel)?[..12]);
    publish(fresh, dir, &name)?;
    remove_others(dir, &[&name, &before]);
    Ok(Installation { kernel: read(&dir.join(&name))?, changed: true })
}

/// The installed kernel, checked; its initramfs is rebuilt if it holds another build's guest. Blocking.
///
/// # Errors
/// [`KernelError::NotInstalled`] before the first [`install`].
pub fn open(dir: &Path) -> Result<InstalledKernel, KernelError> {
    let Ok(name) = fs::read_to_string(dir.join(CURRENT)) else {
        return Err(KernelError::NotInstalled { dir: dir.to_owned() });
    };
    let version_dir = dir.join(name);
    let manifest = Manifest::read(&version_dir)?;
    if manifest.guest != checksum(GUEST) {
        let _lock = lock(dir)?;
        renew_initramfs(&version_dir, manifest)?;
    }
    read(&version_dir)
}

/// What a source amounts to, found without fetching anything.
struct Input {
    origin: String,
    from: From,
}

enum From {
    Packages(Vec<debian::Package>),
    Files(Vec<PathBuf>),
    Own { kernel: PathBuf, modules: Option<PathBuf> },
}

impl Input {
    fn of(source: &KernelSource) -> Result<Self, KernelError> {
        let (origin, from) = match source {
            KernelSource::DebianPackage => {
                let (packages, origin) = debian::resolve()?;
                (origin, From::Packages(packages))
            }
            KernelSource::Directory(dir) => {
                let (files, origin) = debian::in_directory(dir)?;
                (origin, From::Files(files))
            }
            KernelSource::Files { kernel, modules } => {
                let origin = format!("{} {}", kernel.display(), checksum_of(kernel)?);
                (origin, From::Own { kernel: kernel.clone(), modules: modules.clone() })
            }
        };
        Ok(Self { origin, from })
    }

    /// Kernel image and module tree; unpacked below `fresh` where needed.
    fn files(
        &self,
        dir: &Path,
        fresh: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(PathBuf, Option<PathBuf>), KernelError> {
        let packages = match &self.from {
            From::Own { kernel, modules } => return Ok((kernel.clone(), modules.clone())),
            From::Files(files) => files.clone(),
            From::Packages(packages) => debian::fetch(packages, &dir.join("download"), progress)?,
        };
        progress("unpacking");
        let unpacked = fresh.join("unpacked");
        debian::unpack(&packages, &unpacked)?;
        let (kernel, tree) = debian::locate(&unpacked)?;
        Ok((kernel, Some(tree)))
    }
}

/// Writes everything that belongs to a version into `dir`; returns the version.
fn fill(
    dir: &Path,
    kernel: &Path,
    tree: Option<&Path>,
    origin: String,
) -> Result<String, KernelError> {
    let image = fs::read(kernel).map_err(KernelError::io(kernel))?;
    let elf = vmlinux::extract(image)
        .map_err(|problem| KernelError::Source { path: kernel.to_owned(), problem })?;
    let version = version_of(&elf).ok_or_else(|| KernelError::Source {
        path: kernel.to_owned(),
        problem: "names no version of Linux".to_owned(),
    })?;
    let picked = tree.map(modules::pick).transpose()?.unwrap_or_default();
    let vmlinux = dir.join(VMLINUX);
    fs::write(&vmlinux, &elf).map_err(KernelError::io(&vmlinux))?;
    let keep = dir.join(MODULES);
    fs::create_dir(&keep).map_err(KernelError::io(&keep))?;
    for module in &picked {
        let path = keep.join(&module.name);
        fs::write(&path, &module.content).map_err(KernelError::io(&path))?;
    }
    let manifest = Manifest {
        origin,
        version: version.clone(),
        vmlinux: checksum(&elf),
        initramfs: String::new(),
        guest: String::new(),
        modules: picked
            .into_iter()
            .map(|Module { name, early, .. }| ModuleName { name, early })
            .collect(),
    };
    renew_initramfs(dir, manifest)?;
    Ok(version)
}

fn renew_initramfs(dir: &Path, mut manifest: Manifest) -> Result<(), KernelError> {
    let mut modules = Vec::new();
    for ModuleName { name, early } in &manifest.modules {
        let path = dir.join(MODULES).join(name);
        let content = fs::read(&path).map_err(KernelError::io(&path))?;
        modules.push(Module { name: name.clone(), content, early: *early });
    }
    let archive = initramfs::build(GUEST, &modules);
    write_atomically(&dir.join(INITRAMFS), &archive)?;
    manifest.initramfs = checksum(&archive);
    manifest.guest = checksum(GUEST);
    manifest.write(dir)
}

/// The installed kernel if it came from `origin` and is undamaged.
fn installed_from(dir: &Path, origin: &str) -> Result<Option<InstalledKernel>, KernelError> {
    let Ok(name) = fs::read_to_string(dir.join(CURRENT)) else { return Ok(None) };
    let version_dir = dir.join(name);
    let Ok(manifest) = Manifest::read(&version_dir) else { return Ok(None) };
    let intact = |file: &str, expected: &str| {
        checksum_of(&version_dir.join(file)).is_ok_and(|found| found == expected)
    };
    let same = manifest.origin == origin
        && manifest.guest == checksum(GUEST)
        && intact(VMLINUX, &manifest.vmlinux)
        && intact(INITRAMFS, &manifest.initramfs);
    same.then(|| read(&version_dir)).transpose()
}

fn read(version_dir: &Path) -> Result<InstalledKernel, KernelError> {
    let manifest = Manifest::read(version_dir)?;
    let kernel = InstalledKernel {
        vmlinux: version_dir.join(VMLINUX),
        initramfs: version_dir.join(INITRAMFS),
        version: manifest.version,
        origin: manifest.origin,
    };
    for path in [&kernel.vmlinux, &kernel.initramfs] {
        fs::metadata(path).map_err(KernelError::io(path))?;
    }
    Ok(kernel)
}

fn publish(fresh: tempfile::TempDir, dir: &Path, name: &str) -> Result<(), KernelError> {
    let target = dir.join(name);
    let unpacked = fresh.path().join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).map_err(KernelError::io(&unpacked))?;
    }
    // A damaged folder of the same version may be in the way; nothing names it once `current` moves on.
    if target.exists() {
        fs::remove_dir_all(&target).map_err(KernelError::io(&target))?;
    }
    fs::rename(fresh.keep(), &target).map_err(KernelError::io(&target))?;
    write_atomically(&dir.join(CURRENT), name.as_bytes())
}

/// Removes older versions and what interrupted runs left; what resists is tried again next time.
fn remove_others(dir: &Path, keep: &[&str]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_version = entry.path().join("manifest.json").exists();
        let is_rest = name.to_string_lossy().starts_with(".new-");
        if (is_version || is_rest) && !keep.iter().any(|kept| name == *kept) {
            let removed = fs::remove_dir_all(entry.path());
            tracing::debug!(path = %entry.path().display(), ?removed, "removed an old kernel");
        }
    }
}

/// Held while the folder changes; freed by the kernel if we die.
fn lock(dir: &Path) -> Result<File, KernelError> {
    let path = dir.join(".lock");
    let file = File::create(&path).map_err(KernelError::io(&path))?;
    file.lock().map_err(KernelError::io(&path))?;
    Ok(file)
}

fn checksum_of(path: &Path) -> Result<String, KernelError> {
    fs::read(path).map(|content| checksum(&content)).map_err(KernelError::io(path))
}

/// `6.1.0-56-cloud-amd64` out of the banner `Linux version … (`.
fn version_of(elf: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let mut places = elf.windows(BANNER.len()).enumerate().filter(|(_, window)| *window == BANNER);
    places.find_map(|(at, _)| {
        let rest = &elf[at + BANNER.len()..];
        let word = rest.split(|byte| *byte == b' ').next()?;
        let text = std::str::from_utf8(word).ok()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+~".contains(&byte);
        (text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(plain))
            .then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake_kernel(dir: &Path) -> KernelSource {
        let kernel = dir.join("vmlinux");
        fs::write(&kernel, b"\x7fELF Linux version %s (\0 Linux version 6.1.0-test (gcc)").unwrap();
        KernelSource::Files { kernel, modules: None }
    }

    #[test]
    fn a_second_run_changes_nothing_and_damage_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let source = fake_kernel(dir.path());
        let home = dir.path().join("home");
        assert!(matches!(open(&home), Err(KernelError::NotInstalled { .. })));
        let first = install(&home, &source, &mut |_| {}).unwrap();
        assert!(first.changed);
        assert_eq!(first.kernel.version, "6.1.0-test");
        let second = install(&home, &source, &mut |_| {}).unwrap();
        assert_eq!(second, Installation { kernel: first.kernel.clone(), changed: false });
        assert_eq!(open(&home).unwrap(), first.kernel);
        fs::write(&first.kernel.initramfs, "cut").unwrap();
        assert!(install(&home, &source, &mut |_| {}).unwrap().changed);
        assert!(fs::metadata(&first.kernel.initramfs).unwrap().len() > 1000);
    }

    #[test]
    fn another_builds_guest_is_replaced_when_opened() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let kernel = install(&home, &fake_kernel(dir.path()), &mut |_| {}).unwrap().kernel;
        let version_dir = kernel.initramfs.parent().unwrap();
        let genuine = fs::read(&kernel.initramfs).unwrap();
        let mut manifest = Manifest::read(version_dir).unwrap();
        manifest.guest = "another".into();
        manifest.write(version_dir).unwrap();
        fs::write(&kernel.initramfs, "another").unwrap();
        open(&home).unwrap();
        assert_eq!(fs::read(&kernel.initramfs).unwrap(), genuine);
    }

    #[test]
    fn what_interrupted_runs_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join(".new-dead/unpacked")).unwrap();
        install(&home, &fake_kernel(dir.path()), &mut |_| {}).unwrap();
        assert!(!home.join(".new-dead").exists());
    }
}
