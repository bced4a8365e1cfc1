//! Repositories that the instance keeps as bare mirrors.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::wake::Topic;

/// What is known about the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryState {
    /// The first fetch has not ended yet.
    Cloning,
    /// The mirror can be used.
    Ready,
    /// The last fetch failed; an earlier one may still serve.
    Error,
}

impl RepositoryState {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cloning => "cloning",
            Self::Ready => "ready",
            Self::Error => "error",
        }
    }
}

/// A repository to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRepository {
    /// Unique name, as jobs and routes say it.
    pub name: String,
    /// URL or path the mirror is fetched from.
    pub upstream: String,
    /// Empty = learned by the first fetch.
    pub default_branch: String,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Never used twice.
    pub id: i64,
    /// Unique name.
    pub name: String,
    /// URL or path the mirror is fetched from. May hold credentials: not for everybody's eyes.
    pub upstream: String,
    /// Empty until known.
    pub default_branch: String,
    /// What is known about the mirror.
    pub state: RepositoryState,
    /// Why the last fetch failed.
    pub error: String,
    /// Bytes of the mirror.
    pub size_bytes: i64,
    /// When it was added.
    pub created_at: i64,
    /// Last successful fetch.
    pub last_synced_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct RepositoryRow {
    id: i64,
    name: String,
    upstream: String,
    default_branch: String,
    state: String,
    error: String,
    size_bytes: i64,
    created_at: i64,
    last_synced_at: Option<i64>,
}

impl From<RepositoryRow> for Repository {
    fn from(row: RepositoryRow) -> Self {
        let state = match row.state.as_str() {
            "ready" => RepositoryState::Ready,
            "error" => RepositoryState::Error,
            // The table's check lets nothing else through.
            _ => RepositoryState::Cloning,
        };
        Self {
            id: row.id,
            name: row.name,
            upstream: row.upstream,
            default_branch: row.default_branch,
            state,
            error: row.error,
            size_bytes: row.size_bytes,
            created_at: row.created_at,
            last_synced_at: row.last_synced_at,
        }
    }
}

impl Store {
    /// Adds a repository in the state `cloning`.
    ///
    /// # Errors
    /// [`Error::Exists`] when the name is taken.
    pub async fn add_repository(&self, new: &NewRepository, now: i64) -> Result<i64> {
        let id = sqlx::query_scalar(
            "INSERT INTO repositories (name, upstream, default_branch, state, created_at) \
             VALUES ($1, $2, $3, 'cloning', $4) RETURNING id",
        )
        .bind(&new.name)
        .bind(&new.upstream)
        .bind(&new.default_branch)
        .bind(now)
        .fetch_one(self.writer())
        .await
        .map_err(|error| Error::or_exists(error, "repository", &new.name))?;
        self.bump(&[Topic::Repositories]);
        Ok(id)
    }

    /// A repository by name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn repository(&self, name: &str) -> Result<Option<Repository>> {
        let row: Option<RepositoryRow> =
            sqlx::query_as("SELECT * FROM repositories WHERE name = $1")
                .bind(name)
                .fetch_optional(self.read())
                .await?;
        Ok(row.map(Repository::from))
    }

    /// All repositories by name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn repositories(&self) -> Result<Vec<Repository>> {
        let rows: Vec<RepositoryRow> = sqlx::query_as("SELECT * FROM repositories ORDER BY name")
            .fetch_all(self.read())
            .await?;
        Ok(rows.into_iter().map(Repository::from).collect())
    }

    /// A fetch succeeded.
    ///
    /// # Errors
    /// [`Error::NotFound`], for example when it was removed meanwhile.
    pub async fn repository_ready(
        &self,
        name: &str,
        default_branch: &str,
        size_bytes: i64,
        now: i64,
    ) -> Result<()> {
        let done = sqlx::query(
            "UPDATE repositories SET state = 'ready', error = '', default_branch = $2, \
               size_bytes = $3, last_synced_at = $4 WHERE name = $1",
        )
        .bind(name)
        .bind(default_branch)
        .bind(size_bytes)
        .bind(now)
        .execute(self.writer())
        .await?;
        self.repository_changed(name, done.rows_affected())
    }

    /// A fetch failed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn repository_failed(&self, name: &str, message: &str) -> Result<()> {
        let done =
            sqlx::query("UPDATE repositories SET state = 'error', error = $2 WHERE name = $1")
                .bind(name)
                .bind(message)
                .execute(self.writer())
                .await?;
        self.repository_changed(name, done.rows_affected())
    }

    /// Changes where a repository is fetched from; it is `cloning` until the next fetch.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_upstream(&self, name: &str, upstream: &str) -> Result<()> {
        let done = sqlx::query(
            "UPDATE repositories SET state = 'cloning', error = '', upstream = $2 WHERE name = $1",
        )
        .bind(name)
        .bind(upstream)
        .execute(self.writer())
        .await?;
        self.repository_changed(name, done.rows_affected())
    }

    /// Removes a repository; its jobs stay. False when there was none.
    ///
    /// # Errors
    /// Database errors.
    pub async fn remove_repository(&self, name: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM repositories WHERE name = $1")
            .bind(name)
            .execute(self.writer())
            .await?;
        self.bump(&[Topic::Repositories]);
        Ok(done.rows_affected() > 0)
    }

    fn repository_changed(&self, name: &str, rows: u64) -> Result<()> {
        if rows == 0 {
            return Err(Error::not_found("repository", name));
        }
        self.bump(&[Topic::Repositories]);
        Ok(())
    }
}
