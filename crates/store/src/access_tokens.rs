//! Access tokens of people for the API.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::secret::{self, PlainToken};
use crate::users::User;

/// A token as its owner sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AccessToken {
    /// Never used twice.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// What it is for, in the owner's words.
    pub note: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was used last, to the minute.
    pub last_used_at: Option<i64>,
    /// Since when it is refused.
    pub revoked_at: Option<i64>,
}

/// A token at the moment it is made.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Its id.
    pub id: i64,
    /// To be shown once.
    pub token: PlainToken,
}

/// Uses within this time of each other are written once.
const USE_RESOLUTION_MS: i64 = 60_000;

const COLUMNS: &str = "id, user_id, note, created_at, last_used_at, revoked_at";

impl Store {
    /// Makes a token.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn create_access_token(
        &self,
        user_id: i64,
        note: &str,
        now: i64,
    ) -> Result<NewAccessToken> {
        let token = PlainToken::generate();
        let id = sqlx::query_scalar(
            "INSERT INTO access_tokens (user_id, note, token_hash, created_at) \
             VALUES ($1, $2, $3, $4) RETURNING id",
        )
        .bind(user_id)
        .bind(note)
        .bind(secret::hash(token.expose()))
        .bind(now)
        .fetch_one(self.writer())
        .await
        .map_err(|error| Error::or_no_user(error, user_id))?;
        Ok(NewAccessToken { id, token })
    }

    /// Who a token speaks for; `None` when it is unknown or revoked. Notes the use.
    ///
    /// # Errors
    /// Database errors.
    pub async fn user_by_access_token(
        &self,
        token: &str,
        now: i64,
    ) -> Result<Option<(AccessToken, User)>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM access_tokens WHERE token_hash = $1 AND revoked_at IS NULL"
        );
        let found: Option<AccessToken> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(secret::hash(token))
            .fetch_optional(self.read())
            .await?;
        let Some(found) = found else { return Ok(None) };
        if found.last_used_at.is_none_or(|used| now - used >= USE_RESOLUTION_MS) {
            sqlx::query("UPDATE access_tokens SET last_used_at = $2 WHERE id = $1")
                .bind(found.id)
                .bind(now)
                .execute(self.writer())
                .await?;
        }
        let user = self.user(found.user_id).await?;
        Ok(user.map(|user| (found, user)))
    }

    /// Tokens of a user, newest first, revoked ones too.
    ///
    /// # Errors
    /// Database errors.
    pub async fn access_tokens(&self, user_id: i64) -> Result<Vec<AccessToken>> {
        let sql =
            format!("SELECT {COLUMNS} FROM access_tokens WHERE user_id = $1 ORDER BY id DESC");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(user_id).fetch_all(self.read()).await?)
    }

    /// Revokes a token of a user. False when there is no such token, or it was revoked before.
    ///
    /// # Errors
    /// Database errors.
    pub async fn revoke_access_token(&self, user_id: i64, id: i64, now: i64) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE access_tokens SET revoked_at = $3 \
             WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(user_id)
        .bind(now)
        .execute(self.writer())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

impl Error {
    /// Turns a broken reference to a user into [`Error::NotFound`].
    pub(crate) fn or_no_user(error: sqlx::Error, user_id: i64) -> Self {
        match error.as_database_error() {
            Some(db) if db.is_foreign_key_violation() => Self::not_found("user", user_id),
            _ => Self::from(error),
        }
    }
}
