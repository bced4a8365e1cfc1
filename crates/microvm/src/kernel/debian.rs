//! Kernels from the distribution's packages: fetched and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::KernelError;
use super::manifest::checksum;

/// Packages that name the newest kernel for virtual machines: Debian's, then Ubuntu's.
const META_PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// Begins the names of downloads that are not whole yet.
const UNFINISHED: &str = ".new-";

/// A package of exactly one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    name: String,
    version: String,
    sha256: String,
}

/// The packages that hold the newest kernel, and their name for people. Reads apt's lists only.
pub fn resolve() -> Result<(Vec<Package>, String), KernelError> {
    for meta in META_PACKAGES {
        let Ok(text) = run("apt-cache", &["show", "--no-all-versions", meta], None) else {
            continue;
        };
        let Some(image) = field(&text, "Depends").and_then(image_dependency) else { continue };
        let mut packages = vec![show(&image)?];
        // Ubuntu keeps the modules in a package of their own.
        let modules = image.replacen("linux-image-", "linux-modules-", 1);
        if let Ok(package) = show(&modules) {
            packages.push(package);
        }
        let origin = format!("{}={}", packages[0].name, packages[0].version);
        return Ok((packages, origin));
    }
    Err(KernelError::Program {
        program: "apt-cache",
        message: format!(
            "knows none of {}; run `apt-get update`, or name a kernel of your own",
            META_PACKAGES.join(", ")
        ),
    })
}

/// Downloads what is not in `dir` yet; returns the files. Nobody else may use `dir`.
pub fn fetch(
    packages: &[Package],
    dir: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, KernelError> {
    fs::create_dir_all(dir).map_err(KernelError::io(dir))?;
    remove_unfinished(dir).map_err(KernelError::io(dir))?;
    let mut files = Vec::new();
    for package in packages {
        let path = dir.join(format!("{}.deb", package.name));
        if !matches(&path, &package.sha256) {
            progress(&format!("downloading {} {}", package.name, package.version));
            download(package, dir, &path)?;
        }
        files.push(path);
    }
    Ok(files)
}

/// The kernel's packages in a folder that the operator filled, and their name for people.
pub fn in_directory(dir: &Path) -> Result<(Vec<PathBuf>, String), KernelError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(KernelError::io(dir))? {
        let path = entry.map_err(KernelError::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The meta package is named alike but holds nothing: it has no version in its name.
        let versioned = |prefix: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        if name.ends_with(".deb") && (versioned("linux-image-") || versioned("linux-modules-")) {
            found.push(path);
        }
    }
    found.sort();
    let Some(image) = found.first().and_then(|path| path.file_stem()) else {
        let problem = "holds no linux-image-<version>*.deb".to_owned();
        return Err(KernelError::Source { path: dir.to_owned(), problem });
    };
    let origin = image.to_string_lossy().into_owned();
    Ok((found, origin))
}

/// Unpacks packages into `dir`.
pub fn unpack(packages: &[PathBuf], dir: &Path) -> Result<(), KernelError> {
    for package in packages {
        let (package, dir) = (package.to_string_lossy(), dir.to_string_lossy());
        run("dpkg-deb", &["--extract", &package, &dir], None)?;
    }
    Ok(())
}

/// Kernel image and module tree in what was unpacked to `dir`.
pub fn locate(dir: &Path) -> Result<(PathBuf, PathBuf), KernelError> {
    let kernel = only(&dir.join("boot"), "vmlinuz-")?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|path| dir.join(path));
    let tree = modules.iter().find(|path| path.is_dir()).unwrap_or(&modules[0]);
    Ok((kernel, only(tree, "")?))
}

fn only(dir: &Path, prefix: &str) -> Result<PathBuf, KernelError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(KernelError::io(dir))? {
        let entry = entry.map_err(KernelError::io(dir))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        others => Err(KernelError::Source {
            path: dir.to_owned(),
            problem: format!("holds {} candidates for `{prefix}*`, not one", others.len()),
        }),
    }
}

fn show(name: &str) -> Result<Package, KernelError> {
    let text = run("apt-cache", &["show", "--no-all-versions", name], None)?;
    let get = |key| field(&text, key).map(str::to_owned).unwrap_or_default();
    Ok(Package { name: name.to_owned(), version: get("Version"), sha256: get("SHA256") })
}

/// What runs that were killed left of their downloads.
fn remove_unfinished(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Always from the start: `apt-get download` asks for the whole file, even beside a part that it left.
fn download(package: &Package, dir: &Path, to: &Path) -> Result<(), KernelError> {
    let fresh = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(dir);
    let fresh = fresh.map_err(KernelError::io(dir))?;
    let wanted = format!("{}={}", package.name, package.version);
    // Apt checks signature and checksum. Its sandbox user could not write here.
    let options = ["--quiet", "--option", "APT::Sandbox::User=root", "download", &wanted];
    run("apt-get", &options, Some(fresh.path()))?;
    let file = only(fresh.path(), "")?;
    if !matches(&file, &package.sha256) {
        let problem = "its checksum is not the one in apt's lists".to_owned();
        return Err(KernelError::Source { path: file, problem });
    }
    fs::rename(&file, to).map_err(KernelError::io(to))
}

fn matches(path: &Path, sha256: &str) -> bool {
    fs::read(path).is_ok_and(|content| checksum(&content) == sha256)
}

/// `linux-image-6.1.0-56-cloud-amd64` out of the dependencies of a meta package.
fn image_dependency(depends: &str) -> Option<String> {
    let names = depends.split(',').filter_map(|one| one.split_whitespace().next());
    let mut images = names.filter_map(|name| {
        let rest = name.strip_prefix("linux-image-")?;
        rest.starts_with(|first: char| first.is_ascii_digit()).then(|| name.to_owned())
    });
    images.next()
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

fn run(
    program: &'static str,
    arguments: &[&str],
    dir: Option<&Path>,
) -> Result<String, KernelError> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(std::process::Stdio::null());
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().map_err(|error| KernelError::Program {
        program,
        message: format!("{error}; this needs Debian or Ubuntu, or a kernel of your own"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(KernelError::Program { program, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_found_among_the_dependencies() {
        let depends = "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), other";
        assert_eq!(image_dependency(depends).unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(image_dependency("linux-image-cloud-amd64"), None);
    }

    #[test]
    fn what_interrupted_downloads_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".new-dead/partial")).unwrap();
        fs::write(dir.path().join("whole.deb"), "").unwrap();
        assert_eq!(fetch(&[], dir.path(), &mut |_| {}).unwrap(), Vec::<PathBuf>::new());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_folder_without_packages_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("linux-image-cloud-amd64_6.1_amd64.deb"), "").unwrap();
        let error = in_directory(dir.path()).unwrap_err().to_string();
        assert!(error.contains("linux-image-<version>"), "{error}");
    }
}
