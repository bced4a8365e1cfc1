//! Accounts. Password hashes are made and checked by the caller; here they are text.

use crate::db::Store;
use crate::error::{Error, Result};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    SiteAdmin,
    /// Own jobs.
    User,
}

impl Role {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SiteAdmin => "site_admin",
            Self::User => "user",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SiteAdmin, Self::User].into_iter().find(|role| role.as_str() == name)
    }
}

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Never used twice.
    pub id: i64,
    /// Unique in any case.
    pub name: String,
    /// Argon2 in PHC format.
    pub password_hash: String,
    /// What the user may do.
    pub role: Role,
    /// When the account was made.
    pub created_at: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[derive(sqlx::FromRow)]
pub(crate) struct UserRow {
    id: i64,
    name: String,
    password_hash: String,
    role: String,
    created_at: i64,
}

impl UserRow {
    pub(crate) fn into_user(self) -> Result<User> {
        let role = Role::parse(&self.role)
            .ok_or_else(|| Error::Corrupt { what: "users.role", value: self.role.clone() })?;
        let Self { id, name, password_hash, created_at, .. } = self;
        Ok(User { id, name, password_hash, role, created_at })
    }
}

impl Store {
    /// Makes the first account, a site admin. `None` when there is an account already: of two that
    /// try at the same time one succeeds.
    ///
    /// # Errors
    /// Database errors.
    pub async fn create_first_admin(
        &self,
        name: &str,
        password_hash: &str,
        now: i64,
    ) -> Result<Option<i64>> {
        let mut tx = self.begin().await?;
        if self.backend() == crate::Backend::Postgres {
            sqlx::query("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        }
        let users: i64 =
            sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&mut *tx).await?;
        if users > 0 {
            return Ok(None);
        }
        let id = sqlx::query_scalar(
            "INSERT INTO users (name, password_hash, role, created_at) \
             VALUES ($1, $2, 'site_admin', $3) RETURNING id",
        )
        .bind(name)
        .bind(password_hash)
        .bind(now)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(id))
    }

    /// Whether the instance is set up.
    ///
    /// # Errors
    /// Database errors.
    pub async fn has_users(&self) -> Result<bool> {
        let id: Option<i64> =
            sqlx::query_scalar("SELECT id FROM users LIMIT 1").fetch_optional(self.read()).await?;
        Ok(id.is_some())
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`Error::Exists`] when the name is taken, in any case.
    pub async fn create_user(
        &self,
        name: &str,
        password_hash: &str,
        role: Role,
        now: i64,
    ) -> Result<i64> {
        sqlx::query_scalar(
            "INSERT INTO users (name, password_hash, role, created_at) VALUES ($1, $2, $3, $4) \
             RETURNING id",
        )
        .bind(name)
        .bind(password_hash)
        .bind(role.as_str())
        .bind(now)
        .fetch_one(self.writer())
        .await
        .map_err(|error| Error::or_exists(error, "user", name))
    }

    /// An account by id.
    ///
    /// # Errors
    /// Database errors.
    pub async fn user(&self, id: i64) -> Result<Option<User>> {
        let row: Option<UserRow> = sqlx::query_as("SELECT * FROM users WHERE id = $1")
            .bind(id)
            .fetch_optional(self.read())
            .await?;
        row.map(UserRow::into_user).transpose()
    }

    /// An account by name, in any case.
    ///
    /// # Errors
    /// Database errors.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>> {
        let row: Option<UserRow> =
            sqlx::query_as("SELECT * FROM users WHERE lower(name) = lower($1)")
                .bind(name)
                .fetch_optional(self.read())
                .await?;
        row.map(UserRow::into_user).transpose()
    }

    /// All accounts by name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn users(&self) -> Result<Vec<User>> {
        let rows: Vec<UserRow> = sqlx::query_as("SELECT * FROM users ORDER BY lower(name)")
            .fetch_all(self.read())
            .await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    /// Changes a password and ends all sessions of the account.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_password(&self, id: i64, password_hash: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1")
            .bind(id)
            .bind(password_hash)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("user", id));
        }
        sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Changes a role. The last site admin stays one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for the last site admin.
    pub async fn set_role(&self, id: i64, role: Role) -> Result<()> {
        let mut tx = self.begin().await?;
        self.keep_an_admin(&mut tx, id, role).await?;
        let done = sqlx::query("UPDATE users SET role = $2 WHERE id = $1")
            .bind(id)
            .bind(role.as_str())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("user", id));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes an account with its sessions and tokens. Its jobs stay. The last site admin stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for the last site admin.
    pub async fn delete_user(&self, id: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        self.keep_an_admin(&mut tx, id, Role::User).await?;
        let done =
            sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("user", id));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Refuses a change that would leave nobody in charge.
    async fn keep_an_admin(&self, tx: &mut crate::db::Tx, id: i64, role: Role) -> Result<()> {
        if role == Role::SiteAdmin {
            return Ok(());
        }
        let lock = self.backend().for_update();
        let sql = format!("SELECT id FROM users WHERE role = 'site_admin' ORDER BY id{lock}");
        let admins: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut **tx).await?;
        if admins == [id] {
            let problem = "this is the last site admin: make another one first".to_owned();
            return Err(Error::Invalid { field: "role", problem });
        }
        Ok(())
    }
}
