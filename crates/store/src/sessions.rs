//! Sessions of people in a browser.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::secret::{self, PlainToken};
use crate::users::User;

/// A session at the moment it begins.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// For the cookie; in plain text here only.
    pub token: PlainToken,
    /// Secret for cross-site request forgery tokens of this session.
    pub csrf_secret: String,
}

/// A session that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// Secret for cross-site request forgery tokens.
    pub csrf_secret: String,
    /// When it ends by itself.
    pub expires_at: i64,
}

impl Store {
    /// Begins a session that ends by itself after `ttl_ms`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn create_session(&self, user_id: i64, ttl_ms: i64, now: i64) -> Result<NewSession> {
        let token = PlainToken::generate();
        let csrf_secret = PlainToken::generate().expose().to_owned();
        sqlx::query(
            "INSERT INTO sessions (token_hash, user_id, csrf_secret, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(secret::hash(token.expose()))
        .bind(user_id)
        .bind(&csrf_secret)
        .bind(now)
        .bind(now + ttl_ms)
        .execute(self.writer())
        .await
        .map_err(|error| Error::or_no_user(error, user_id))?;
        Ok(NewSession { token, csrf_secret })
    }

    /// The session of a token, if it holds at `now`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn session(&self, token: &str, now: i64) -> Result<Option<Session>> {
        let row: Option<(i64, String, i64)> = sqlx::query_as(
            "SELECT user_id, csrf_secret, expires_at FROM sessions \
             WHERE token_hash = $1 AND expires_at > $2",
        )
        .bind(secret::hash(token))
        .bind(now)
        .fetch_optional(self.read())
        .await?;
        let Some((user_id, csrf_secret, expires_at)) = row else { return Ok(None) };
        let user = self.user(user_id).await?;
        Ok(user.map(|user| Session { user, csrf_secret, expires_at }))
    }

    /// Lets a session last until `expires_at`, because it is in use. An unknown token is no error.
    ///
    /// # Errors
    /// Database errors.
    pub async fn extend_session(&self, token: &str, expires_at: i64) -> Result<()> {
        sqlx::query("UPDATE sessions SET expires_at = $2 WHERE token_hash = $1")
            .bind(secret::hash(token))
            .bind(expires_at)
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Ends a session. An unknown token is no error.
    ///
    /// # Errors
    /// Database errors.
    pub async fn end_session(&self, token: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
            .bind(secret::hash(token))
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// Database errors.
    pub async fn end_sessions(&self, user_id: i64) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE user_id = $1")
            .bind(user_id)
            .execute(self.writer())
            .await?;
        Ok(())
    }
}
