//! Image layouts of the OCI image specification: `oci-layout`, `index.json`, `blobs/`.

use serde::Deserialize;

use super::archive::Archive;
use super::import::{ImportError, Importer};
use super::media;
use super::name::{ImageName, sha256_of};

/// A descriptor: what, how large, which digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: Option<u64>,
    #[serde(default)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) os: String,
}

/// Either an image manifest (`config`, `layers`) or an index (`manifests`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Imports the image of a layout; answers the descriptor's digest.
pub(super) async fn import(
    importer: &mut Importer<'_>,
    archive: &mut Archive,
    name: &ImageName,
) -> Result<String, ImportError> {
    let index = archive.read("index.json")?.ok_or(ImportError::Missing("index.json".into()))?;
    let index: Document = read("index.json", &index)?;
    let root = choose(index.manifests, name)?;
    manifest(importer, archive, &root, 0).await?;
    Ok(root.digest)
}

/// The image meant: the only one, or the one whose annotation says so.
fn choose(manifests: Vec<Descriptor>, name: &ImageName) -> Result<Descriptor, ImportError> {
    let mut images: Vec<Descriptor> = manifests
        .into_iter()
        // Attestations say `unknown`.
        .filter(|d| d.platform.as_ref().is_none_or(|p| p.os != "unknown"))
        .collect();
    if images.len() > 1 {
        let said = |d: &Descriptor| d.annotations.get(REF_NAME).cloned().unwrap_or_default();
        let wanted = [name.tag.clone(), name.to_string()];
        if let Some(at) = images.iter().position(|d| wanted.contains(&said(d))) {
            return Ok(images.swap_remove(at));
        }
        let names = images.iter().map(said).collect();
        return Err(ImportError::Several(names));
    }
    images.pop().ok_or(ImportError::Missing("a manifest in index.json".into()))
}

/// Imports a manifest with all it names, children first, so that nothing dangling is ever visible.
async fn manifest(
    importer: &mut Importer<'_>,
    archive: &mut Archive,
    descriptor: &Descriptor,
    depth: usize,
) -> Result<(), ImportError> {
    let place = member(&descriptor.digest)?;
    let bytes = archive.read(&place)?.ok_or_else(|| ImportError::Missing(place.clone()))?;
    let document: Document = read(&descriptor.digest, &bytes)?;
    let mut children = Vec::new();
    if document.manifests.is_empty() {
        let config = document
            .config
            .as_ref()
            .ok_or_else(|| ImportError::Missing(format!("config in {}", descriptor.digest)))?;
        for part in std::iter::once(config).chain(&document.layers) {
            let place = member(&part.digest)?;
            let reader =
                archive.open_member(&place)?.ok_or_else(|| ImportError::Missing(place.clone()))?;
            importer.blob(reader, &part.media_type, Some(&part.digest), part.size).await?;
            children.push(part.digest.clone());
        }
    } else {
        if depth > 2 {
            return Err(ImportError::Malformed {
                what: descriptor.digest.clone(),
                problem: "indexes are nested too deep".into(),
            });
        }
        for child in &document.manifests {
            // `docker save` leaves out the platforms it did not pull.
            if archive.has(&member(&child.digest)?) {
                Box::pin(manifest(importer, archive, child, depth + 1)).await?;
                children.push(child.digest.clone());
            }
        }
        if children.is_empty() {
            return Err(ImportError::Missing(format!("every image of {}", descriptor.digest)));
        }
    }
    let fallback =
        if document.manifests.is_empty() { media::MANIFEST } else { media::INDEX }.to_owned();
    let media_type = [document.media_type, descriptor.media_type.clone(), fallback]
        .into_iter()
        .find(|m| !m.is_empty())
        .unwrap_or_default();
    if !media::is_manifest(&media_type) {
        return Err(ImportError::Malformed {
            what: descriptor.digest.clone(),
            problem: format!("media type {media_type:?} is not that of an image"),
        });
    }
    importer.manifest(&bytes, &media_type, Some(&descriptor.digest), &children).await?;
    Ok(())
}

/// Path of a digest's content in a layout.
fn member(digest: &str) -> Result<String, ImportError> {
    let sha = sha256_of(digest).ok_or_else(|| ImportError::Malformed {
        what: digest.to_owned(),
        problem: "only sha256 digests are supported".into(),
    })?;
    Ok(format!("blobs/sha256/{}", hex::encode(sha)))
}

fn read<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImportError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImportError::Malformed { what: what.to_owned(), problem: e.to_string() })
}
