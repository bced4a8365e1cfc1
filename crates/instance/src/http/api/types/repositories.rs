//! Repositories and images.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A repository to register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRepository {
    /// For example `example/app`.
    pub name: String,
    /// Where it is fetched from: an `https`, `http`, `ssh` or `git` URL, or a path on the server.
    pub url: String,
}

/// A registered repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Unique.
    pub name: String,
    /// Where it is fetched from, without credentials.
    pub url: String,
    /// `cloning`, `ready` or `error`.
    pub state: String,
    /// Why the last fetch failed; may be empty.
    pub error: String,
    /// Branch that a job gets when it names none; empty before the first fetch.
    pub default_branch: String,
    /// Size of the mirror.
    pub size_bytes: i64,
    /// Last successful fetch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_synced_at: Option<String>,
}

/// Answer of `GET /repositories`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryList {
    /// By name.
    pub repositories: Vec<Repository>,
}

/// An image in the instance's own registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// What a job file says: `executors.internal/NAME:TAG`.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: String,
    /// When the tag was last written.
    pub updated_at: String,
}

/// Answer of `GET /images`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// By reference.
    pub images: Vec<Image>,
}
