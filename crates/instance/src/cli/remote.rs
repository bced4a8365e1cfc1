//! Talks to an instance over its API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::http::api::types::ErrorBody;

/// A request that is not a stream may take so long.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which instance. The token comes from the environment only: arguments are visible to every user
/// of the machine.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Instance")]
pub struct Remote {
    /// Address of the instance; its access token is read from INSTANCE_TOKEN.
    #[arg(long, env = "INSTANCE_URL", value_name = "URL")]
    pub url: Option<String>,
}

/// A connection to one instance as one user.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

/// What the instance answered instead of doing it.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({status})")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// The instance's words, or the status's.
    pub message: String,
}

impl Remote {
    /// The address, if one is given; an empty variable is none.
    pub fn address(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    /// Makes the client.
    ///
    /// # Errors
    /// When no URL or no token is given, or the URL is none.
    pub fn client(&self) -> anyhow::Result<Client> {
        let url = self.address().context(
            "no instance given: set INSTANCE_URL (for example http://127.0.0.1:7080) or use --url",
        )?;
        let token = std::env::var("INSTANCE_TOKEN").unwrap_or_default();
        if token.is_empty() {
            bail!(
                "no access token: set INSTANCE_TOKEN; make one on the page \"Users and tokens\", or \
                 with `instance token create` on the server"
            );
        }
        Client::new(url, token)
    }
}

impl Client {
    /// Connects to `url` with an access token; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is no absolute http or https URL.
    pub fn new(url: &str, token: String) -> anyhow::Result<Self> {
        let mut base = Url::parse(url).with_context(|| format!("instance URL {url:?}"))?;
        if !matches!(base.scheme(), "http" | "https") {
            bail!("instance URL {url:?}: must start with http:// or https://");
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the request, with its token, to where the user did not say.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("instance/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base, token })
    }

    /// Starts a request. `segments` come after `/api/v1` and are encoded one by one.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL has segments")
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(segments);
        self.http.request(method, url).header("authorization", format!("token {}", self.token))
    }

    /// The address of a page of the instance, for a path that begins with a slash.
    pub fn page(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// GETs a JSON value.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> anyhow::Result<T> {
        self.json(self.request(Method::GET, segments)).await
    }

    /// POSTs a JSON value and reads one back.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &B,
    ) -> anyhow::Result<T> {
        self.json(self.request(Method::POST, segments).json(body)).await
    }

    /// Sends a request without a body whose answer does not matter.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn call(&self, method: Method, segments: &[&str]) -> anyhow::Result<()> {
        send(self.request(method, segments).timeout(TIMEOUT)).await?;
        Ok(())
    }

    /// Sends a request and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`send`], and when the answer is not what this version expects.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = send(request.timeout(TIMEOUT)).await?;
        response.json().await.context("the instance's answer is not what this version expects")
    }
}

/// Sends a request; everything but a success is an error in the instance's words.
///
/// # Errors
/// [`ApiError`] when the instance answered, otherwise why it could not be reached.
pub async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status.is_redirection() {
        let message = "the instance redirects; give its final address as INSTANCE_URL".to_owned();
        return Err(ApiError { status, message }.into());
    }
    let text = response.text().await.unwrap_or_default();
    let message = serde_json::from_str::<ErrorBody>(&text)
        .map(|body| body.error.message)
        .unwrap_or_else(|_| status.canonical_reason().unwrap_or("error").to_owned());
    Err(ApiError { status, message: super::terminal::Neutral::default().push(&message) }.into())
}

/// The innermost cause says most ("connection refused").
fn unreachable(error: reqwest::Error) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let place =
        error.url().map_or(String::new(), |url| format!(" {}", url.origin().ascii_serialization()));
    anyhow::anyhow!("cannot reach the instance{place}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_the_api() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::new("https://x.example/base", "t".to_owned()).unwrap();
        let request = client.request(Method::GET, &["jobs", "../../x", "a b"]).build().unwrap();
        assert_eq!(request.url().path(), "/base/api/v1/jobs/..%2F..%2Fx/a%20b");
        assert!(Client::new("ftp://x", "t".to_owned()).is_err());
        assert!(Client::new("x.example", "t".to_owned()).is_err());
    }
}
