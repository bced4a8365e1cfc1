//! The registry of executors, as their heartbeats describe them.

use protocol::HeartbeatRequest;
use sqlx::AssertSqlSafe;

use crate::db::{Store, tame};
use crate::error::{Error, Result};
use crate::queue::contains;
use crate::wake::Topic;

/// An executor that was seen at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    /// Never used twice.
    pub id: i64,
    /// Unique name.
    pub name: String,
    /// Queues it serves.
    pub queues: Vec<String>,
    /// It asks on the multi-queue route.
    pub multi_queue: bool,
    /// Operating system in Go naming.
    pub os: String,
    /// Architecture in Go naming.
    pub architecture: String,
    /// Version of the container engine; empty if unknown, as the ones below.
    pub docker_version: String,
    /// Version of the executor.
    pub executor_version: String,
    /// Version of git.
    pub git_version: String,
    /// Version of the VMM wrapper of stock executors.
    pub ignite_version: String,
    /// Version of `src`.
    pub src_cli_version: String,
    /// Job slots; stock executors do not tell.
    pub capacity: Option<i64>,
    /// `qemu`, `firecracker`, `docker` or empty.
    pub runtime: String,
    /// `kvm`, `tcg` or empty.
    pub acceleration: String,
    /// It says that it takes no more jobs.
    pub draining: bool,
    /// The site admin wants it to drain.
    pub drain_requested: bool,
    /// Its last error that was not a job's own; empty if none.
    pub last_error: String,
    /// When that error was first reported.
    pub last_error_at: Option<i64>,
    /// First heartbeat.
    pub first_seen_at: i64,
    /// Last heartbeat.
    pub last_seen_at: i64,
}

/// Which executors to list.
#[derive(Clone, Debug, Default)]
pub struct ExecutorFilter {
    /// Part of name, queues, os, architecture or a version, any case; empty = all.
    pub query: String,
    /// Only those seen since then.
    pub seen_since: Option<i64>,
    /// Cursor, as in the original: executors passed over.
    pub offset: i64,
    /// At most this many; 0 means 50.
    pub limit: i64,
}

/// A page of executors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutorList {
    /// This page, first seen last first.
    pub executors: Vec<Executor>,
    /// On all pages.
    pub total: i64,
}

#[derive(sqlx::FromRow)]
struct ExecutorRow {
    id: i64,
    name: String,
    queues: String,
    multi_queue: i64,
    os: String,
    architecture: String,
    docker_version: String,
    executor_version: String,
    git_version: String,
    ignite_version: String,
    src_cli_version: String,
    capacity: Option<i64>,
    runtime: String,
    acceleration: String,
    draining: i64,
    drain_requested: i64,
    last_error: String,
    last_error_at: Option<i64>,
    first_seen_at: i64,
    last_seen_at: i64,
}

impl From<ExecutorRow> for Executor {
    fn from(row: ExecutorRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            queues: row.queues.split_whitespace().map(str::to_owned).collect(),
            multi_queue: row.multi_queue != 0,
            os: row.os,
            architecture: row.architecture,
            docker_version: row.docker_version,
            executor_version: row.executor_version,
            git_version: row.git_version,
            ignite_version: row.ignite_version,
            src_cli_version: row.src_cli_version,
            capacity: row.capacity,
            runtime: row.runtime,
            acceleration: row.acceleration,
            draining: row.draining != 0,
            drain_requested: row.drain_requested != 0,
            last_error: row.last_error,
            last_error_at: row.last_error_at,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
        }
    }
}

const SEARCH: &str = "($1 = '' OR lower(name) LIKE $1 ESCAPE '\\' OR queues LIKE $1 ESCAPE '\\' \
    OR lower(os) LIKE $1 ESCAPE '\\' OR lower(architecture) LIKE $1 ESCAPE '\\' \
    OR lower(docker_version) LIKE $1 ESCAPE '\\' OR lower(executor_version) LIKE $1 ESCAPE '\\' \
    OR lower(git_version) LIKE $1 ESCAPE '\\' OR lower(ignite_version) LIKE $1 ESCAPE '\\' \
    OR lower(src_cli_version) LIKE $1 ESCAPE '\\') AND last_seen_at >= $2";

impl Store {
    /// Records a heartbeat and returns whether the site admin wants the executor to drain. `queues`
    /// are the one of the route or those of the body.
    ///
    /// # Errors
    /// Database errors.
    pub async fn executor_heartbeat(
        &self,
        beat: &HeartbeatRequest,
        queues: &[String],
        multi_queue: bool,
        now: i64,
    ) -> Result<bool> {
        let stock = protocol::ext::AgentStatus::default();
        let agent = beat.agent.as_ref();
        let capacity = agent.map(|agent| agent.capacity);
        let agent = agent.unwrap_or(&stock);
        let drain: i64 = sqlx::query_scalar(
            "INSERT INTO executors (name, queues, multi_queue, os, architecture, docker_version, \
               executor_version, git_version, ignite_version, src_cli_version, capacity, runtime, \
               acceleration, draining, last_error, last_error_at, first_seen_at, last_seen_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
               CASE WHEN $15 = '' THEN NULL ELSE $16 END, $16, $16) \
             ON CONFLICT (name) DO UPDATE SET queues = $2, multi_queue = $3, os = $4, \
               architecture = $5, docker_version = $6, executor_version = $7, git_version = $8, \
               ignite_version = $9, src_cli_version = $10, capacity = $11, runtime = $12, \
               acceleration = $13, draining = $14, \
               last_error_at = CASE WHEN $15 = '' OR $15 = executors.last_error \
                 THEN executors.last_error_at ELSE $16 END, \
               last_error = CASE WHEN $15 = '' THEN executors.last_error ELSE $15 END, \
               last_seen_at = $16 \
             RETURNING drain_requested",
        )
        .bind(&beat.executor_name)
        .bind(queues.join(" "))
        .bind(i64::from(multi_queue))
        .bind(&*tame(&beat.os))
        .bind(&*tame(&beat.architecture))
        .bind(&*tame(&beat.docker_version))
        .bind(&*tame(&beat.executor_version))
        .bind(&*tame(&beat.git_version))
        .bind(&*tame(&beat.ignite_version))
        .bind(&*tame(&beat.src_cli_version))
        .bind(capacity)
        .bind(&*tame(&agent.runtime))
        .bind(&*tame(&agent.acceleration))
        .bind(i64::from(agent.draining))
        .bind(&*tame(&agent.last_error))
        .bind(now)
        .fetch_one(self.writer())
        .await?;
        if !beat.prometheus_metrics.is_empty() {
            self.keep_metrics(beat, now).await?;
        }
        self.bump(&[Topic::Executors]);
        Ok(drain != 0)
    }

    async fn keep_metrics(&self, beat: &HeartbeatRequest, now: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO executor_metrics (name, text, at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET text = $2, at = $3",
        )
        .bind(&beat.executor_name)
        .bind(&*tame(&beat.prometheus_metrics))
        .bind(now)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// Metrics that executors sent since `since`, by name: Prometheus text, as it came.
    ///
    /// # Errors
    /// Database errors.
    pub async fn executor_metrics(&self, since: i64) -> Result<Vec<(String, String)>> {
        Ok(sqlx::query_as("SELECT name, text FROM executor_metrics WHERE at >= $1 ORDER BY name")
            .bind(since)
            .fetch_all(self.read())
            .await?)
    }

    /// One executor.
    ///
    /// # Errors
    /// Database errors.
    pub async fn executor(&self, name: &str) -> Result<Option<Executor>> {
        let row: Option<ExecutorRow> = sqlx::query_as("SELECT * FROM executors WHERE name = $1")
            .bind(name)
            .fetch_optional(self.read())
            .await?;
        Ok(row.map(Executor::from))
    }

    /// A page of executors.
    ///
    /// # Errors
    /// Database errors.
    pub async fn executors(&self, filter: &ExecutorFilter) -> Result<ExecutorList> {
        let pattern = if filter.query.is_empty() { String::new() } else { contains(&filter.query) };
        let since = filter.seen_since.unwrap_or(i64::MIN);
        let limit = if filter.limit <= 0 { 50 } else { filter.limit };
        let count = format!("SELECT count(*) FROM executors WHERE {SEARCH}");
        let total = sqlx::query_scalar(AssertSqlSafe(count))
            .bind(&pattern)
            .bind(since)
            .fetch_one(self.read())
            .await?;
        let page = format!(
            "SELECT * FROM executors WHERE {SEARCH} ORDER BY first_seen_at DESC, id \
             LIMIT $3 OFFSET $4"
        );
        let rows: Vec<ExecutorRow> = sqlx::query_as(AssertSqlSafe(page))
            .bind(&pattern)
            .bind(since)
            .bind(limit)
            .bind(filter.offset.max(0))
            .fetch_all(self.read())
            .await?;
        Ok(ExecutorList { executors: rows.into_iter().map(Executor::from).collect(), total })
    }

    /// Asks an executor to drain, or no longer to. It hears of it at once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_drain(&self, name: &str, drain: bool) -> Result<()> {
        let done = sqlx::query("UPDATE executors SET drain_requested = $2 WHERE name = $1")
            .bind(name)
            .bind(i64::from(drain))
            .execute(self.writer())
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("executor", name));
        }
        self.bump(&[Topic::Executor(name.to_owned()), Topic::Executors]);
        Ok(())
    }

    /// Forgets executors that were last seen before `time`; returns how many.
    ///
    /// # Errors
    /// Database errors.
    pub async fn delete_executors_before(&self, time: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM executor_metrics WHERE at < $1")
            .bind(time)
            .execute(&mut *tx)
            .await?;
        let done = sqlx::query("DELETE FROM executors WHERE last_seen_at < $1")
            .bind(time)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if done.rows_affected() > 0 {
            self.bump(&[Topic::Executors]);
        }
        Ok(done.rows_affected())
    }
}
