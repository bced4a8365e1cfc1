//! An instance in this process, on a port of its own, with an empty data folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use instance::App;
use instance::app::Options;
use instance::clock::Clock;
use reqwest::{Body, Method};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The shared access token of every test instance.
pub const SHARED: &str = "hunter2hunter2hunter2";
/// Nothing in a test takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running instance. Dropping it stops it.
pub struct Instance {
    pub app: Arc<App>,
    pub clock: Clock,
    pub url: String,
    pub dir: tempfile::TempDir,
    pub shutdown: CancellationToken,
    pub http: reqwest::Client,
    served: Option<JoinHandle<anyhow::Result<()>>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Instance {
    /// With the shared token [`SHARED`].
    pub async fn start() -> Self {
        let config = format!("{{ \"executors.accessToken\": \"{SHARED}\" }}");
        Self::start_with(&config).await
    }

    /// With this site configuration.
    pub async fn start_with(config: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("site-config.jsonc"), config).unwrap();
        let clock = Clock::manual(Clock::system().now_ms());
        let options =
            Options { data_dir: dir.path().to_owned(), database_url: None, clock: clock.clone() };
        let app = Arc::new(App::open(options).await.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = instance::serve::run(listener, Arc::clone(&app), shutdown.clone());
        let served = Some(tokio::spawn(serving));
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { app, clock, url, dir, shutdown, http, served }
    }

    /// Any request.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            tokio::time::timeout(PATIENCE, request.send()).await.expect("no answer").unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    /// POST as an executor with the shared token.
    pub async fn shared(&self, path: &str, body: &str) -> Answer {
        let authorization = format!("token-executor {SHARED}");
        self.call(Method::POST, path, &[("authorization", &authorization)], body.to_owned()).await
    }

    /// A new site configuration, in use when this returns.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.dir.path().join("site-config.jsonc"), config).unwrap();
        self.app.config.reload();
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Stops it and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let served = self.served.take().expect("it was started");
        tokio::time::timeout(PATIENCE, served).await.expect("it does not stop").unwrap()
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        look.tick().await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Status and whole body.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, body));
    }

    /// Status and a part of the body.
    #[track_caller]
    pub fn says(&self, status: u16, part: &str) {
        let text = self.text();
        assert!(self.status == status && text.contains(part), "{} {text:?}", self.status);
    }
}
