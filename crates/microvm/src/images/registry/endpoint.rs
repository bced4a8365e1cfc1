//! One server that speaks the distribution API: addresses, authentication, what its answers mean.

use std::sync::Mutex;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use crate::images::request::Login;

/// A token answer is far smaller.
const MAX_TOKEN_ANSWER: usize = 1 << 20;
/// A server that asks for more is treated as asking for this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How one attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// 404.
    NotFound(String),
    /// 401 or 403.
    Unauthorized(String),
    /// An answer that another attempt would not change.
    Invalid(String),
    /// Worth another attempt, after the given time if the server named one.
    Transient(String, Option<Duration>),
    /// This machine's own fault.
    Local(crate::images::ImageError),
}

impl Failure {
    /// Worth another attempt at once.
    pub fn transient(detail: impl Into<String>) -> Self {
        Self::Transient(detail.into(), None)
    }
}

/// One server.
#[derive(Debug)]
pub struct Endpoint {
    /// Ends in `/v2/REPOSITORY/`.
    base: Url,
    /// For messages: host and port.
    pub name: String,
    /// Asked before the origin; its failures are not final.
    pub mirror: bool,
    repository: String,
    login: Option<Login>,
    /// A fixed header, or what a challenge was answered with.
    authorization: Mutex<Option<HeaderValue>>,
    /// `authorization` was given from outside; challenges are not answered.
    fixed: bool,
}

impl Endpoint {
    /// A server at `base` (scheme, host, optional path).
    pub fn new(base: &str, repository: &str, login: Option<Login>) -> Result<Self, String> {
        let bad = |why: &str| format!("registry address `{base}` {why}");
        let text = format!("{}/v2/{repository}/", base.trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|e| bad(&format!("is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("must start with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(bad("must not contain credentials or a query"));
        }
        let host = url.host_str().ok_or_else(|| bad("has no host"))?;
        let name = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            base: url,
            name,
            mirror: false,
            repository: repository.to_owned(),
            login,
            authorization: Mutex::new(None),
            fixed: false,
        })
    }

    /// Sends this `Authorization` with every request and answers no challenge.
    pub fn with_authorization(mut self, value: &str) -> Result<Self, String> {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            "the authorization for the instance's registry is not a header value".to_owned()
        })?;
        value.set_sensitive(true);
        self.authorization = Mutex::new(Some(value));
        self.fixed = true;
        Ok(self)
    }

    /// Sends a request for `path` below the repository; a challenge is answered once. The answer is a
    /// success (2xx).
    pub async fn send(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let url = self.base.join(path).map_err(|e| Failure::Invalid(format!("{path}: {e}")))?;
        let known = self.known_authorization();
        let response = self.once(client, &method, &url, headers, known.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || self.fixed {
            return self.check(response, known.is_some());
        }
        let Some(answer) = self.answer(client, response.headers()).await? else {
            return self.check(response, known.is_some());
        };
        *self.authorization.lock().expect("no panic while locked") = Some(answer.clone());
        let response = self.once(client, &method, &url, headers, Some(answer)).await?;
        self.check(response, self.login.is_some())
    }

    fn known_authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().expect("no panic while locked").clone()
    }

    async fn once(
        &self,
        client: &Client,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|e| self.network(e))
    }

    /// Turns a client error into a failure, without the URL, which may carry a signature.
    pub fn network(&self, error: reqwest::Error) -> Failure {
        let permanent = error.is_redirect() || error.is_builder();
        let error = error.without_url();
        let mut text = format!("{}: {error}", self.name);
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        if permanent { Failure::Invalid(text) } else { Failure::transient(text) }
    }

    fn check(&self, response: Response, authorized: bool) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let name = &self.name;
        Err(match status {
            StatusCode::NOT_FOUND => Failure::NotFound(format!("{name} does not have it")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if authorized => {
                Failure::Unauthorized(format!(
                    "{name} refused the credentials ({})",
                    status.as_u16()
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Unauthorized(format!(
                "{name} wants credentials ({}), and there are none for it; or it has no such image",
                status.as_u16()
            )),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Failure::Transient(
                format!("{name} answered {status}"),
                retry_after(response.headers()),
            ),
            _ if status.is_server_error() => Failure::Transient(
                format!("{name} answered {status}"),
                retry_after(response.headers()),
            ),
            _ => Failure::Invalid(format!("{name} answered {status}")),
        })
    }

    /// What to send in answer to a challenge; `None` when there is nothing.
    async fn answer(
        &self,
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Failure> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            return self.token(client, bearer).await.map(Some);
        }
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        Ok(self.login.as_ref().filter(|_| basic).map(basic_header))
    }

    /// Gets a token from the server's token service.
    /// Source: <https://distribution.github.io/distribution/spec/auth/token/>, `auth/oauth/`.
    async fn token(&self, client: &Client, bearer: &Challenge) -> Result<HeaderValue, Failure> {
        let realm = bearer.parameters.get("realm").map(String::as_str).unwrap_or_default();
        let url = Url::parse(realm)
            .map_err(|_| Failure::Invalid(format!("{} names no token service", self.name)))?;
        // Credentials go out in clear only where the whole registry is spoken to in clear.
        if url.scheme() != "https" && url.scheme() != self.base.scheme() {
            return Err(Failure::Invalid(format!(
                "{} names a token service without https",
                self.name
            )));
        }
        let service = bearer.parameters.get("service").map(String::as_str).unwrap_or_default();
        let scope = format!("repository:{}:pull", self.repository);
        let request = match &self.login {
            Some(Login { user, password }) if user == "<token>" => client.post(url).form(&[
                ("grant_type", "refresh_token"),
                ("service", service),
                ("scope", &scope),
                ("client_id", "executor"),
                ("refresh_token", password),
            ]),
            login => {
                let request = client.get(url).query(&[("service", service), ("scope", &scope)]);
                match login {
                    Some(login) => request.header(AUTHORIZATION, basic_header(login)),
                    None => request,
                }
            }
        };
        let response = request.send().await.map_err(|e| self.network(e))?;
        let response = self.check(response, self.login.is_some())?;
        let body = self.body(response, MAX_TOKEN_ANSWER).await?;
        let bad =
            || Failure::Invalid(format!("the token service of {} gave no usable token", self.name));
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| bad())?;
        let token = answer.token.or(answer.access_token).ok_or_else(bad)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Reads a body that must not be longer than `limit`.
    pub async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
        let too_long = || {
            Failure::Invalid(format!("the answer of {} is longer than {limit} bytes", self.name))
        };
        if content_length(response.headers()).is_some_and(|length| length > limit as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.network(e))? {
            if body.len() + chunk.len() > limit {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The stated length of a body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn basic_header(login: &Login) -> HeaderValue {
    use base64::Engine as _;
    let text = format!("{}:{}", login.user, login.password);
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    let mut value =
        HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is a header value");
    value.set_sensitive(true);
    value
}
