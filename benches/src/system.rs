//! The system under measurement, and what is the same for several measurements.

use std::time::{Duration, Instant};

use e2e::folder::Folder;
use e2e::http::client;
use e2e::instance::Instance;
use e2e::postgres::Postgres;
use serde_json::{Value, json};

use crate::samples::Samples;

/// An instance without jobs, on one of the two databases.
pub struct System {
    /// The instance.
    pub instance: Instance,
    /// Where its data is.
    pub folder: Folder,
    /// `SQLite` or `PostgreSQL`.
    pub database: &'static str,
    /// The server, when that is its database. Durable, as in production.
    pub postgres: Option<Postgres>,
}

impl System {
    /// On SQLite.
    pub async fn on_sqlite() -> Self {
        let folder = Folder::new();
        let instance = Instance::start(folder.path(), None).await;
        Self { instance, folder, database: "SQLite", postgres: None }
    }

    /// On a PostgreSQL of its own.
    pub async fn on_postgres() -> Self {
        let (folder, postgres) = (Folder::new(), Postgres::start(true).await);
        let instance = Instance::start(folder.path(), Some(postgres.url())).await;
        Self { instance, folder, database: "PostgreSQL", postgres: Some(postgres) }
    }

    /// Round trips of the smallest request over the loopback: what HTTP itself costs here and now.
    pub async fn round_trips(&self, count: usize) -> Samples {
        let (client, url) = (client(), format!("{}/healthz", self.instance.url()));
        let mut durations = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            let answer = client.get(&url).send().await.expect("the instance answers");
            let _ = answer.bytes().await.expect("a whole answer");
            durations.push(started.elapsed());
        }
        durations.into_iter().collect()
    }
}

/// The smallest job file.
pub fn smallest_job(queue: &str) -> Value {
    json!({
        "queue": queue,
        "steps": [{ "name": "main", "image": "executors.internal/busybox:1", "run": "true" }],
    })
}

/// How long a measured thing may take before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(300);
