//! Where an image comes from: a registry or a directory, seen alike.

use std::fs::File;

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::layout::Layout;
use super::manifest::Descriptor;
use super::reference::{Digest, Reference};
use super::registry::{Registry, Resolved};
use super::request::ImageRequest;
use super::store::StoreOptions;

/// One image's source, as one requester sees it.
#[derive(Debug)]
pub enum Source {
    /// A repository in a registry.
    Registry {
        /// The repository.
        registry: Registry,
        /// Tag or digest.
        selector: String,
    },
    /// A directory.
    Layout(Layout),
}

impl Source {
    /// Where a reference points. Also gives the cache scope of what comes from there.
    pub fn open(
        reference: &Reference,
        request: &ImageRequest,
        options: &StoreOptions,
        client: &reqwest::Client,
    ) -> Result<(Self, String), ImageError> {
        let (source, place) = match reference {
            Reference::Registry(name) => {
                let selector = name.selector().to_owned();
                let registry = Registry::new(
                    client.clone(),
                    name,
                    request,
                    &options.plain_http,
                    options.limits,
                    options.retry_pause,
                )?;
                let instance = request.instance_registry.as_ref().filter(|_| name.is_instance());
                let base = instance.map(|instance| instance.base_url.as_str()).unwrap_or_default();
                (Self::Registry { registry, selector }, format!("{} {base}", name.host))
            }
            Reference::Layout { dir, tag } => {
                let allowed = options.layouts_below.as_deref();
                let layout = Layout::open(dir, tag.as_deref(), allowed, &request.reference)?;
                (Self::Layout(layout), "oci:".to_owned())
            }
        };
        let hash = Sha256::digest(format!("{} {place}", request.platform));
        Ok((source, hex::encode(&hash[..8])))
    }

    /// What the reference stands for now; asks with the requester's credentials.
    pub async fn resolve(&self) -> Result<Resolved, ImageError> {
        match self {
            Self::Registry { registry, selector } => registry.resolve(selector).await,
            Self::Layout(layout) => Ok(Resolved { digest: layout.resolve()?, document: None }),
        }
    }

    /// Asks whether the requester may have a manifest that an index names.
    pub async fn authorize(&self, digest: &Digest) -> Result<(), ImageError> {
        match self {
            Self::Registry { registry, .. } => registry.resolve(digest.as_str()).await.map(drop),
            Self::Layout(_) => Ok(()),
        }
    }

    /// Fetches a manifest or index.
    pub async fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImageError> {
        match self {
            Self::Registry { registry, .. } => registry.manifest(digest).await,
            Self::Layout(layout) => layout.document(digest, limit),
        }
    }

    /// Whether a blob that is in the cache may be used for this requester.
    pub async fn may_have_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        match self {
            Self::Registry { registry, .. } => registry.may_have_blob(digest).await,
            Self::Layout(_) => Ok(true),
        }
    }

    /// Fetches a blob into an empty file, checked and synced.
    pub async fn blob(
        &self,
        blob: &Descriptor,
        mut file: File,
        advanced: &(dyn Fn(i64) + Sync),
    ) -> Result<(), ImageError> {
        match self {
            Self::Registry { registry, .. } => registry.download(blob, file, advanced).await,
            Self::Layout(layout) => {
                let (layout, wanted) = (layout.clone(), blob.clone());
                let copied =
                    tokio::task::spawn_blocking(move || layout.copy(&wanted, &mut file)).await;
                copied.map_err(|_| ImageError::Canceled)??;
                advanced(i64::try_from(blob.size).unwrap_or(i64::MAX));
                Ok(())
            }
        }
    }
}
