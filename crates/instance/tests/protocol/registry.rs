//! The registry: import of every form of image, and pulling as a client does.

use std::path::Path;

use instance::registry::{self, ImageName, ImportError};
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::Role;

use crate::support::{Answer, Instance};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tar with these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn import(instance: &Instance, source: &Path, name: &str) -> Result<String, ImportError> {
    let name: ImageName = name.parse().unwrap();
    let app = &instance.app;
    let now = instance.clock.now_ms();
    registry::import(&app.store, &app.blobs, source, &name, now).await.map(|i| i.digest)
}

/// A pull by a user: basic authorization with an access token.
struct Puller {
    authorization: String,
}

impl Puller {
    async fn new(instance: &Instance) -> Self {
        let store = &instance.app.store;
        let user = store.create_user("u", "hash", Role::User, 0).await.unwrap();
        let made = store.create_access_token(user, "pull", 0).await.unwrap();
        let token = instance::accounts::token_value(&made.token);
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("u:{token}"));
        Self { authorization: format!("Basic {basic}") }
    }

    async fn get(&self, instance: &Instance, path: &str, more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("authorization", self.authorization.as_str())];
        headers.extend(more);
        instance.call(Method::GET, path, &headers, "").await
    }
}

#[tokio::test]
async fn a_root_file_system_becomes_an_image_that_can_be_pulled() {
    let instance = Instance::start().await;
    let rootfs = tar(&[("./etc/hostname", b"box\n"), ("./bin/sh", b"\x7fELF")]);
    let file = instance.data_dir().join("rootfs.tar");
    std::fs::write(&file, &rootfs).unwrap();
    let imported = import(&instance, &file, "base:1").await.unwrap();
    assert_eq!(import(&instance, &file, "executors.internal/base:1").await.unwrap(), imported);
    let puller = Puller::new(&instance).await;
    let ping = puller.get(&instance, "/v2/", &[]).await;
    ping.is(200, "{}");
    assert_eq!(ping.header("docker-distribution-api-version"), "registry/2.0");
    let by_tag = puller.get(&instance, "/v2/base/manifests/1", &[]).await;
    assert_eq!((by_tag.status, by_tag.header("content-type")), (200, MANIFEST));
    assert_eq!(by_tag.header("docker-content-digest"), imported);
    assert_eq!(digest(&by_tag.body), imported);
    let by_digest = puller.get(&instance, &format!("/v2/base/manifests/{imported}"), &[]).await;
    assert_eq!(by_digest.body, by_tag.body);
    let manifest = by_tag.json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(layer, digest(&rootfs));
    let blob = format!("/v2/base/blobs/{layer}");
    assert_eq!(puller.get(&instance, &blob, &[]).await.body, rootfs);
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = puller.get(&instance, &format!("/v2/base/blobs/{config}"), &[]).await.json();
    assert_eq!(config["rootfs"]["diff_ids"], json!([layer]));
    let part = puller.get(&instance, &blob, &[("range", "bytes=512-1023")]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &rootfs[512..1024]));
    let range = format!("bytes 512-1023/{}", rootfs.len());
    assert_eq!(part.header("content-range"), range);
    let past = puller.get(&instance, &blob, &[("range", "bytes=99999999-")]).await;
    assert_eq!(past.status, 416);
    puller
        .get(&instance, "/v2/base/tags/list", &[])
        .await
        .is(200, r#"{"name":"base","tags":["1"]}"#);
    let headers = [("authorization", puller.authorization.as_str())];
    let head = instance.call(Method::HEAD, &blob, &headers, "").await;
    let length = rootfs.len().to_string();
    assert_eq!((head.status, head.header("content-length")), (200, length.as_str()));
    let head = instance.call(Method::HEAD, "/v2/base/manifests/1", &headers, "").await;
    assert_eq!((head.status, head.header("docker-content-digest")), (200, imported.as_str()));
}

#[tokio::test]
async fn who_may_pull_and_what_is_refused() {
    let instance = Instance::start().await;
    let anonymous = instance.call(Method::GET, "/v2/", &[], "").await;
    anonymous.says(401, r#""code":"UNAUTHORIZED""#);
    assert_eq!(anonymous.header("www-authenticate"), "Basic realm=\"executors\"");
    let wrong = [("authorization", "Bearer 0000000000000000000000000000000000000000")];
    assert_eq!(instance.call(Method::GET, "/v2/", &wrong, "").await.status, 401);
    let held = instance.held("jobs", "").await;
    let bearer = format!("Bearer {}", held.token);
    let job = [("authorization", bearer.as_str())];
    instance.call(Method::GET, "/v2/", &job, "").await.is(200, "{}");
    let puller = Puller::new(&instance).await;
    let none = digest(b"none");
    for (path, status, code) in [
        ("/v2/x/manifests/1".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/x/manifests/{none}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/x/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        ("/v2/x/blobs/sha256:zz".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/UPPER/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/x/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/_catalog".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        puller.get(&instance, &path, &[]).await.says(status, code);
    }
    let push = instance.call(Method::POST, "/v2/x/blobs/uploads/", &job, "").await;
    push.says(405, "UNSUPPORTED");
    let body = format!(r#"{{"executorName":"exec-7","jobId":{}}}"#, held.id);
    instance.job(&held, "markComplete", &body).await.is(204, "");
    assert_eq!(instance.call(Method::GET, "/v2/", &job, "").await.status, 401);
}

/// An image layout with one layer; `spoil` may damage it before it is written.
fn layout(dir: &Path, spoil: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> String {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let write = |kind: &str, bytes: Vec<u8>| {
        let name = digest(&bytes);
        let size = bytes.len();
        std::fs::write(blobs.join(&name["sha256:".len()..]), spoil(kind, bytes)).unwrap();
        (name, size)
    };
    let (layer, layer_size) = write("layer", tar(&[("a", b"1")]));
    let (config, config_size) =
        write("config", json!({"rootfs": {"diff_ids": [layer]}}).to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer, "size": layer_size}],
    });
    let (manifest, size) = write("manifest", manifest.to_string().into_bytes());
    let index = json!({"schemaVersion": 2,
        "manifests": [{"mediaType": MANIFEST, "digest": manifest, "size": size}]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}

#[tokio::test]
async fn an_image_layout_is_imported_as_folder_and_as_tar() {
    let instance = Instance::start().await;
    let dir = tempfile::tempdir().unwrap();
    let manifest = layout(dir.path(), |_, bytes| bytes);
    assert_eq!(import(&instance, dir.path(), "a/b:x").await.unwrap(), manifest);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir.path()).unwrap();
    let archive = instance.data_dir().join("image.tar");
    std::fs::write(&archive, builder.into_inner().unwrap()).unwrap();
    assert_eq!(import(&instance, &archive, "a/b:y").await.unwrap(), manifest);
    let puller = Puller::new(&instance).await;
    let tags = puller.get(&instance, "/v2/a/b/tags/list?n=1", &[]).await;
    tags.is(200, r#"{"name":"a/b","tags":["x"]}"#);
    assert_eq!(tags.header("link"), "</v2/a/b/tags/list?n=1&last=x>; rel=\"next\"");
    let rest = puller.get(&instance, "/v2/a/b/tags/list?n=1&last=x", &[]).await;
    rest.is(200, r#"{"name":"a/b","tags":["y"]}"#);
}

#[tokio::test]
async fn a_damaged_image_is_refused_and_not_visible() {
    let instance = Instance::start().await;
    for damaged in ["layer", "config", "manifest"] {
        let dir = tempfile::tempdir().unwrap();
        layout(dir.path(), |kind, mut bytes| {
            if kind == damaged {
                let at = bytes.iter().position(|b| *b == b'1').unwrap();
                bytes[at] = b'2';
            }
            bytes
        });
        let error = import(&instance, dir.path(), "bad:1").await.unwrap_err();
        assert!(matches!(error, ImportError::Digest { .. } | ImportError::Missing(_)), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    layout(dir.path(), |_, bytes| bytes);
    let blobs = dir.path().join("blobs/sha256");
    let largest = std::fs::read_dir(&blobs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    std::fs::remove_file(largest).unwrap();
    let error = import(&instance, dir.path(), "bad:1").await.unwrap_err();
    assert!(matches!(error, ImportError::Missing(_)), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = import(&instance, empty.path(), "bad:1").await.unwrap_err();
    assert!(matches!(error, ImportError::Unknown), "{error}");
    assert!(instance.app.store.image_tags().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_archive_of_docker_save_is_imported() {
    let instance = Instance::start().await;
    let layer = tar(&[("etc/x", b"y")]);
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l/layer.tar"]}]);
    let manifest = manifest.to_string().into_bytes();
    let files: [(&str, &[u8]); 3] =
        [("c.json", &config), ("l/layer.tar", &layer), ("manifest.json", &manifest)];
    let archive = instance.data_dir().join("saved.tar");
    std::fs::write(&archive, tar(&files)).unwrap();
    import(&instance, &archive, "saved:1").await.unwrap();
    let puller = Puller::new(&instance).await;
    let pulled = puller.get(&instance, "/v2/saved/manifests/1", &[]).await.json();
    assert_eq!(pulled["layers"][0]["digest"], digest(&layer));
    assert_eq!(pulled["config"]["digest"], digest(&config));
    // The layer must be the one that the configuration names.
    let wrong: [(&str, &[u8]); 3] =
        [("c.json", &config), ("l/layer.tar", &tar(&[])), ("manifest.json", &manifest)];
    std::fs::write(&archive, tar(&wrong)).unwrap();
    let error = import(&instance, &archive, "saved:2").await.unwrap_err();
    assert!(matches!(error, ImportError::Digest { .. }), "{error}");
}
