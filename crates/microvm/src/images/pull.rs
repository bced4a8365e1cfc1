//! One request: resolve, look in the cache, else download, convert, publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::cache::{self, Cache, Key, Kind, Pin, Record};
use super::convert::{self, LayerFile};
use super::error::ImageError;
use super::manifest::{self, Configuration, Descriptor, Document, Manifest};
use super::reference::Digest;
use super::registry::Resolved;
use super::request::{Image, ImageGuard, Phase, Platform, Progress, ProgressFn};
use super::source::Source;
use super::store::Inner;

/// Layers downloaded at the same time.
const DOWNLOADS: usize = 3;

/// One request at work.
pub struct Pull<'a> {
    /// The store.
    pub store: &'a Inner,
    /// Where the image comes from.
    pub source: Source,
    /// With whom content is shared.
    pub scope: String,
    /// For messages.
    pub image: String,
    /// What is asked for.
    pub platform: Platform,
    /// Whom to tell.
    pub progress: ProgressFn,
}

impl Pull<'_> {
    /// The whole request.
    pub async fn run(self) -> Result<Image, ImageError> {
        (self.progress)(Progress { phase: Phase::Resolving, done: 0, total: 0 });
        let (digest, manifest) = self.resolve().await?;
        let key = self.key(Kind::Image, &digest);
        if let Some(image) = self.cached(&key) {
            return Ok(image);
        }
        let turn = self
            .store
            .flights
            .turn(&key, |theirs| {
                let (done, total) = theirs.map_or((0, 0), |p| (p.done, p.total));
                (self.progress)(Progress { phase: Phase::Waiting, done, total });
            })
            .await;
        if let Some(image) = self.cached(&key) {
            return Ok(image);
        }
        let reporter = turn.reporter();
        let tell = Arc::clone(&self.progress);
        let progress = throttled(Arc::new(move |progress| {
            reporter.send_replace(Some(progress));
            tell(progress);
        }));
        let configuration = self.configuration(&manifest).await?;
        let layers = self.layers(&manifest, &progress).await?;
        let files = configuration
            .diff_ids
            .iter()
            .zip(&manifest.layers)
            .map(|(diff_id, layer)| LayerFile {
                path: layers[&layer.digest].path().to_owned(),
                diff_id: diff_id.clone(),
            })
            .collect();
        let pin = self.convert(&key, files, configuration, progress).await?;
        drop(turn);
        image_of(pin).ok_or_else(|| self.invalid("vanished from the cache while it was made"))
    }

    /// What the reference stands for, each answer of the registry authorised by the requester.
    async fn resolve(&self) -> Result<(Digest, Manifest), ImageError> {
        let resolved = self.source.resolve().await?;
        let digest = resolved.digest.clone();
        let limits = &self.store.options.limits;
        let parse = |bytes: &[u8]| {
            manifest::parse(bytes, &self.platform, limits).map_err(|problem| self.invalid(problem))
        };
        match parse(&self.document(resolved).await?)? {
            Document::Manifest(manifest) => Ok((digest, manifest)),
            Document::Index(found) => {
                self.source.authorize(&found.digest).await?;
                let resolved = Resolved { digest: found.digest.clone(), document: None };
                match parse(&self.document(resolved).await?)? {
                    Document::Manifest(manifest) => Ok((found.digest, manifest)),
                    Document::Index(_) => Err(self.invalid("its index names another index")),
                }
            }
        }
    }

    /// A manifest or index from the cache or the source.
    async fn document(&self, resolved: Resolved) -> Result<Vec<u8>, ImageError> {
        let key = self.key(Kind::Blob, &resolved.digest);
        let document = match resolved.document {
            Some(document) => document,
            None => {
                let cached = self.store.cache.pin(&key).and_then(|pin| fs::read(pin.path()).ok());
                if let Some(bytes) = cached.filter(|bytes| Digest::of(bytes) == resolved.digest) {
                    return Ok(bytes);
                }
                let limit = self.store.options.limits.manifest_bytes;
                self.source.document(&resolved.digest, limit).await?
            }
        };
        // It only saves the next request a round trip.
        if let Err(error) = self.keep(&key, &document) {
            tracing::debug!(image = %self.image, %error, "manifest not kept");
        }
        Ok(document)
    }

    fn keep(&self, key: &Key, bytes: &[u8]) -> Result<(), ImageError> {
        let cache = &self.store.cache;
        let room = cache.reserve(bytes.len() as u64)?;
        let file = temporary(cache)?;
        fs::write(file.path(), bytes).map_err(ImageError::io("write", file.path()))?;
        cache.publish(key, file.path(), bytes.len() as u64, room).map(drop)
    }

    async fn configuration(&self, manifest: &Manifest) -> Result<Configuration, ImageError> {
        let pin = self.blob(&manifest.config, &|_| ()).await?;
        let bytes = fs::read(pin.path()).map_err(ImageError::io("read", pin.path()))?;
        manifest::parse_config(&bytes, manifest.layers.len(), &self.platform)
            .map_err(|problem| self.invalid(problem))
    }

    async fn layers(
        &self,
        manifest: &Manifest,
        progress: &ProgressFn,
    ) -> Result<BTreeMap<Digest, Pin>, ImageError> {
        let unique: BTreeMap<&Digest, &Descriptor> =
            manifest.layers.iter().map(|layer| (&layer.digest, layer)).collect();
        let total = unique.values().map(|layer| layer.size).sum();
        let done = AtomicI64::new(0);
        let advanced = |change: i64| {
            let done = done.fetch_add(change, Ordering::Relaxed) + change;
            let done = u64::try_from(done).unwrap_or_default();
            progress(Progress { phase: Phase::Downloading, done, total });
        };
        let advanced = &advanced;
        let downloads: Vec<_> =
            unique.into_values().map(|layer| self.layer(layer, advanced)).collect();
        futures_util::stream::iter(downloads).buffer_unordered(DOWNLOADS).try_collect().await
    }

    /// Boxed: the compiler cannot show that a future made inside a stream is `Send` for every lifetime,
    /// and callers spawn this.
    fn layer<'a>(
        &'a self,
        layer: &'a Descriptor,
        advanced: &'a (dyn Fn(i64) + Sync),
    ) -> BoxFuture<'a, Result<(Digest, Pin), ImageError>> {
        async move { Ok((layer.digest.clone(), self.blob(layer, advanced).await?)) }.boxed()
    }

    /// A blob from the cache, if this requester may have it and it is what it should be, or downloaded.
    async fn blob(
        &self,
        blob: &Descriptor,
        advanced: &(dyn Fn(i64) + Sync),
    ) -> Result<Pin, ImageError> {
        let cache = &self.store.cache;
        let key = self.key(Kind::Blob, &blob.digest);
        let _turn = self.store.flights.turn(&key, |_| ()).await;
        if let Some(pin) = cache.pin(&key)
            && self.source.may_have_blob(&blob.digest).await?
        {
            if is_whole(&pin, blob).await? {
                advanced(i64::try_from(blob.size).unwrap_or(i64::MAX));
                return Ok(pin);
            }
            drop(pin);
            tracing::warn!(digest = %blob.digest, "a cached layer has other content; downloading it again");
            cache.discard(&key);
        }
        let room = cache.reserve(blob.size)?;
        let file = temporary(cache)?;
        let handle = file.as_file().try_clone().map_err(ImageError::io("open", file.path()))?;
        self.source.blob(blob, handle, advanced).await?;
        cache.publish(&key, file.path(), blob.size, room)
    }

    async fn convert(
        &self,
        key: &Key,
        layers: Vec<LayerFile>,
        configuration: Configuration,
        progress: ProgressFn,
    ) -> Result<Pin, ImageError> {
        let cache = Arc::clone(&self.store.cache);
        let options = Arc::clone(&self.store.options);
        let key = key.clone();
        let canceled = CancelOnDrop::default();
        let flag = Arc::clone(&canceled.0);
        let work = tokio::task::spawn_blocking(move || {
            let room = cache.reserve(0)?;
            let dir =
                tempfile::tempdir_in(cache.tmp()).map_err(ImageError::io("make", cache.tmp()))?;
            let image = dir.path().join("image");
            fs::create_dir(&image).map_err(ImageError::io("make", &image))?;
            let job = convert::Job {
                limits: options.limits,
                compression: options.compression,
                canceled: &flag,
                progress: &progress,
                reserve: &|more| room.grow(more),
            };
            let out = cache::rootfs_in(&image);
            let made = convert::convert(&layers, &dir.path().join("spool"), &out, &job)?;
            let record = Record::new(configuration.run, made.size, &made.digest);
            cache::write_record(&image, &record)?;
            cache.publish(&key, &image, made.size, room)
        });
        let done = work.await;
        drop(canceled);
        done.map_err(|e| self.invalid(format!("the conversion stopped: {e}")))?
    }

    fn cached(&self, key: &Key) -> Option<Image> {
        self.store.cache.pin(key).and_then(image_of)
    }

    fn key(&self, kind: Kind, digest: &Digest) -> Key {
        Key { kind, scope: self.scope.clone(), digest: digest.clone() }
    }

    fn invalid(&self, problem: impl Into<String>) -> ImageError {
        ImageError::Invalid { image: self.image.clone(), problem: problem.into() }
    }
}

/// Tells the blocking part of a pull that its future is gone.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn image_of(pin: Pin) -> Option<Image> {
    let record = pin.record()?;
    Some(Image {
        manifest_digest: pin.digest().to_string(),
        config: record.config,
        squashfs: pin.rootfs(),
        size: record.size,
        guard: ImageGuard::new(pin),
    })
}

async fn is_whole(pin: &Pin, blob: &Descriptor) -> Result<bool, ImageError> {
    let path: PathBuf = pin.path().to_owned();
    let hash =
        tokio::task::spawn_blocking(move || convert::hash_file(&path, &AtomicBool::new(false)));
    Ok(hash.await.map_err(|_| ImageError::Canceled)?? == blob.digest)
}

fn temporary(cache: &Cache) -> Result<tempfile::NamedTempFile, ImageError> {
    tempfile::NamedTempFile::new_in(cache.tmp())
        .map_err(ImageError::io("make a file in", cache.tmp()))
}

/// Passes on a report when the phase changes, at its end, and when half a per cent is done.
fn throttled(tell: ProgressFn) -> ProgressFn {
    let last: Mutex<Option<Progress>> = Mutex::new(None);
    Arc::new(move |progress| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let worth = last.is_none_or(|last| {
            last.phase != progress.phase
                || (progress.done >= progress.total && last.done != progress.done)
                || progress.done.abs_diff(last.done) > (progress.total / 200).max(256 << 10)
        });
        if worth {
            *last = Some(progress);
            drop(last);
            tell(progress);
        }
    })
}
