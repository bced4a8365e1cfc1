//! Users and their access tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Unique.
    pub name: String,
    /// `site_admin` or `user`.
    pub role: String,
    /// When it was created.
    pub created_at: String,
}

/// Answer of `GET /users`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountList {
    /// By name.
    pub users: Vec<Account>,
}

/// A user to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// 1 to 64 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// At least 10 characters.
    pub password: String,
    /// `site_admin` or `user`, the default.
    #[serde(default)]
    pub role: Option<String>,
}

/// What to change of a user; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateAccount {
    /// A new password; ends the user's sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `site_admin` or `user`; site admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A token to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub note: String,
}

/// An access token, without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// To revoke it by.
    pub id: i64,
    /// Whose it is.
    pub user: String,
    /// What it is for.
    pub note: String,
    /// When it was created.
    pub created_at: String,
    /// Last use, to within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

/// Answer of `GET /users/{name}/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<Token>,
}

/// A new access token; its value is shown this once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    pub token: Token,
    /// For the header `Authorization: token …`.
    pub value: String,
}
