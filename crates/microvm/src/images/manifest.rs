//! Manifests, indexes and image configurations: docker's schema 2 and OCI v1, which agree on every field
//! that is read here.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/manifest.md>, `image-index.md`,
//! `config.md`.

use serde::Deserialize;

use super::reference::Digest;
use super::request::{ImageConfig, Limits, Platform};

/// Sent as `Accept` with every manifest request.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Says where a blob is and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Of the blob as stored.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// One platform's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration blob.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a manifest document turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Manifest(Manifest),
    /// A list of images per platform; this one fits.
    Index(Descriptor),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: i64,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawPlatform {
    os: String,
    architecture: String,
}

impl RawDescriptor {
    fn read(&self) -> Result<Descriptor, String> {
        let size =
            u64::try_from(self.size).map_err(|_| format!("size {} is negative", self.size))?;
        Ok(Descriptor { digest: Digest::parse(&self.digest)?, size })
    }
}

/// Reads a manifest or an index. Errors say what is wrong with it.
pub fn parse(bytes: &[u8], platform: &Platform, limits: &Limits) -> Result<Document, String> {
    let raw: RawDocument =
        serde_json::from_slice(bytes).map_err(|e| format!("the manifest is not readable: {e}"))?;
    if raw.schema_version == 1 {
        return Err(
            "its manifest has the withdrawn schema 1; push it again with a current tool".to_owned()
        );
    }
    if raw.schema_version != 2 {
        return Err(format!("manifest schema version {} is unknown", raw.schema_version));
    }
    match (raw.config, raw.layers, raw.manifests) {
        (Some(config), Some(layers), None) => {
            manifest(&config, &layers, limits).map(Document::Manifest)
        }
        (None, None, Some(manifests)) => pick(&manifests, platform).map(Document::Index),
        // A document that is both would be read differently by different programs (CVE-2021-41190).
        _ => Err(format!(
            "a document of type `{}` is neither an image manifest nor an index",
            raw.media_type.unwrap_or_default()
        )),
    }
}

fn manifest(
    config: &RawDescriptor,
    layers: &[RawDescriptor],
    limits: &Limits,
) -> Result<Manifest, String> {
    if layers.is_empty() {
        return Err("it has no layers".to_owned());
    }
    if layers.len() > limits.layers {
        return Err(format!(
            "it has {} layers; at most {} are allowed",
            layers.len(),
            limits.layers
        ));
    }
    let config = config.read().map_err(|e| format!("configuration: {e}"))?;
    if config.size > limits.manifest_bytes {
        return Err(format!("its configuration is larger than {} bytes", limits.manifest_bytes));
    }
    let mut total = 0u64;
    let mut found = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let bad = |e: String| format!("layer {}: {e}", index + 1);
        if !is_layer(&layer.media_type) {
            return Err(bad(format!("type `{}` is not a file system layer", layer.media_type)));
        }
        let layer = layer.read().map_err(bad)?;
        total = total.saturating_add(layer.size);
        found.push(layer);
    }
    if total > limits.compressed_bytes {
        return Err(format!(
            "its layers have {total} bytes; at most {} are allowed",
            limits.compressed_bytes
        ));
    }
    Ok(Manifest { config, layers: found })
}

/// Tar layers in any compression; the compression itself is recognised by content.
fn is_layer(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    let tar = media_type.split(['.', '+']).any(|part| part == "tar");
    tar && known.iter().any(|prefix| media_type.starts_with(prefix))
        && !media_type.ends_with("+encrypted")
}

fn pick(manifests: &[RawDescriptor], platform: &Platform) -> Result<Descriptor, String> {
    let fits = |m: &&RawDescriptor| {
        m.platform
            .as_ref()
            .is_some_and(|p| p.os == platform.os && p.architecture == platform.architecture)
    };
    if let Some(found) = manifests.iter().find(fits) {
        return found.read();
    }
    let mut offered: Vec<String> = manifests
        .iter()
        .filter_map(|m| m.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    offered.sort();
    offered.dedup();
    Err(match (manifests, offered.as_slice()) {
        // An index of one image without a platform, as layouts often have.
        ([only], []) if only.platform.is_none() => return only.read(),
        (_, []) => format!("it has no image for {platform}"),
        (_, offered) => format!("it has no image for {platform}, only for {}", offered.join(", ")),
    })
}

/// What is read from a configuration blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// For running it.
    pub run: ImageConfig,
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    config: Option<RawRun>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<String>,
}

/// Reads a configuration blob and checks that it fits the manifest and the platform.
pub fn parse_config(
    bytes: &[u8],
    layers: usize,
    platform: &Platform,
) -> Result<Configuration, String> {
    let raw: RawConfiguration = serde_json::from_slice(bytes)
        .map_err(|e| format!("its configuration is not readable: {e}"))?;
    let differs = |found: &str, wanted: &str| !found.is_empty() && found != wanted;
    if differs(&raw.os, &platform.os) || differs(&raw.architecture, &platform.architecture) {
        return Err(format!("it is for {}/{}, not for {platform}", raw.os, raw.architecture));
    }
    let Some(rootfs) = raw.rootfs else {
        return Err("its configuration lists no layers (rootfs.diff_ids)".to_owned());
    };
    if rootfs.diff_ids.len() != layers {
        return Err(format!(
            "its configuration lists {} layers, its manifest {layers}",
            rootfs.diff_ids.len()
        ));
    }
    let diff_ids = rootfs.diff_ids.iter().map(|id| Digest::parse(id)).collect::<Result<_, _>>()?;
    let run = raw.config.unwrap_or_default();
    let run = ImageConfig {
        env: run.env.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        workdir: run.working_dir.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
    };
    Ok(Configuration { run, diff_ids })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(fill: char) -> String {
        format!("sha256:{}", fill.to_string().repeat(64))
    }

    fn layer(media_type: &str, size: i64) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": digest('a'), "size": size })
    }

    fn read(document: serde_json::Value) -> Result<Document, String> {
        parse(document.to_string().as_bytes(), &Platform::default(), &Limits::default())
    }

    fn image(layers: Vec<serde_json::Value>) -> Result<Document, String> {
        read(json!({ "schemaVersion": 2, "config": layer("c", 3), "layers": layers }))
    }

    #[test]
    fn both_families_of_layers_are_images() {
        for media_type in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            let Document::Manifest(manifest) = image(vec![layer(media_type, 5)]).unwrap() else {
                panic!("an index");
            };
            assert_eq!(manifest.layers[0].size, 5);
        }
    }

    #[test]
    fn what_is_not_an_image_is_refused_with_the_reason() {
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        for (result, part) in [
            (read(json!({ "schemaVersion": 1 })), "schema 1"),
            (read(json!({ "schemaVersion": 3 })), "version 3"),
            (read(json!([])), "not readable"),
            (read(json!({ "schemaVersion": 2 })), "neither"),
            (
                read(
                    json!({ "schemaVersion": 2, "config": layer("c", 1), "layers": [], "manifests": [] }),
                ),
                "neither",
            ),
            (image(vec![]), "no layers"),
            (image(vec![layer("application/vnd.wasm.content.layer.v1+wasm", 1)]), "layer 1"),
            (image(vec![layer(encrypted, 1)]), "layer 1"),
            (image(vec![layer(gzip, -1)]), "negative"),
            (image(vec![layer(gzip, 1 << 40)]), "bytes"),
            (
                image(vec![layer(gzip, i64::MAX), layer(gzip, i64::MAX), layer(gzip, i64::MAX)]),
                "bytes",
            ),
            (image(vec![layer(gzip, 1); 257]), "257 layers"),
        ] {
            let problem = result.unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn an_index_gives_the_platform_and_names_the_others() {
        let entry = |fill, architecture: &str| {
            json!({
                "digest": digest(fill), "size": 1,
                "platform": { "os": "linux", "architecture": architecture }
            })
        };
        let index = |entries: &[serde_json::Value]| {
            read(json!({ "schemaVersion": 2, "manifests": entries }))
        };
        let Document::Index(found) = index(&[entry('1', "arm64"), entry('2', "amd64")]).unwrap()
        else {
            panic!("an image");
        };
        assert_eq!(found.digest.as_str(), digest('2'));
        let problem = index(&[entry('1', "arm64")]).unwrap_err();
        assert!(problem.contains("linux/arm64"), "{problem}");
        assert!(index(&[]).is_err());
        assert!(index(&[json!({ "digest": digest('3'), "size": 1 })]).is_ok());
    }

    #[test]
    fn the_configuration_must_fit() {
        let read = |value: serde_json::Value| {
            parse_config(value.to_string().as_bytes(), 1, &Platform::default())
        };
        let good = json!({
            "os": "linux", "architecture": "amd64",
            "config": { "Env": ["A=b"], "User": "1000", "WorkingDir": "/w", "Cmd": ["sh"], "Entrypoint": null },
            "rootfs": { "type": "layers", "diff_ids": [digest('d')] }
        });
        let configuration = read(good).unwrap();
        assert_eq!(configuration.run.user, "1000");
        assert_eq!(configuration.run.entrypoint, Vec::<String>::new());
        assert!(read(json!({})).unwrap_err().contains("diff_ids"));
        assert!(read(json!({ "rootfs": { "diff_ids": [] } })).unwrap_err().contains("0 layers"));
        assert!(
            read(json!({ "os": "windows", "architecture": "amd64" }))
                .unwrap_err()
                .contains("windows")
        );
        assert!(read(json!({ "config": null, "rootfs": { "diff_ids": [digest('d')] } })).is_ok());
    }
}
