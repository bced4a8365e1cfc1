//! `squash::from_dir` and `squash::from_tar`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use microvm::images::ImageError;
use microvm::images::squash::{Compression, DirOptions, from_dir, from_tar};

use crate::registry::{layer, read_file};

fn listing(squashfs: &Path) -> Vec<String> {
    let output =
        Command::new("unsquashfs").args(["-lln", "-d", ""]).arg(squashfs).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("-sub/deep")).unwrap();
    fs::create_dir_all(dir.join("skip/in")).unwrap();
    fs::write(dir.join("-sub/deep/file"), "content").unwrap();
    fs::write(dir.join("-sub/skip"), "not this one").unwrap();
    fs::write(dir.join("skip/in/file"), "x").unwrap();
    fs::write(dir.join("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
}

#[test]
fn a_directory_becomes_the_same_file_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let tree_dir = dir.path().join(name);
        fs::create_dir(&tree_dir).unwrap();
        tree(&tree_dir);
        let out = dir.path().join(format!("{name}.squashfs"));
        let options = DirOptions {
            owner: Some((1000, 1001)),
            exclude: vec!["skip".into()],
            mtime: Some(1_700_000_000),
            compression: Compression::Zstd,
        };
        let size = from_dir(&tree_dir, &out, &options).unwrap();
        assert_eq!(size, fs::metadata(&out).unwrap().len());
        out
    };
    let (one, two) = (make("one"), make("two"));
    assert_eq!(fs::read(&one).unwrap(), fs::read(two).unwrap());
    assert_eq!(read_file(&one, "-sub/deep/file").unwrap(), b"content");
    let lines = listing(&one);
    assert!(
        lines.iter().all(|line| line.contains("1000/1001") && line.contains("2023-11-14")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("-rwxr-xr-x") && line.ends_with("/script")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.ends_with("/link -> /etc/passwd")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.ends_with("/-sub/skip")),
        "only the top one is left out: {lines:?}"
    );
    assert!(!lines.iter().any(|line| line.ends_with("/skip/in")), "{lines:?}");
}

#[test]
fn every_compression_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    for (index, compression) in
        [Compression::Lz4, Compression::Zstd, Compression::None].into_iter().enumerate()
    {
        let out = dir.path().join(index.to_string());
        let bytes = layer(&[("a/b", &[b'x'; 300_000])]);
        let size = from_tar(&out, compression, |pipe| {
            pipe.write_all(&bytes).map_err(|source| ImageError::Io {
                action: "write",
                path: "pipe".into(),
                source,
            })
        })
        .unwrap();
        assert_eq!(read_file(&out, "a/b").unwrap(), [b'x'; 300_000]);
        assert_eq!(size > 300_000, compression == Compression::None, "{size}");
    }
}

#[test]
fn failures_leave_nothing_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let error = from_tar(&out, Compression::Lz4, |pipe| {
        pipe.write_all(&layer(&[("a", b"1")])[..512]).unwrap();
        Err(ImageError::Canceled)
    })
    .unwrap_err();
    assert!(matches!(error, ImageError::Canceled) && !out.exists());

    let error = from_dir(&dir.path().join("missing"), &out, &DirOptions::default()).unwrap_err();
    assert!(error.to_string().contains("missing") && !out.exists(), "{error}");
    for exclude in ["/etc", "../x", "a/../b", ""] {
        let options = DirOptions { exclude: vec![exclude.into()], ..DirOptions::default() };
        let error = from_dir(dir.path(), &out, &options).unwrap_err();
        assert!(error.to_string().contains("exclude"), "{error}");
    }
}
