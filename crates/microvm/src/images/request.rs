//! What goes into [`super::ImageStore::get`] and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Ask for an image. Only `reference` is required: `ImageRequest { reference, ..Default::default() }`.
#[derive(Clone, Debug, Default)]
pub struct ImageRequest {
    /// As users write it: `alpine`, `alpine:3.20`, `ghcr.io/x/y@sha256:…`, `host:5000/x:tag`,
    /// `executors.internal/NAME:TAG`, or `oci:DIR[:tag]` where the operator allows a directory.
    pub reference: String,
    /// The requester's registry credentials. They are checked against the registry on every request,
    /// also when the image is in the cache.
    pub credentials: Credentials,
    /// Mirrors of docker.io by base URL, tried in order before docker.io itself
    /// (`EXECUTOR_DOCKER_REGISTRY_MIRROR_URL`).
    pub mirrors: Vec<String>,
    /// Picks the manifest out of an index.
    pub platform: Platform,
    /// Where `executors.internal/…` goes.
    pub instance_registry: Option<InstanceRegistry>,
}

/// The instance's own registry.
#[derive(Clone, Default)]
pub struct InstanceRegistry {
    /// Base URL of the instance; `/v2/…` is appended.
    pub base_url: String,
    /// Value of the `Authorization` header, for example `Bearer <job token>`. Sent to `base_url` only.
    pub authorization: String,
}

impl fmt::Debug for InstanceRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceRegistry").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Log-ins by registry host. Hosts are compared as `docker login` writes them: scheme and path are cut,
/// and `index.docker.io` is `docker.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Login>);

/// A user and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name; `<token>` means that the password is an identity token.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Adds a log-in; a former one for the same host is replaced.
    pub fn insert(&mut self, host: &str, login: Login) {
        self.0.insert(Self::key(host), login);
    }

    /// The log-in for a registry host, with port if it has one.
    pub fn get(&self, host: &str) -> Option<&Login> {
        self.0.get(&Self::key(host))
    }

    fn key(host: &str) -> String {
        let host = host.split_once("://").map_or(host, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
        match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => host,
        }
    }
}

impl<H: AsRef<str>> FromIterator<(H, Login)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (H, Login)>>(logins: I) -> Self {
        let mut credentials = Self::default();
        for (host, login) in logins {
            credentials.insert(host.as_ref(), login);
        }
        credentials
    }
}

/// Operating system and architecture in the words of the OCI image specification (Go's `GOOS` and
/// `GOARCH`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// An image that is ready to be attached to a microVM. The file stays as long as this (or a clone of its
/// guard) lives.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the platform's manifest.
    pub manifest_digest: String,
    /// How to run it.
    pub config: ImageConfig,
    /// The merged root file system.
    pub squashfs: PathBuf,
    /// Size of the squashfs file in bytes.
    pub size: u64,
    /// Keeps the file from eviction.
    pub guard: ImageGuard,
}

/// While one exists its image is not evicted.
#[derive(Clone)]
pub struct ImageGuard {
    _keeps: std::sync::Arc<dyn std::any::Any + Send + Sync>,
}

impl ImageGuard {
    pub(super) fn new(keeps: impl std::any::Any + Send + Sync) -> Self {
        Self { _keeps: std::sync::Arc::new(keeps) }
    }
}

impl fmt::Debug for ImageGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageGuard").finish_non_exhaustive()
    }
}

/// The part of the image's configuration that matters to a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `USER`: name or id, optionally `:group`; empty = root.
    pub user: String,
    /// `WORKDIR`; empty = `/`.
    pub workdir: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
}

/// Upper bounds for one image; over them it is refused as invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest, an index or a configuration. 4 MiB is what registries accept.
    pub manifest_bytes: u64,
    /// Layers of an image.
    pub layers: usize,
    /// Bytes of all layers as downloaded.
    pub compressed_bytes: u64,
    /// Bytes of all layers unpacked.
    pub uncompressed_bytes: u64,
    /// Tar entries of all layers together.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            layers: 256,
            compressed_bytes: 16 << 30,
            uncompressed_bytes: 32 << 30,
            entries: 1_000_000,
        }
    }
}

/// What is being done for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The registry is asked for the manifest.
    Resolving,
    /// Another request is already preparing the same image.
    Waiting,
    /// Layers are downloaded; bytes as transferred.
    Downloading,
    /// Layers are unpacked and merged; bytes as downloaded.
    Merging,
    /// The squashfs file is written; bytes of file content.
    Writing,
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in the end; 0 = unknown.
    pub total: u64,
}

/// Called now and then from any thread; must return at once.
pub type ProgressFn = std::sync::Arc<dyn Fn(Progress) + Send + Sync>;
