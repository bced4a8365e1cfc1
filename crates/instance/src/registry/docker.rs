//! Archives of `docker save` before Docker 25: `manifest.json`, a configuration, one tar per layer.

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::import::{ImportError, Importer};
use super::media;
use super::name::ImageName;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// A manifest as we write it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
}

/// A descriptor as we write it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    pub(super) media_type: &'a str,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// Writes the manifest of an image whose parts are stored; answers its digest.
pub(super) async fn write_manifest(
    importer: &mut Importer<'_>,
    config: Part<'_>,
    layers: Vec<Part<'_>>,
) -> Result<String, ImportError> {
    let mut children = vec![config.digest.clone()];
    children.extend(layers.iter().map(|l| l.digest.clone()));
    let manifest = Manifest { schema_version: 2, media_type: media::MANIFEST, config, layers };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest has no failing type");
    importer.manifest(&bytes, media::MANIFEST, None, &children).await
}

/// Imports the image of an archive; answers the manifest's digest.
pub(super) async fn import(
    importer: &mut Importer<'_>,
    archive: &mut Archive,
    name: &ImageName,
) -> Result<String, ImportError> {
    let malformed =
        |what: &str, problem: String| ImportError::Malformed { what: what.to_owned(), problem };
    let bytes =
        archive.read("manifest.json")?.ok_or(ImportError::Missing("manifest.json".into()))?;
    let mut saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|e| malformed("manifest.json", e.to_string()))?;
    if saved.len() > 1 {
        let tags: Vec<String> =
            saved.iter().flat_map(|s| s.repo_tags.clone().unwrap_or_default()).collect();
        let wanted = name.to_string();
        saved.retain(|s| s.repo_tags.as_ref().is_some_and(|t| t.contains(&wanted)));
        if saved.len() != 1 {
            return Err(ImportError::Several(tags));
        }
    }
    let saved = saved.pop().ok_or(ImportError::Missing("an image in manifest.json".into()))?;
    let text =
        archive.read(&saved.config)?.ok_or_else(|| ImportError::Missing(saved.config.clone()))?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|e| malformed(&saved.config, e.to_string()))?;
    if config.rootfs.diff_ids.len() != saved.layers.len() {
        return Err(malformed(&saved.config, "its diff_ids do not match the layers".into()));
    }
    let mut layers = Vec::new();
    for (place, diff_id) in saved.layers.iter().zip(&config.rootfs.diff_ids) {
        let reader =
            archive.open_member(place)?.ok_or_else(|| ImportError::Missing(place.clone()))?;
        // The digest of a plain tar is its diff_id.
        let (digest, size) = importer.blob(reader, media::LAYER, Some(diff_id), None).await?;
        layers.push(Part { media_type: media::LAYER, digest, size });
    }
    let (digest, size) = importer.blob(text.as_slice(), media::CONFIG, None, None).await?;
    write_manifest(importer, Part { media_type: media::CONFIG, digest, size }, layers).await
}
