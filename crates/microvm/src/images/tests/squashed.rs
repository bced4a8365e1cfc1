//! The whole way to a squashfs file, read back by the kernel.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::images::convert::{Converted, Job, LayerFile, convert};
use crate::images::reference::Digest;
use crate::images::request::{Limits, ProgressFn};
use crate::images::squash::Compression;
use crate::images::{ErrorKind, ImageError};

/// Runs `look` on the mounted file, in a mount namespace that ends with its thread. Says so and gives
/// `false` where mounting is not allowed.
fn mounted(squashfs: &Path, look: impl FnOnce(&Path) + Send) -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: reading a squashfs back through the kernel needs root");
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            super::overlay::private_mounts();
            let status = std::process::Command::new("mount")
                .args(["-t", "squashfs", "-o", "loop,ro"])
                .args([squashfs, dir.path()])
                .status()
                .unwrap();
            assert!(status.success());
            look(dir.path());
        });
        thread.join().unwrap();
    });
    true
}

struct Bench {
    dir: tempfile::TempDir,
    limits: Limits,
    canceled: AtomicBool,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, limits: Limits::default(), canceled: AtomicBool::new(false) }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.squashfs")
    }

    /// Each layer with the form in which it is stored.
    fn convert(&self, layers: &[(Vec<u8>, Vec<u8>)]) -> Result<Converted, ImageError> {
        let files: Vec<LayerFile> = layers
            .iter()
            .enumerate()
            .map(|(index, (plain, stored))| {
                let path = self.dir.path().join(format!("layer{index}"));
                fs::write(&path, stored).unwrap();
                LayerFile { path, diff_id: Digest::of(plain) }
            })
            .collect();
        let progress: ProgressFn = Arc::new(|_| ());
        let job = Job {
            limits: self.limits,
            compression: Compression::Zstd,
            canceled: &self.canceled,
            progress: &progress,
            reserve: &|_| Ok(()),
        };
        convert(&files, &self.dir.path().join("spool"), &self.out(), &job)
    }

    fn nothing_remains(&self) {
        assert!(!self.out().exists());
        assert!(!self.dir.path().join("spool").exists());
    }
}

fn plain(items: &[Item]) -> (Vec<u8>, Vec<u8>) {
    let bytes = archive(items);
    (bytes.clone(), bytes)
}

fn gzipped(items: &[Item]) -> (Vec<u8>, Vec<u8>) {
    use std::io::Write;
    let bytes = archive(items);
    // Two members, as parallel compressors and lazy-pulling formats write them.
    let mut stored = Vec::new();
    for part in [&bytes[..512], &bytes[512..]] {
        let mut encoder = flate2::write::GzEncoder::new(&mut stored, flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    (bytes, stored)
}

fn zstandard(items: &[Item]) -> (Vec<u8>, Vec<u8>) {
    let bytes = archive(items);
    let stored = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    (bytes, stored)
}

#[test]
fn the_kernel_sees_what_the_layers_say() {
    let bench = Bench::new();
    let long = format!("{}/{}", "l".repeat(200), "m".repeat(250));
    let far = "t/".repeat(300);
    let mut odd = file("", "odd");
    odd.entry.path = b"\xff\xfe \\\"'".to_vec();
    odd.entry.mtime = u32::MAX;
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let content = "0123456789abcdef".repeat(40_000);
    let lower = gzipped(&[
        dir("./").mode(0o711).owned(11, 12),
        file("hard", &content).owned(3_000_000, 3_000_001).xattr("user.a", &[b'\n', 0, 255]),
        hardlink("d/link", "hard"),
        file("gone", "x"),
        dir("empty").mode(0o1777).owned(12, 11),
    ]);
    let upper = zstandard(&[
        file(&long, "long"),
        symlink("far", &far),
        odd,
        file("su", "").mode(0o6755),
        item("pipe", Kind::Fifo, 0o640),
        file("ping", "p")
            .xattr("security.capability", &capability)
            .xattr("user.big", &[b'v'; 3000]),
        file(".wh.gone", ""),
        file("-rf", "hyphen"),
    ]);
    let last = plain(&[hardlink("third", "d/link")]);
    let made = bench.convert(&[lower, upper, last]).unwrap();
    assert_eq!(made.size, fs::metadata(bench.out()).unwrap().len());
    mounted(&bench.out(), |root| {
        let meta = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
        let owner = |path: &str| (meta(path).mode() & 0o7777, meta(path).uid(), meta(path).gid());
        assert_eq!(owner("."), (0o711, 11, 12));
        assert_eq!(owner("hard"), (0o644, 3_000_000, 3_000_001));
        assert_eq!(owner("empty"), (0o1777, 12, 11));
        assert_eq!(meta(".").mtime(), 1);
        assert_eq!(owner("su"), (0o6755, 0, 0));
        assert_eq!(owner("pipe"), (0o640, 0, 0));
        assert!(meta("pipe").file_type().is_fifo());
        assert_eq!((meta("hard").nlink(), meta("hard").ino()), (3, meta("third").ino()));
        assert_eq!(fs::read(root.join("d/link")).unwrap(), content.as_bytes());
        assert_eq!(fs::read(root.join(&long)).unwrap(), b"long");
        assert_eq!(fs::read(root.join("-rf")).unwrap(), b"hyphen");
        assert_eq!(fs::read_link(root.join("far")).unwrap(), Path::new(&far));
        let odd = root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe \\\"'"));
        assert_eq!(fs::symlink_metadata(odd).unwrap().mtime(), i64::from(u32::MAX));
        assert!(!root.join("gone").exists());
        let attribute = |path: &str, name: &str| xattr::get(root.join(path), name).unwrap();
        assert_eq!(attribute("ping", "security.capability").unwrap(), capability);
        assert_eq!(attribute("ping", "user.big").unwrap(), vec![b'v'; 3000]);
        assert_eq!(attribute("third", "user.a").unwrap(), [b'\n', 0, 255]);
        assert_eq!(fs::read_dir(root).unwrap().count(), 11);
    });
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let make = || {
        let layers =
            [gzipped(&[file("a", "1"), file("b", &"2".repeat(300_000)), hardlink("c", "a")])];
        Bench::new().convert(&layers).unwrap().digest
    };
    assert_eq!(make(), make());
}

#[test]
fn an_image_without_files_is_an_empty_root() {
    let bench = Bench::new();
    bench.convert(&[plain(&[])]).unwrap();
    mounted(&bench.out(), |root| assert_eq!(fs::read_dir(root).unwrap().count(), 0));
}

#[test]
fn what_the_layer_does_not_hold_is_refused() {
    let refused = |stored: &dyn Fn(Vec<u8>) -> Vec<u8>, part: &str| {
        let bench = Bench::new();
        let (bytes, zipped) = gzipped(&[file("a", &"content".repeat(5000))]);
        let error = bench.convert(&[plain(&[dir("d")]), (bytes, stored(zipped))]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains("layer 2") && text.contains(part), "{text}");
        bench.nothing_remains();
    };
    refused(&|zipped| zipped[..zipped.len() / 2].to_vec(), "layer");
    refused(
        &|mut zipped| {
            let middle = zipped.len() / 2;
            zipped[middle] ^= 0x55;
            zipped
        },
        "layer",
    );
    refused(&|_| archive(&[file("other", "")]), "configuration says");
    refused(&|_| b"not a tar archive".repeat(100), "checksum");
    refused(&|_| Vec::new(), "configuration says");
}

#[test]
fn bombs_and_cancelled_work_leave_nothing() {
    let mut bench = Bench::new();
    bench.limits.uncompressed_bytes = 1 << 20;
    let zeros = "\0".repeat(8 << 20);
    let error = bench.convert(&[gzipped(&[file("zeros", &zeros)])]).unwrap_err();
    assert!(
        matches!(error, ImageError::TooLarge { what: "bytes of unpacked layers", .. }),
        "{error}"
    );
    bench.nothing_remains();

    bench.limits = Limits { entries: 5, ..Limits::default() };
    let many: Vec<Item> = (0..6).map(|i| file(&i.to_string(), "")).collect();
    let error = bench.convert(&[plain(&many[..3]), plain(&many[3..])]).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { what: "number of files", limit: 5 }), "{error}");

    let bench = Bench { canceled: AtomicBool::new(true), ..Bench::new() };
    let error = bench.convert(&[plain(&[file("a", "1")])]).unwrap_err();
    assert!(matches!(error, ImageError::Canceled), "{error}");
    bench.nothing_remains();
}

#[test]
fn a_full_cache_stops_the_work() {
    let bench = Bench::new();
    let path = bench.dir.path().join("layer");
    let bytes = archive(&[file("a", &"x".repeat(1 << 20))]);
    fs::write(&path, &bytes).unwrap();
    let progress: ProgressFn = Arc::new(|_| ());
    let job = Job {
        limits: Limits::default(),
        compression: Compression::Lz4,
        canceled: &bench.canceled,
        progress: &progress,
        reserve: &|_| {
            Err(ImageError::TooLarge { what: "bytes of the image cache's quota", limit: 7 })
        },
    };
    let layers = [LayerFile { path, diff_id: Digest::of(&bytes) }];
    let error = convert(&layers, &bench.dir.path().join("spool"), &bench.out(), &job).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { limit: 7, .. }), "{error}");
    bench.nothing_remains();
}
