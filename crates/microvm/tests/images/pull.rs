//! Pulling: references, platforms, errors, mirrors, credentials.

use std::sync::{Arc, Mutex};

use microvm::images::{
    Credentials, ErrorKind, ImageRequest, InstanceRegistry, Login, Phase, Progress, StoreOptions,
};
use serde_json::json;

use crate::proxy::{Fault, Proxy};
use crate::registry::{Registry, layer, noise, open, quick, read_file, request, silent};

#[tokio::test]
async fn an_image_is_pulled_merged_and_then_comes_from_the_cache() {
    let registry = Registry::open().await;
    let lower = layer(&[("etc/a", b"lower"), ("etc/gone", b"x")]);
    let upper = layer(&[("etc/a", b"upper"), ("etc/.wh.gone", b""), ("bin/tool", &noise(3 << 20))]);
    let digest = registry.push("team/app", "1.0", &[lower, upper]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let reference = format!("{}/team/app:1.0", registry.host);
    let image = store.get(&request(&reference), progress).await.unwrap();
    assert_eq!(image.manifest_digest, digest);
    assert_eq!(image.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!((image.config.user.as_str(), image.config.workdir.as_str()), ("1000:1000", "/w"));
    assert_eq!((image.config.entrypoint.len(), image.config.cmd.len()), (1, 1));
    assert_eq!(read_file(&image.squashfs, "etc/a").unwrap(), b"upper");
    assert_eq!(read_file(&image.squashfs, "bin/tool").unwrap(), noise(3 << 20));
    assert_eq!(read_file(&image.squashfs, "etc/gone"), None);
    assert_eq!(std::fs::metadata(&image.squashfs).unwrap().len(), image.size);

    let phases: Vec<Phase> = seen.lock().unwrap().iter().map(|p| p.phase).collect();
    for phase in [Phase::Resolving, Phase::Downloading, Phase::Merging, Phase::Writing] {
        assert!(phases.contains(&phase), "{phase:?} in {phases:?}");
    }
    let last = *seen.lock().unwrap().iter().rfind(|p| p.phase == Phase::Downloading).unwrap();
    assert!(last.done == last.total && last.total > 3 << 20, "{last:?}");

    seen.lock().unwrap().clear();
    let progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let again = store
        .get(&request(format!("{}/team/app@{digest}", registry.host)), progress)
        .await
        .unwrap();
    assert_eq!(again.squashfs, image.squashfs);
    assert_eq!(seen.lock().unwrap().len(), 1, "only the registry is asked");
}

#[tokio::test]
async fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::open().await;
    let digest = registry.push("app", "amd64", &[layer(&[("a", b"1")])]).await;
    let size = manifest_size(&registry, "app", "amd64").await;
    let entry = |architecture: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": { "os": "linux", "architecture": architecture }
        })
    };
    let index = |entries: Vec<serde_json::Value>| {
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries
        })
    };
    let index_digest =
        registry.push_manifest("app", "both", &index(vec![entry("arm64"), entry("amd64")])).await;
    registry.push_manifest("app", "arm", &index(vec![entry("arm64")])).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    for selector in [":both".to_owned(), format!("@{index_digest}")] {
        let image = store
            .get(&request(format!("{}/app{selector}", registry.host)), silent())
            .await
            .unwrap();
        assert_eq!(image.manifest_digest, digest);
    }
    let error =
        store.get(&request(format!("{}/app:arm", registry.host)), silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("linux/arm64"), "{error}");
    let mut other = request(format!("{}/app:amd64", registry.host));
    other.platform.architecture = "arm64".to_owned();
    let error = store.get(&other, silent()).await.unwrap_err();
    assert!(error.to_string().contains("linux/amd64, not for linux/arm64"), "{error}");
}

async fn manifest_size(registry: &Registry, repository: &str, tag: &str) -> usize {
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", registry.host);
    let client =
        reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    client.get(url).header("accept", accept).send().await.unwrap().bytes().await.unwrap().len()
}

#[tokio::test]
async fn what_the_registry_does_not_have_fails_at_once() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let missing = format!("app@sha256:{}", "0".repeat(64));
    for name in ["app:2", "other:1", missing.as_str()] {
        let before = proxy.requests().len();
        let error =
            store.get(&request(format!("{}/{name}", proxy.host)), silent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(proxy.requests().len() - before, 1, "no second attempt");
    }
}

#[tokio::test]
async fn a_private_image_needs_the_requesters_own_login_also_from_the_cache() {
    let registry = Registry::private().await;
    registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let with = |user: &str, password: &str| ImageRequest {
        credentials: Credentials::from_iter([(
            registry.host.as_str(),
            Login { user: user.to_owned(), password: password.to_owned() },
        )]),
        ..request(format!("{}/app:1", registry.host))
    };
    let refused = async |request: ImageRequest, part: &str| {
        let error = store.get(&request, silent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(part) && !text.contains("hunter"), "{text}");
    };
    refused(with("ann", "hunter3"), "refused the credentials").await;
    let image = store.get(&with("ann", "hunter2"), silent()).await.unwrap();
    // Now it is in the cache.
    refused(request(format!("{}/app:1", registry.host)), "there are none").await;
    refused(request(format!("{}/app@{}", registry.host, image.manifest_digest)), "there are none")
        .await;
    refused(with("bob", "hunter2"), "refused the credentials").await;
    assert_eq!(
        store.get(&with("ann", "hunter2"), silent()).await.unwrap().squashfs,
        image.squashfs
    );
}

#[tokio::test]
async fn another_registry_cannot_lend_itself_an_image_from_the_cache() {
    let (private, other) = (Registry::private().await, Registry::open().await);
    let digest = private.push("secret", "1", &[layer(&[("a", b"1")])]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let login = Login { user: "ann".to_owned(), password: "hunter2".to_owned() };
    let owner = ImageRequest {
        credentials: Credentials::from_iter([(private.host.as_str(), login)]),
        ..request(format!("{}/secret:1", private.host))
    };
    store.get(&owner, silent()).await.unwrap();
    // A registry that claims to have anything: every HEAD is answered with the digest asked for.
    let liar = liar(&digest).await;
    for host in [liar.as_str(), other.host.as_str()] {
        let error =
            store.get(&request(format!("{host}/secret@{digest}")), silent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

/// Answers HEAD with 200 and a digest, everything else with 404.
async fn liar(digest: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let digest = digest.to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let got = client.read(&mut head).await.unwrap_or_default();
            let status = if head[..got].starts_with(b"HEAD") { "200 OK" } else { "404 Not Found" };
            let answer = format!(
                "HTTP/1.1 {status}\r\ndocker-content-digest: {digest}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    host
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_the_origin_last() {
    // `docker.io` itself is not reachable here: when both mirrors fail, the error is the origin's.
    let registry = Registry::open().await;
    registry.push("library/app", "1", &[layer(&[("a", b"1")])]).await;
    let (first, second) = (Proxy::start(&registry.host).await, Proxy::start(&registry.host).await);
    let mirrors = vec![format!("http://{}", first.host), format!("http://{}/", second.host)];
    let ask = ImageRequest { mirrors, ..request("app:1") };
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    first.fault("manifests", Fault::Status(500));
    first.fault("manifests", Fault::Status(500));
    first.fault("blobs", Fault::Flip);
    let image = store.get(&ask, silent()).await.unwrap();
    assert_eq!(read_file(&image.squashfs, "a").unwrap(), b"1");
    assert!(second.count("manifests") > 0 && second.count("blobs") > 0);
    assert_eq!(first.unused_faults(), 0);
    let before = second.requests().len();
    store.get(&ask, silent()).await.unwrap();
    assert_eq!(second.requests().len(), before, "the first mirror is well again");
    // A mirror is not asked for other registries.
    let other = ImageRequest { reference: format!("{}/app:1", registry.host), ..ask };
    let before = first.requests().len();
    assert_eq!(store.get(&other, silent()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(first.requests().len(), before);
}

#[tokio::test]
async fn broken_connections_are_resumed() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(1 << 20))])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    proxy.fault("HEAD", Fault::Refuse);
    proxy.fault("HEAD", Fault::Status(503));
    proxy.fault("HEAD", Fault::NoDigest);
    proxy.fault("GET /v2/app/manifests", Fault::Status(429));
    proxy.fault("GET /v2/app/manifests", Fault::Cut(20));
    let blob = registry_layer(&registry, "app", "1").await;
    // Each attempt brings something, so more of them are made than without.
    for cut in [100_000, 1, 200_000, 300_000, 5, 6, 7] {
        proxy.fault(&blob, Fault::Cut(cut));
    }
    let image = store.get(&request(format!("{}/app:1", proxy.host)), silent()).await.unwrap();
    assert_eq!(read_file(&image.squashfs, "noise").unwrap(), noise(1 << 20));
    assert_eq!(proxy.unused_faults(), 0, "{:?}", proxy.requests());
    assert!(
        proxy.count("bytes=100000-") == 1 && proxy.count("bytes=600001-") == 1,
        "{:?}",
        proxy.requests()
    );
}

#[tokio::test]
async fn a_server_without_ranges_starts_again() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(1 << 20))])]).await;
    let proxy = Proxy::start(&registry.host).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let blob = registry_layer(&registry, "app", "1").await;
    proxy.fault(&blob, Fault::Cut(100_000));
    proxy.fault(&blob, Fault::NoRange);
    store.get(&request(format!("{}/app:1", proxy.host)), silent()).await.unwrap();
    assert_eq!(proxy.count(&blob), 2);
}

/// The path of an image's first layer.
async fn registry_layer(registry: &Registry, repository: &str, tag: &str) -> String {
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", registry.host);
    let client =
        reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let text = client.get(url).header("accept", accept).send().await.unwrap().text().await.unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    format!("blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())
}

#[tokio::test]
async fn wrong_content_is_refused_at_once_and_failing_servers_after_some_attempts() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("noise", &noise(100_000))])]).await;
    let blob = registry_layer(&registry, "app", "1").await;
    let cases = [
        (vec![Fault::Flip], ErrorKind::Invalid, "digest", 1),
        (vec![Fault::Longer], ErrorKind::Invalid, "or more", 1),
        (vec![Fault::Status(403)], ErrorKind::Unauthorized, "403", 1),
        (vec![Fault::Status(404)], ErrorKind::NotFound, "does not have", 1),
        (vec![Fault::Status(502); 9], ErrorKind::Transient, "502", 4),
        (vec![Fault::Cut(0); 9], ErrorKind::Transient, "", 4),
    ];
    for (faults, kind, part, attempts) in cases {
        let proxy = Proxy::start(&registry.host).await;
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), quick());
        for fault in &faults {
            proxy.fault(&blob, *fault);
        }
        let error =
            store.get(&request(format!("{}/app:1", proxy.host)), silent()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(proxy.count(&blob), attempts, "{error}");
        assert_eq!(
            std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
            0,
            "nothing half remains"
        );
    }
}

#[tokio::test]
async fn manifests_that_are_none_are_refused() {
    let registry = Registry::open().await;
    let body = json!({ "schemaVersion": 1, "name": "x", "tag": "1" }).to_string();
    let huge = format!("{{\"schemaVersion\": 2, \"x\": \"{}\"}}", "x".repeat(5 << 20));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    for (body, part) in
        [(body, "schema 1"), (huge, "longer than"), ("<html>".to_owned(), "not readable")]
    {
        let host = canned(body).await;
        let error = store.get(&request(format!("{host}/app:1")), silent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    drop(registry);
}

/// Answers everything with one body.
async fn canned(body: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let got = client.read(&mut head).await.unwrap_or_default();
            let body = if head[..got].starts_with(b"HEAD") { "" } else { body.as_str() };
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    host
}

#[tokio::test]
async fn a_registry_that_is_down_is_a_failure_that_may_pass_also_for_cached_images() {
    let mut registry = Registry::open().await;
    let digest = registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let ask = request(format!("{}/app@{digest}", registry.host));
    store.get(&ask, silent()).await.unwrap();
    registry.stop();
    let error = store.get(&ask, silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains(&registry.host), "{error}");
}

#[tokio::test]
async fn a_layer_that_breaks_the_rules_is_named() {
    let registry = Registry::open().await;
    let mut archive = layer(&[("a", b"1"), ("xx", b"2")]);
    // `xx` becomes `..` with the right checksum.
    let header = archive.windows(3).position(|window| window == b"xx\0").unwrap();
    archive[header..header + 2].copy_from_slice(b"..");
    let block = &mut archive[header..header + 512];
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    registry.push("evil", "1", &[layer(&[("ok", b"")]), archive]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let error =
        store.get(&request(format!("{}/evil:1", registry.host)), silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("layer 2") && error.to_string().contains("`..`"), "{error}");
}

#[tokio::test]
async fn the_instance_and_directories_are_sources_too() {
    let registry = Registry::open().await;
    let digest = registry.push("base", "1", &[layer(&[("a", b"1")])]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(
        &dir.path().join("cache"),
        StoreOptions { layouts_below: Some(dir.path().join("layouts")), ..quick() },
    );
    let ask = ImageRequest {
        instance_registry: Some(InstanceRegistry {
            base_url: format!("http://{}", registry.host),
            authorization: "Bearer token".to_owned(),
        }),
        ..request("executors.internal/base:1")
    };
    let image = store.get(&ask, silent()).await.unwrap();
    assert_eq!(image.manifest_digest, digest);

    let layout = dir.path().join("layouts/base");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for name in std::fs::read_dir(dir.path().join("cache/blobs")).unwrap() {
        for blob in std::fs::read_dir(name.unwrap().path()).unwrap() {
            let blob = blob.unwrap();
            std::fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "annotations": { "org.opencontainers.image.ref.name": "1" }
        }]
    });
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    for name in ["base", "base:1", "./base", &layout.display().to_string()] {
        let image = store.get(&request(format!("oci:{name}")), silent()).await.unwrap();
        assert_eq!(read_file(&image.squashfs, "a").unwrap(), b"1");
    }
    let error = store.get(&request("oci:base:2"), silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for outside in ["oci:../cache", "oci:/etc", "oci:nowhere"] {
        let error = store.get(&request(outside), silent()).await.unwrap_err();
        assert!(error.to_string().contains("operator allows"), "{error}");
    }
    let plain = open(&dir.path().join("other"), quick());
    let error = plain.get(&request("oci:base"), silent()).await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
}

/// `ann:hunter2`
const ANN: &str = "YW5uOmh1bnRlcjI=";

#[tokio::test]
async fn a_token_service_is_asked_with_the_requesters_login() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let gate = Proxy::gated(&registry.host, ANN).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let with = |password: &str| ImageRequest {
        credentials: Credentials::from_iter([(
            gate.host.as_str(),
            Login { user: "ann".to_owned(), password: password.to_owned() },
        )]),
        ..request(format!("{}/app:1", gate.host))
    };
    store.get(&with("hunter2"), silent()).await.unwrap();
    assert_eq!(gate.count("/token"), 1, "one token serves the whole pull: {:?}", gate.requests());
    for ask in [with("hunter3"), request(format!("{}/app:1", gate.host))] {
        let error = store.get(&ask, silent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let registry = Registry::open().await;
    registry.push("app", "1", &[layer(&[("a", b"1")])]).await;
    let gate = Proxy::gated(&registry.host, ANN).await;
    let elsewhere = Proxy::start(&registry.host).await;
    let port = elsewhere.host.rsplit(':').next().unwrap().parse().unwrap();
    // The first request gets the challenge and is repeated.
    gate.fault("GET /v2/app/blobs", Fault::Redirect(port));
    let ask = ImageRequest {
        credentials: Credentials::from_iter([(
            gate.host.as_str(),
            Login { user: "ann".to_owned(), password: "hunter2".to_owned() },
        )]),
        ..request(format!("{}/app:1", gate.host))
    };
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), quick()).get(&ask, silent()).await.unwrap();
    assert_eq!(elsewhere.requests().len(), 1);
    assert_eq!(elsewhere.count("uthorization"), 0, "{:?}", elsewhere.requests());
}
