//! The store: a cache of images and the way to fill it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::cache::{Cache, Key, Kind};
use super::convert::hash_file;
use super::error::ImageError;
use super::flight::Flights;
use super::pull::Pull;
use super::reference::Reference;
use super::registry;
use super::request::{Image, ImageRequest, Limits, ProgressFn};
use super::source::Source;
use super::squash::Compression;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Hard upper bound for everything under the directory, in bytes.
    pub quota_bytes: u64,
    /// Upper bounds for one image.
    pub limits: Limits,
    /// Registry hosts (with port) that are spoken to over plain HTTP; loopback hosts always are.
    pub plain_http: Vec<String>,
    /// `oci:DIR` references are allowed for directories below this one; `None` = refused.
    pub layouts_below: Option<PathBuf>,
    /// How file content is stored.
    pub compression: Compression,
    /// First pause between two attempts; doubles each time.
    pub retry_pause: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            quota_bytes: 50 << 30,
            limits: Limits::default(),
            plain_http: Vec::new(),
            layouts_below: None,
            compression: Compression::default(),
            retry_pause: Duration::from_millis(500),
        }
    }
}

/// A cache of images in one directory. Cheap to clone; all clones share the directory and its lock.
#[derive(Clone, Debug)]
pub struct ImageStore(Arc<Inner>);

/// What all clones share.
#[derive(Debug)]
pub struct Inner {
    /// As given.
    pub options: Arc<StoreOptions>,
    /// The directory.
    pub cache: Arc<Cache>,
    /// What is being prepared.
    pub flights: Flights<Key>,
    client: reqwest::Client,
}

impl ImageStore {
    /// Opens (or makes) the cache in `dir`. One process at a time may have it open. Left-overs of a dead
    /// process are removed. A TLS provider must be installed (`rustls`, process default).
    pub fn open(dir: &Path, quota_bytes: u64) -> Result<Self, ImageError> {
        Self::open_with(dir, StoreOptions { quota_bytes, ..StoreOptions::default() })
    }

    /// [`ImageStore::open`] with every option.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self, ImageError> {
        Ok(Self(Arc::new(Inner {
            cache: Cache::open(dir, options.quota_bytes)?,
            options: Arc::new(options),
            flights: Flights::new(),
            client: registry::client()?,
        })))
    }

    /// Gets an image ready to attach. The registry is asked every time, with the requester's own
    /// credentials, what the reference is and whether they may have it; an image in the cache then costs
    /// one or two round trips. Concurrent requests for one image prepare it once. Dropping the future
    /// cancels.
    ///
    /// When the registry cannot be reached the request fails, also for an image in the cache: without
    /// its answer nobody knows whether this requester may have it.
    pub async fn get(
        &self,
        request: &ImageRequest,
        progress: ProgressFn,
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(&request.reference).map_err(|problem| {
            ImageError::Reference { reference: request.reference.clone(), problem }
        })?;
        let (source, scope) = Source::open(&reference, request, &self.0.options, &self.0.client)?;
        let pull = Pull {
            store: &self.0,
            source,
            scope,
            image: reference.to_string(),
            platform: request.platform.clone(),
            progress,
        };
        pull.run().await
    }

    /// Bytes of all cached images and layers.
    pub fn bytes(&self) -> u64 {
        self.0.cache.bytes()
    }

    /// Reads every cached file in full and removes what is not what it was, unless it is in use. Returns
    /// how many were found damaged.
    pub async fn verify(&self) -> Result<usize, ImageError> {
        let cache = Arc::clone(&self.0.cache);
        let work = tokio::task::spawn_blocking(move || {
            let damaged = cache.keys().into_iter().filter(|key| !is_intact(&cache, key));
            damaged.inspect(|key| cache.discard(key)).count()
        });
        work.await.map_err(|_| ImageError::Canceled)
    }
}

fn is_intact(cache: &Arc<Cache>, key: &Key) -> bool {
    let Some(pin) = cache.pin(key) else { return false };
    let running = AtomicBool::new(false);
    match key.kind {
        Kind::Blob => hash_file(pin.path(), &running).is_ok_and(|found| found == key.digest),
        Kind::Image => pin.record().is_some_and(|record| {
            hash_file(&pin.rootfs(), &running).is_ok_and(|found| found.as_str() == record.squashfs)
        }),
    }
}
