//! A real registry on a random port, and a small pusher for it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use microvm::images::{
    Digest, ImageRequest, ImageStore, Limits, Progress, ProgressFn, StoreOptions,
};
use serde_json::{Value, json};

/// bcrypt of `hunter2`.
const HUNTER2: &str = "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.";

pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
    login: bool,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub async fn open() -> Self {
        Self::start(false).await
    }

    /// Wants user `ann` with password `hunter2`.
    pub async fn private() -> Self {
        Self::start(true).await
    }

    async fn start(login: bool) -> Self {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
            "http": { "addr": host },
        });
        if login {
            let path = dir.path().join("htpasswd");
            std::fs::write(&path, format!("ann:{HUNTER2}\n")).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": path } });
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed: install Debian's package docker-registry");
        let registry = Self { child, host, login, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(&registry.host).await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            tokio::task::yield_now().await;
        }
        registry
    }

    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let url = if url.starts_with('/') {
            format!("http://{}{url}", self.host)
        } else {
            url.to_owned()
        };
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let request = client.request(method, url);
        if self.login { request.basic_auth("ann", Some("hunter2")) } else { request }
    }

    pub async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let start =
            self.request(reqwest::Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
        let started = start.send().await.unwrap();
        assert_eq!(started.status(), 202);
        let location = started.headers()["location"].to_str().unwrap().to_owned();
        let digest = Digest::of(bytes).to_string();
        let join = if location.contains('?') { '&' } else { '?' };
        let finish = self
            .request(reqwest::Method::PUT, &format!("{location}{join}digest={digest}"))
            .body(bytes.to_vec());
        assert_eq!(finish.send().await.unwrap().status(), 201);
        json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() })
    }

    /// Pushes a manifest or index; returns its digest.
    pub async fn push_manifest(&self, repository: &str, tag: &str, document: &Value) -> String {
        let body = document.to_string();
        let response = self
            .request(reqwest::Method::PUT, &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", document["mediaType"].as_str().unwrap())
            .body(body.clone())
            .send()
            .await
            .unwrap();
        let status = response.status();
        assert_eq!(status, 201, "{}", response.text().await.unwrap());
        Digest::of(body.as_bytes()).to_string()
    }

    /// Pushes an image of gzip layers; returns its manifest's digest.
    pub async fn push(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({
            "os": "linux", "architecture": "amd64",
            "config": {
                "Env": ["PATH=/bin", "A=b"], "User": "1000:1000", "WorkingDir": "/w",
                "Entrypoint": ["/entry"], "Cmd": ["x"]
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let mut pushed = Vec::new();
        for layer in layers {
            let mut blob = self.push_blob(repository, &gzip(layer)).await;
            blob["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
            pushed.push(blob);
        }
        let mut config = self.push_blob(repository, config.to_string().as_bytes()).await;
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let manifest = manifest(&config, &pushed);
        self.push_manifest(repository, tag, &manifest).await
    }

    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    })
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer of regular files.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Bytes that do not compress, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn provider() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub fn open(dir: &Path, options: StoreOptions) -> ImageStore {
    provider();
    ImageStore::open_with(dir, options).unwrap()
}

/// Options that do not wait between attempts.
pub fn quick() -> StoreOptions {
    StoreOptions {
        quota_bytes: 1 << 30,
        limits: Limits::default(),
        retry_pause: Duration::from_millis(1),
        ..StoreOptions::default()
    }
}

pub fn request(reference: impl Into<String>) -> ImageRequest {
    ImageRequest { reference: reference.into(), ..ImageRequest::default() }
}

pub fn silent() -> ProgressFn {
    std::sync::Arc::new(|_: Progress| ())
}

/// The files of a squashfs and their content, by `unsquashfs`.
pub fn read_file(squashfs: &Path, path: &str) -> Option<Vec<u8>> {
    let output = Command::new("unsquashfs").arg("-cat").arg(squashfs).arg(path).output().unwrap();
    (output.status.success() && output.stderr.is_empty()).then_some(output.stdout)
}
