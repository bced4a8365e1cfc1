//! A repository in a registry: the pull half of the distribution API, over mirrors and origin.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>. `oci-client` is not
//! used: it reads manifests without a bound and knows neither mirrors nor resuming with a digest.

mod challenge;
mod download;
mod endpoint;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use rand::RngExt as _;
use reqwest::Client;

use self::endpoint::{Endpoint, Failure};
use super::error::ImageError;
use super::manifest;
use super::reference::{Digest, RegistryReference};
use super::request::{ImageRequest, Limits};

/// Attempts at the origin; each that brings new bytes of a blob is not counted.
const ATTEMPTS: u32 = 4;
/// Attempts at a mirror, which is only worth little waiting.
const MIRROR_ATTEMPTS: u32 = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP client for all registries.
pub fn client() -> Result<Client, ImageError> {
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > 5 {
            attempt.error("too many redirects")
        } else if from_https && attempt.url().scheme() != "https" {
            attempt.error("redirect from https to plain http")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .user_agent(concat!("executor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(redirects)
        .build()
        .map_err(|e| ImageError::Unavailable { image: String::new(), detail: e.to_string() })
}

/// What a tag or digest stands for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Of the manifest or index.
    pub digest: Digest,
    /// The document, if it had to be fetched to know.
    pub document: Option<Vec<u8>>,
}

/// One repository as one requester sees it. Short-lived: made for each request.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    image: String,
    endpoints: Vec<Endpoint>,
    limits: Limits,
    pause: Duration,
}

impl Registry {
    /// Where `reference` is to be asked for, with which credentials.
    pub fn new(
        client: Client,
        reference: &RegistryReference,
        request: &ImageRequest,
        plain_http: &[String],
        limits: Limits,
        pause: Duration,
    ) -> Result<Self, ImageError> {
        let bad = |problem: String| ImageError::Reference {
            reference: request.reference.clone(),
            problem,
        };
        let repository = reference.repository.as_str();
        let mut endpoints = Vec::new();
        if reference.is_instance() {
            let Some(instance) = &request.instance_registry else {
                return Err(bad("this executor has no instance registry to ask".to_owned()));
            };
            let endpoint = Endpoint::new(&instance.base_url, repository, None)
                .and_then(|endpoint| endpoint.with_authorization(&instance.authorization));
            endpoints.push(endpoint.map_err(bad)?);
        } else {
            let mirrors = if reference.is_docker_hub() { request.mirrors.as_slice() } else { &[] };
            for mirror in mirrors {
                let base = if mirror.contains("://") {
                    mirror.clone()
                } else {
                    format!("https://{mirror}")
                };
                let mut endpoint = Endpoint::new(&base, repository, None).map_err(bad)?;
                let login = request.credentials.get(&endpoint.name).cloned();
                endpoint = Endpoint::new(&base, repository, login).map_err(bad)?;
                endpoint.mirror = true;
                endpoints.push(endpoint);
            }
            let login = request.credentials.get(&reference.host).cloned();
            let base = origin(&reference.host, plain_http);
            endpoints.push(Endpoint::new(&base, repository, login).map_err(bad)?);
        }
        Ok(Self { client, image: reference.to_string(), endpoints, limits, pause })
    }

    /// Asks what a tag or digest stands for, with the requester's credentials.
    pub async fn resolve(&self, selector: &str) -> Result<Resolved, ImageError> {
        self.each(|endpoint| self.resolve_at(endpoint, selector).boxed()).await
    }

    async fn resolve_at(&self, endpoint: &Endpoint, selector: &str) -> Result<Resolved, Failure> {
        let path = format!("manifests/{selector}");
        let response = endpoint.send(&self.client, Method::HEAD, &path, &accept()).await?;
        let stated = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Digest::parse(text).ok());
        match stated {
            Some(digest) if !selector.contains(':') || digest.as_str() == selector => {
                Ok(Resolved { digest, document: None })
            }
            // Not every registry states it.
            _ => {
                let (digest, document) = self.get_manifest(endpoint, selector).await?;
                Ok(Resolved { digest, document: Some(document) })
            }
        }
    }

    /// Fetches a manifest or index by digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let get = |endpoint| self.get_manifest(endpoint, digest.as_str()).boxed();
        Ok(self.each(get).await?.1)
    }

    /// Whether the requester may have a blob that is in the cache already.
    pub async fn may_have_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        match self.each(|endpoint| self.head_blob(endpoint, digest).boxed()).await {
            Ok(()) => Ok(true),
            // Not every registry answers HEAD for blobs; the download will tell.
            Err(ImageError::NotFound { .. } | ImageError::Invalid { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn head_blob(&self, endpoint: &Endpoint, digest: &Digest) -> Result<(), Failure> {
        let path = format!("blobs/{digest}");
        endpoint.send(&self.client, Method::HEAD, &path, &HeaderMap::new()).await.map(drop)
    }

    async fn get_manifest(
        &self,
        endpoint: &Endpoint,
        selector: &str,
    ) -> Result<(Digest, Vec<u8>), Failure> {
        let path = format!("manifests/{selector}");
        let response = endpoint.send(&self.client, Method::GET, &path, &accept()).await?;
        let limit = usize::try_from(self.limits.manifest_bytes).unwrap_or(usize::MAX);
        let body = endpoint.body(response, limit).await?;
        let digest = Digest::of(&body);
        if selector.contains(':') && digest.as_str() != selector {
            let name = &endpoint.name;
            return Err(Failure::Invalid(format!(
                "{name} sent a manifest with digest {digest} for {selector}"
            )));
        }
        Ok((digest, body))
    }

    /// Tries mirrors in order, then the origin, each several times while its failures may pass.
    ///
    /// `attempt` boxes its future: the future of an `AsyncFn` is not known to be `Send`, and callers
    /// spawn this.
    async fn each<'a, T>(
        &'a self,
        attempt: impl Fn(&'a Endpoint) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, ImageError> {
        let (origin, mirrors) = self.endpoints.split_last().expect("there is always an origin");
        for mirror in mirrors {
            match self.retry(mirror, &attempt).await {
                Ok(value) => return Ok(value),
                Err(Failure::Local(error)) => return Err(error),
                Err(failure) => {
                    tracing::warn!(image = %self.image, mirror = %mirror.name, ?failure, "mirror failed");
                }
            }
        }
        self.retry(origin, &attempt).await.map_err(|failure| self.error(failure))
    }

    async fn retry<'a, T>(
        &self,
        endpoint: &'a Endpoint,
        attempt: &impl Fn(&'a Endpoint) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut left = if endpoint.mirror { MIRROR_ATTEMPTS } else { ATTEMPTS };
        let mut pause = self.pause;
        loop {
            let failure = match attempt(endpoint).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            left -= 1;
            let Failure::Transient(detail, asked) = failure else { return Err(failure) };
            if left == 0 {
                return Err(Failure::Transient(detail, None));
            }
            tracing::debug!(image = %self.image, %detail, "trying again");
            self.wait(&mut pause, asked).await;
        }
    }

    /// Waits what the server asked for, else a doubling time, spread so that executors that failed
    /// together do not come back together.
    async fn wait(&self, pause: &mut Duration, asked: Option<Duration>) {
        let spread = rand::rng().random_range(0.75..1.25);
        tokio::time::sleep(asked.unwrap_or(pause.mul_f64(spread))).await;
        *pause *= 2;
    }

    fn error(&self, failure: Failure) -> ImageError {
        let image = self.image.clone();
        match failure {
            Failure::NotFound(detail) => ImageError::NotFound { image, detail },
            Failure::Unauthorized(detail) => ImageError::Unauthorized { image, detail },
            Failure::Invalid(problem) => ImageError::Invalid { image, problem },
            Failure::Transient(detail, _) => ImageError::Unavailable { image, detail },
            Failure::Local(error) => error,
        }
    }
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(manifest::ACCEPT))])
}

/// The base URL of a registry host. Plain HTTP only for this machine and where the operator says so.
fn origin(host: &str, plain_http: &[String]) -> String {
    // docker.io is a name; the registry behind it is elsewhere.
    let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let plain =
        is_loopback(host) || plain_http.iter().any(|known| known.eq_ignore_ascii_case(host));
    format!("{}://{address}", if plain { "http" } else { "https" })
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::reference::Reference;
    use crate::images::request::{Credentials, InstanceRegistry, Login};

    fn endpoints(text: &str, request: &ImageRequest) -> Result<Vec<String>, String> {
        let Reference::Registry(reference) = Reference::parse(text).unwrap() else {
            panic!("a layout");
        };
        // No provider of TLS is needed to name servers.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = client().unwrap();
        Registry::new(
            client,
            &reference,
            request,
            &["plain.example".to_owned()],
            Limits::default(),
            Duration::ZERO,
        )
        .map(|registry| registry.endpoints.iter().map(|e| format!("{e:?}")).collect())
        .map_err(|e| e.to_string())
    }

    #[test]
    fn mirrors_are_for_docker_hub_only_and_get_their_own_credentials() {
        let secret = |user: &str| Login { user: user.to_owned(), password: "secret".to_owned() };
        let request = ImageRequest {
            mirrors: vec![
                "http://mirror.example:5000".to_owned(),
                "second.example/cache".to_owned(),
            ],
            credentials: Credentials::from_iter([
                ("https://index.docker.io/v1/", secret("hub")),
                ("mirror.example:5000", secret("mirror")),
            ]),
            ..ImageRequest::default()
        };
        let found = endpoints("alpine", &request).unwrap();
        assert!(
            found[0].contains("mirror.example:5000") && found[0].contains("\"mirror\""),
            "{}",
            found[0]
        );
        assert!(
            found[1].contains("second.example") && found[1].contains("login: None"),
            "{}",
            found[1]
        );
        assert!(
            found[2].contains("registry-1.docker.io") && found[2].contains("\"hub\""),
            "{}",
            found[2]
        );
        assert!(!found.concat().contains("secret"), "passwords are not shown");
        assert_eq!(endpoints("ghcr.io/x/y", &request).unwrap().len(), 1);
    }

    #[test]
    fn the_instance_needs_to_be_known_and_its_token_is_not_shown() {
        let mut request = ImageRequest::default();
        assert!(
            endpoints("executors.internal/base:1", &request)
                .unwrap_err()
                .contains("no instance registry")
        );
        request.instance_registry = Some(InstanceRegistry {
            base_url: "http://instance.example/".to_owned(),
            authorization: "Bearer hush".to_owned(),
        });
        let found = endpoints("executors.internal/base:1", &request).unwrap();
        assert!(
            found[0].contains("instance.example") && !found[0].contains("hush"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn plain_http_is_for_loopback_and_named_hosts() {
        let plain = ["plain.example".to_owned()];
        for (host, base) in [
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.9:1", "http://127.0.0.9:1"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("plain.example", "http://plain.example"),
            ("localhost.example", "https://localhost.example"),
            ("docker.io", "https://registry-1.docker.io"),
        ] {
            assert_eq!(origin(host, &plain), base);
        }
    }
}
