//! A root file system as a plain tar, as `mmdebstrap` and `docker export` make it: one layer.

use std::fs::File;
use std::path::Path;

use super::docker::{Part, write_manifest};
use super::import::{ImportError, Importer, hash_of};
use super::media;

/// Folders of which a root file system has at least one at its top.
const USUAL: [&str; 5] = ["bin", "usr", "etc", "sbin", "lib"];

/// Whether the top of an archive looks like a root file system.
pub(super) fn is_rootfs(top: &[String]) -> bool {
    top.iter().any(|name| USUAL.contains(&name.as_str()))
}

/// Stores the tar as it is and makes configuration and manifest for it; answers the manifest's digest.
pub(super) async fn import(
    importer: &mut Importer<'_>,
    path: &Path,
) -> Result<String, ImportError> {
    let gzip = is_gzip(path)?;
    let kind = if gzip { media::LAYER_GZIP } else { media::LAYER };
    let (digest, size) = importer.blob(File::open(path)?, kind, None, None).await?;
    let diff_id = if gzip {
        hash_of(flate2::read::MultiGzDecoder::new(File::open(path)?)).await?
    } else {
        digest.clone()
    };
    // No time of creation: the same tar is the same image.
    let config = serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = config.to_string();
    let (config_digest, config_size) =
        importer.blob(std::io::Cursor::new(config), media::CONFIG, None, None).await?;
    let config = Part { media_type: media::CONFIG, digest: config_digest, size: config_size };
    write_manifest(importer, config, vec![Part { media_type: kind, digest, size }]).await
}

fn is_gzip(path: &Path) -> std::io::Result<bool> {
    use std::io::Read as _;
    let mut magic = [0; 2];
    let read = File::open(path)?.read(&mut magic)?;
    Ok(read == 2 && magic == [0x1f, 0x8b])
}

/// This machine's, in the naming of images: a root file system says nothing about itself.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
