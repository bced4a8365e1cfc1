//! Connections. Reads go to a pool; on SQLite writes go through one connection of their own, which
//! makes writers wait in a fair line in this process instead of polling on a busy database.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, Connection as _, Transaction};

use crate::error::{Error, Result};
use crate::wake::Wake;
use crate::{migrate, wake};

/// A write transaction.
pub(crate) type Tx = Transaction<'static, Any>;

/// Which database is behind the store. The SQL is the same; only lock clauses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Embedded, one machine.
    Sqlite,
    /// A server, any number of replicas.
    Postgres,
}

impl Backend {
    /// Locks the selected rows until the transaction ends. SQLite's write lock covers everything.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// As [`Self::for_update`], passing over rows that somebody else holds.
    pub(crate) fn for_update_skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Keeps [`Self::for_update`] of others away and nothing else.
    pub(crate) fn for_key_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR KEY SHARE",
        }
    }
}

/// The database of an instance. Cheap to clone; all clones share connections and wake-ups.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    read: AnyPool,
    write: AnyPool,
    wake: Wake,
    bridge: Option<wake::postgres::Bridge>,
}

/// Readers on SQLite, all connections on PostgreSQL.
const MAX_CONNECTIONS: u32 = 16;
/// A connection of PostgreSQL that rested no longer than this is used without a question.
const TRUSTED_FOR: Duration = Duration::from_secs(5);
/// How long SQLite waits for a writer of another process.
const BUSY_TIMEOUT_MS: u32 = 15_000;

impl Store {
    /// Opens `sqlite:PATH` (created when missing), a bare path, or `postgres://…`, and migrates it.
    ///
    /// SQLite runs in WAL mode with `synchronous=NORMAL`: nothing is lost when the process is killed;
    /// a power cut may lose the last moments, which peers repeat.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::NewerDatabase`] and database errors.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let (backend, url) = parse(url)?;
        let options = AnyConnectOptions::from_str(&url)
            .map_err(|_| Error::Url { problem: "it cannot be parsed".into() })?;
        let pool = |size: u32| pool_options(backend, size).connect_lazy_with(options.clone());
        let write = pool(if backend == Backend::Sqlite { 1 } else { MAX_CONNECTIONS });
        migrate::run(backend, &write).await?;
        let read = match backend {
            Backend::Sqlite => pool(MAX_CONNECTIONS),
            Backend::Postgres => write.clone(),
        };
        let wake = Wake::default();
        let bridge = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                Some(wake::postgres::Bridge::start(&url, write.clone(), wake.clone()).await?)
            }
        };
        Ok(Self { inner: Arc::new(Inner { backend, read, write, wake, bridge }) })
    }

    /// Which database is behind the store.
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    /// The database answers. For `/readyz`.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(self.read()).await?;
        Ok(())
    }

    /// Ends the connections after what runs on them.
    pub async fn close(&self) {
        self.inner.read.close().await;
        self.inner.write.close().await;
    }

    /// For statements that only read.
    pub(crate) fn read(&self) -> &AnyPool {
        &self.inner.read
    }

    /// For single statements that write.
    pub(crate) fn writer(&self) -> &AnyPool {
        &self.inner.write
    }

    /// A transaction that writes. On SQLite it takes the write lock at once (`BEGIN IMMEDIATE`), so
    /// that what it reads is still true when it writes.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(match self.inner.backend {
            Backend::Sqlite => self.inner.write.begin_with("BEGIN IMMEDIATE").await?,
            Backend::Postgres => self.inner.write.begin().await?,
        })
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    /// Wakes those who wait for `topics`, here and in other replicas. Call it after the commit.
    pub(crate) fn bump(&self, topics: &[wake::Topic]) {
        for topic in topics {
            self.inner.wake.bump(topic);
            if let Some(bridge) = &self.inner.bridge {
                bridge.send(topic);
            }
        }
    }
}

fn pool_options(backend: Backend, size: u32) -> AnyPoolOptions {
    let options = AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false);
    match backend {
        // A connection in constant use is known to live; asking it each time would double round trips.
        Backend::Postgres => options.before_acquire(|connection, meta| {
            Box::pin(
                async move { Ok(meta.idle_for < TRUSTED_FOR || connection.ping().await.is_ok()) },
            )
        }),
        // A closed and reopened SQLite connection loses its page cache and gains nothing.
        Backend::Sqlite => options.idle_timeout(None).max_lifetime(None).after_connect(|c, _| {
            Box::pin(async move {
                sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
                    "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; \
                     PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
                     PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864;"
                )))
                .execute(c)
                .await?;
                Ok(())
            })
        }),
    }
}

/// The kind of database and the URL as the driver wants it.
fn parse(url: &str) -> Result<(Backend, String)> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((Backend::Postgres, url.to_owned()));
    }
    let path = match url.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((scheme, _)) if !scheme.contains('/') => {
            return Err(Error::Url { problem: format!("scheme {scheme:?} is unknown") });
        }
        _ => url,
    };
    if path.is_empty() || path.starts_with(":memory:") {
        return Err(Error::Url { problem: "the path of the database file is empty".into() });
    }
    let mut escaped = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '%' => escaped.push_str("%25"),
            '?' => escaped.push_str("%3F"),
            '#' => escaped.push_str("%23"),
            c => escaped.push(c),
        }
    }
    Ok((Backend::Sqlite, format!("sqlite:{escaped}?mode=rwc")))
}

/// Text from a hostile program, such as PostgreSQL can hold it: NUL becomes U+FFFD.
pub(crate) fn tame(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Ends a transaction without effect and answers. Dropping it would free its locks a little later, and
/// until then claims would pass over the rows.
pub(crate) async fn give_up<T>(tx: Tx, answer: Result<T>) -> Result<T> {
    tx.rollback().await?;
    answer
}

/// `$first, $first+1, …`: `count` placeholders for an `IN` list.
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let list: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        let sqlite = |url| parse(url).expect("a valid url").1;
        assert_eq!(sqlite("/var/lib/x.db"), "sqlite:/var/lib/x.db?mode=rwc");
        assert_eq!(sqlite("sqlite:///a b?c#d%.db"), "sqlite:/a b%3Fc%23d%25.db?mode=rwc");
        assert_eq!(parse("postgres://h/d").expect("valid").0, Backend::Postgres);
        let error = parse("mysql://user:secret@h/d").expect_err("unknown").to_string();
        assert!(error.contains("mysql") && !error.contains("secret"), "{error}");
        assert!(parse("sqlite:").is_err());
    }
}
