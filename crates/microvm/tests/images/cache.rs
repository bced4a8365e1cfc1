//! The cache: sharing, quota, damage, other processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use microvm::images::{ErrorKind, ImageStore, Phase, Progress, StoreOptions};

use crate::proxy::{Fault, Proxy};
use crate::registry::{Registry, layer, noise, open, quick, read_file, request, silent};

#[tokio::test]
async fn concurrent_requests_prepare_an_image_once() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(2 << 20))]), layer(&[("b", b"2")])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let waited = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, reference, waited) =
                (store.clone(), format!("{}/app:1", proxy.host), Arc::clone(&waited));
            tokio::spawn(async move {
                let progress = Arc::new(move |progress: Progress| {
                    waited.fetch_add(
                        usize::from(progress.phase == Phase::Waiting),
                        Ordering::Relaxed,
                    );
                });
                store.get(&request(reference), progress).await.unwrap()
            })
        })
        .collect();
    let mut paths = Vec::new();
    for task in tasks {
        paths.push(task.await.unwrap().squashfs);
    }
    assert!(paths.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(proxy.count("GET /v2/app/blobs"), 3, "{:?}", proxy.requests());
    assert!(waited.load(Ordering::Relaxed) > 0, "waiters see progress");
}

#[tokio::test]
async fn a_waiter_takes_over_from_one_that_fails_or_goes_away() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(1 << 20))])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let reference = format!("{}/app:1", proxy.host);
    // The first one hangs in its first blob and is then dropped.
    proxy.fault("GET /v2/app/blobs", Fault::Hang);
    let first = tokio::spawn({
        let (store, reference) = (store.clone(), reference.clone());
        async move { store.get(&request(reference), silent()).await.map(drop) }
    });
    while proxy.count("GET /v2/app/blobs") == 0 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn({
        let (store, reference) = (store.clone(), reference.clone());
        async move { store.get(&request(reference), silent()).await }
    });
    while proxy.count("HEAD") < 2 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let image = second.await.unwrap().unwrap();
    assert_eq!(read_file(&image.squashfs, "noise").unwrap(), noise(1 << 20));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn layers_that_images_share_are_downloaded_once() {
    let registry = Registry::open().await;
    let base = layer(&[("base", &noise(300_000))]);
    registry.push("app", "1", &[base.clone(), layer(&[("a", b"1")])]).await;
    registry.push("app", "2", &[base, layer(&[("a", b"2")])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    for tag in ["1", "2"] {
        let image =
            store.get(&request(format!("{}/app:{tag}", proxy.host)), silent()).await.unwrap();
        assert_eq!(read_file(&image.squashfs, "a").unwrap(), tag.as_bytes());
    }
    // Two layers and a configuration, then a layer and a configuration.
    assert_eq!(proxy.count("GET /v2/app/blobs"), 5, "{:?}", proxy.requests());
}

#[tokio::test]
async fn the_quota_holds_and_images_in_use_stay() {
    let registry = Registry::open().await;
    for name in ["a", "b", "c", "d"] {
        let content = noise(400_000 + name.as_bytes()[0] as usize);
        registry.push(name, "1", &[layer(&[("noise", &content)])]).await;
    }
    let dir = tempfile::tempdir().unwrap();
    // The spool is asked for in steps of 4 MiB; what remains has room for two images and some layers.
    let quota = (4 << 20) + 2_000_000;
    let store = open(dir.path(), StoreOptions { quota_bytes: quota, ..quick() });
    let get = async |name: &str| {
        let image =
            store.get(&request(format!("{}/{name}:1", registry.host)), silent()).await.unwrap();
        assert!(used(dir.path()) <= quota, "{} bytes", used(dir.path()));
        assert_eq!(used(dir.path()), store.bytes());
        image
    };
    let kept = get("a").await;
    let b = get("b").await.squashfs;
    let c = get("c").await.squashfs;
    let d = get("d").await.squashfs;
    assert!(kept.squashfs.exists() && d.exists());
    get("c").await;
    // Three images and the layer of a fourth do not fit: the one used longest ago went.
    get("a").await;
    assert!(!b.exists() && c.exists(), "{}", used(dir.path()));
    let tight = StoreOptions { quota_bytes: (4 << 20) + 1_500_000, ..quick() };
    drop(kept);
    drop(store);
    // A smaller quota is met when the cache is opened.
    let store = open(dir.path(), StoreOptions { quota_bytes: 1_000_000, ..quick() });
    assert!(used(dir.path()) <= 1_000_000 && store.bytes() > 0);
    let error = store.get(&request(format!("{}/b:1", registry.host)), silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("quota"), "{error}");
    drop(store);

    let store = open(dir.path(), tight);
    let _a = store.get(&request(format!("{}/a:1", registry.host)), silent()).await.unwrap();
    let _b = store.get(&request(format!("{}/b:1", registry.host)), silent()).await.unwrap();
    let error = store.get(&request(format!("{}/c:1", registry.host)), silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Local, "images in use leave no room: {error}");
}

#[tokio::test]
async fn damage_is_found_and_repaired() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(300_000))])]).await;
    let reference = format!("{}/app:1", registry.host);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let get = async |store: &ImageStore| {
        let image = store.get(&request(&reference), silent()).await.unwrap();
        assert_eq!(read_file(&image.squashfs, "noise").unwrap(), noise(300_000));
        image.squashfs
    };
    let squashfs = get(&store).await;
    assert_eq!(store.verify().await.unwrap(), 0);

    // Shorter: seen at once, also by a later process.
    let length = fs::metadata(&squashfs).unwrap().len();
    fs::File::options().write(true).open(&squashfs).unwrap().set_len(length - 4096).unwrap();
    get(&store).await;
    fs::File::options().write(true).open(&squashfs).unwrap().set_len(0).unwrap();
    drop(store);
    let store = open(dir.path(), quick());
    assert!(!squashfs.exists());
    get(&store).await;

    // Same length, other content: seen by a full check, or before a layer is used again.
    flip(&squashfs);
    for blob in files(&dir.path().join("blobs")) {
        flip(&blob);
    }
    assert_eq!(store.verify().await.unwrap(), 4, "image, layer, configuration, manifest");
    assert_eq!(files(dir.path()).len(), 1, "only the lock remains");
    get(&store).await;
    for blob in files(&dir.path().join("blobs")) {
        flip(&blob);
    }
    fs::remove_file(&squashfs).unwrap();
    get(&store).await;
    assert_eq!(store.verify().await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_a_living_one_is_respected() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let image = store.get(&request(format!("{}/app:1", registry.host)), silent()).await.unwrap();
    let error = ImageStore::open(dir.path(), 1 << 30).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop((store, image));

    fs::create_dir(dir.path().join("tmp/half")).unwrap();
    fs::write(dir.path().join("tmp/half/rootfs.squashfs"), "x").unwrap();
    fs::create_dir_all(dir.path().join("images/scope/nonsense")).unwrap();
    fs::write(dir.path().join("blobs/stray"), "x").unwrap();
    let store = open(dir.path(), quick());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert!(!dir.path().join("images/scope/nonsense").exists());
    assert!(!dir.path().join("blobs/stray").exists());
    assert!(store.bytes() > 0, "the whole image is still there");
    let image = store.get(&request(format!("{}/app:1", registry.host)), silent()).await.unwrap();
    assert_eq!(read_file(&image.squashfs, "a").unwrap(), b"1");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Bytes of everything but the records.
fn used(dir: &Path) -> u64 {
    let counted = files(dir).into_iter().filter(|path| !path.ends_with("record.json"));
    counted.map(|path| fs::metadata(path).unwrap().len()).sum()
}
