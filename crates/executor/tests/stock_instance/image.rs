//! An image in the registry of the scripted instance.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::fake::Fake;

/// The image of test jobs.
pub const IMAGE: &str = "executors.internal/busybox:1";

/// Puts the image `busybox` of this repository into the instance's registry.
pub fn publish_image(fake: &Fake) {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/build");
    let output = Command::new(build).arg("busybox").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let layer = std::fs::read(String::from_utf8(output.stdout).unwrap().trim()).unwrap();
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let kind = "application/vnd.oci.image";
    let manifest = json!({"schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
        "config": {"mediaType": format!("{kind}.config.v1+json"), "digest": digest(&config),
            "size": config.len()},
        "layers": [{"mediaType": format!("{kind}.layer.v1.tar"), "digest": digest(&layer),
            "size": layer.len()}]});
    let manifest = manifest.to_string().into_bytes();
    let manifest_kind = format!("{kind}.manifest.v1+json");
    let mut inner = fake.lock();
    for name in ["1".to_owned(), digest(&manifest)] {
        let entry = (manifest_kind.clone(), manifest.clone());
        inner.registry.insert(format!("busybox/manifests/{name}"), entry);
    }
    for blob in [config, layer] {
        let entry = ("application/octet-stream".to_owned(), blob.clone());
        inner.registry.insert(format!("busybox/blobs/{}", digest(&blob)), entry);
    }
}
