//! The job document, format v1 and v2.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::ext::JobExtensions;
use crate::nullable::or_default;

/// Go's zero time, which means "unset" on the wire.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Format of the job document; v2 has base64 file content and `dockerAuthConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobVersion {
    /// Plain-text file content; no `version`, no `dockerAuthConfig`.
    V1,
    /// Base64 file content.
    V2,
}

/// A job as the executor runs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// Unique within its queue.
    pub id: i64,
    /// Job token, empty from old instances.
    pub token: String,
    /// Set by the multi-queue dequeue only.
    pub queue: String,
    /// Full repository name; empty = no clone.
    pub repository_name: String,
    /// Where to clone, relative to the workspace; empty = its root.
    pub repository_directory: String,
    /// Revision to fetch and check out.
    pub commit: String,
    /// Fetch tags as well.
    pub fetch_tags: bool,
    /// Depth 1.
    pub shallow_clone: bool,
    /// No-cone sparse patterns; empty = everything.
    pub sparse_checkout: Vec<String>,
    /// Files to put into the workspace, by path relative to it.
    pub files: BTreeMap<String, VirtualFile>,
    /// Container steps, run in order.
    pub docker_steps: Vec<DockerStep>,
    /// `src` commands, run after all container steps.
    pub cli_steps: Vec<CliStep>,
    /// Secret value to its replacement in logs.
    pub redacted_values: BTreeMap<String, String>,
    /// Registry credentials (v2).
    pub docker_auth_config: DockerAuthConfig,
    /// Ours; `None` from or to a stock peer.
    pub extensions: Option<JobExtensions>,
}

/// A file of the workspace: literal content, or a reference to the files route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualFile {
    /// Literal content; ignored when `bucket` and `key` are set.
    pub content: Vec<u8>,
    /// With `key`: fetch `GET /.executors/files/<bucket>/<key>`.
    pub bucket: String,
    /// See `bucket`.
    pub key: String,
    /// RFC 3339; [`ZERO_TIME`] or empty = unset.
    pub modified_at: String,
}

/// A container step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerStep {
    /// Names the log entry (`step.docker.<key>`); empty = its index.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub key: String,
    /// Image reference.
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    /// Shell lines; joined by newline into one script.
    #[serde(deserialize_with = "or_default")]
    pub commands: Vec<String>,
    /// Working directory relative to the workspace.
    #[serde(deserialize_with = "or_default")]
    pub dir: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
}

/// A `src` command. The field is `command` (singular) on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CliStep {
    /// Names the log entry (`step.src.<key>`); empty = its index.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub key: String,
    /// Arguments of `src`.
    #[serde(rename = "command", deserialize_with = "or_default")]
    pub command: Vec<String>,
    /// Working directory relative to the workspace.
    #[serde(deserialize_with = "or_default")]
    pub dir: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
}

/// Registry credentials in the format of `~/.docker/config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerAuthConfig {
    /// By registry host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub auths: BTreeMap<String, DockerAuth>,
}

/// Credentials for one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerAuth {
    /// Base64 of `user:password`.
    #[serde(deserialize_with = "or_default")]
    pub auth: String,
}

impl DockerAuth {
    /// User and password; `None` when the value is not base64 of `user:password`.
    pub fn credentials(&self) -> Option<(String, String)> {
        let text = String::from_utf8(BASE64.decode(self.auth.trim()).ok()?).ok()?;
        let (user, password) = text.trim_end_matches('\n').split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }
}

/// Why a job document could not be read.
#[derive(Debug)]
pub enum DecodeError {
    /// Not JSON, or a field of the wrong type.
    Json(serde_json::Error),
    /// A v2 file whose content is not base64.
    Content {
        /// Path of the file.
        path: String,
    },
    /// A credential that is not base64 of `user:password`.
    Auth {
        /// Registry host.
        registry: String,
    },
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(e) => write!(f, "job document: {e}"),
            Self::Content { path } => {
                write!(f, "job document: files[{path:?}].content is not base64")
            }
            Self::Auth { registry } => write!(
                f,
                "job document: dockerAuthConfig.auths[{registry:?}].auth is not base64 of user:password"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl Job {
    /// Reads a job document; `version: 2` selects v2, anything else v1.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireJob = serde_json::from_slice(json)?;
        let v2 = wire.version == Some(2);
        let mut files = BTreeMap::new();
        for (path, file) in wire.files.unwrap_or_default() {
            files.insert(path.clone(), file.into_file(&path, v2)?);
        }
        for (registry, auth) in &wire.docker_auth_config.auths {
            if auth.credentials().is_none() {
                return Err(DecodeError::Auth { registry: registry.clone() });
            }
        }
        Ok(Self {
            id: wire.id,
            token: wire.token,
            queue: wire.queue,
            repository_name: wire.repository_name,
            repository_directory: wire.repository_directory,
            commit: wire.commit,
            fetch_tags: wire.fetch_tags,
            shallow_clone: wire.shallow_clone,
            sparse_checkout: wire.sparse_checkout.unwrap_or_default(),
            files,
            docker_steps: wire.docker_steps.unwrap_or_default(),
            cli_steps: wire.cli_steps.unwrap_or_default(),
            redacted_values: wire.redacted_values.unwrap_or_default(),
            docker_auth_config: wire.docker_auth_config,
            extensions: wire.extensions,
        })
    }

    /// Writes the document with the exact nulls and omissions of the original.
    /// Content that is not UTF-8 cannot survive v1; it is replaced lossily there, as in the original.
    pub fn encode(&self, version: JobVersion) -> serde_json::Value {
        let v2 = version == JobVersion::V2;
        let list = |v: &[String]| if v.is_empty() { None } else { Some(v.to_vec()) };
        let wire = WireJobOut {
            version: v2.then_some(2),
            id: self.id,
            token: &self.token,
            queue: &self.queue,
            repository_name: &self.repository_name,
            repository_directory: &self.repository_directory,
            commit: &self.commit,
            fetch_tags: self.fetch_tags,
            shallow_clone: self.shallow_clone,
            sparse_checkout: list(&self.sparse_checkout),
            files: self
                .files
                .iter()
                .map(|(path, file)| (path.as_str(), WireFileOut::from_file(file, v2)))
                .collect(),
            docker_steps: (!self.docker_steps.is_empty()).then_some(&self.docker_steps),
            cli_steps: (!self.cli_steps.is_empty()).then_some(&self.cli_steps),
            redacted_values: (!self.redacted_values.is_empty()).then_some(&self.redacted_values),
            docker_auth_config: v2.then_some(&self.docker_auth_config),
            extensions: self.extensions.as_ref(),
        };
        serde_json::to_value(wire).expect("a job document has string keys and no failing type")
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireJob {
    version: Option<i64>,
    id: i64,
    #[serde(deserialize_with = "or_default")]
    token: String,
    #[serde(deserialize_with = "or_default")]
    queue: String,
    #[serde(deserialize_with = "or_default")]
    repository_name: String,
    #[serde(deserialize_with = "or_default")]
    repository_directory: String,
    #[serde(deserialize_with = "or_default")]
    commit: String,
    #[serde(deserialize_with = "or_default")]
    fetch_tags: bool,
    #[serde(deserialize_with = "or_default")]
    shallow_clone: bool,
    sparse_checkout: Option<Vec<String>>,
    files: Option<BTreeMap<String, WireFile>>,
    docker_steps: Option<Vec<DockerStep>>,
    cli_steps: Option<Vec<CliStep>>,
    redacted_values: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "or_default")]
    docker_auth_config: DockerAuthConfig,
    extensions: Option<JobExtensions>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireJobOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    id: i64,
    token: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    queue: &'a str,
    repository_name: &'a str,
    repository_directory: &'a str,
    commit: &'a str,
    fetch_tags: bool,
    shallow_clone: bool,
    sparse_checkout: Option<Vec<String>>,
    files: BTreeMap<&'a str, WireFileOut<'a>>,
    docker_steps: Option<&'a Vec<DockerStep>>,
    cli_steps: Option<&'a Vec<CliStep>>,
    redacted_values: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docker_auth_config: Option<&'a DockerAuthConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a JobExtensions>,
}

/// Up to 4.0 a file was a plain string.
#[derive(Deserialize)]
#[serde(untagged)]
enum WireFile {
    Plain(String),
    Object(WireFileObject),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireFileObject {
    #[serde(deserialize_with = "or_default")]
    content: String,
    #[serde(deserialize_with = "or_default")]
    bucket: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    modified_at: String,
}

impl WireFile {
    fn into_file(self, path: &str, v2: bool) -> Result<VirtualFile, DecodeError> {
        let object = match self {
            Self::Plain(text) => {
                return Ok(VirtualFile { content: text.into_bytes(), ..VirtualFile::default() });
            }
            Self::Object(object) => object,
        };
        let content = if v2 {
            BASE64
                .decode(&object.content)
                .map_err(|_| DecodeError::Content { path: path.to_owned() })?
        } else {
            object.content.into_bytes()
        };
        Ok(VirtualFile {
            content,
            bucket: object.bucket,
            key: object.key,
            modified_at: object.modified_at,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireFileOut<'a> {
    #[serde(skip_serializing_if = "String::is_empty")]
    content: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    bucket: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    modified_at: &'a str,
}

impl<'a> WireFileOut<'a> {
    fn from_file(file: &'a VirtualFile, v2: bool) -> Self {
        let content = if v2 {
            BASE64.encode(&file.content)
        } else {
            String::from_utf8_lossy(&file.content).into_owned()
        };
        let modified_at =
            if file.modified_at.is_empty() { ZERO_TIME } else { file.modified_at.as_str() };
        Self { content, bucket: &file.bucket, key: &file.key, modified_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_job_has_the_nulls_of_the_original() {
        let job = Job { id: 317, token: "9a41c0".into(), ..Job::default() };
        let v1 = json!({"id":317,"token":"9a41c0","repositoryName":"","repositoryDirectory":"",
            "commit":"","fetchTags":false,"shallowClone":false,"sparseCheckout":null,"files":{},
            "dockerSteps":null,"cliSteps":null,"redactedValues":null});
        assert_eq!(job.encode(JobVersion::V1), v1);
        let mut v2 = v1;
        v2["version"] = json!(2);
        v2["dockerAuthConfig"] = json!({});
        assert_eq!(job.encode(JobVersion::V2), v2);
    }

    #[test]
    fn a_minimal_body_decodes() {
        assert_eq!(Job::decode(br#"{"id":317}"#).unwrap().id, 317);
    }

    #[test]
    fn v1_content_is_plain_and_v2_is_base64() {
        let v1 = Job::decode(br#"{"id":1,"files":{"a":{"content":"{}"},"b":"old"}}"#).unwrap();
        assert_eq!(v1.files["a"].content, b"{}");
        assert_eq!(v1.files["b"].content, b"old");
        let v2 = Job::decode(br#"{"version":2,"id":1,"files":{"a":{"content":"e30="}}}"#).unwrap();
        assert_eq!(v2.files["a"].content, b"{}");
        let bad = Job::decode(br#"{"version":2,"id":1,"files":{"a":{"content":"{}"}}}"#);
        assert!(bad.unwrap_err().to_string().contains("\"a\""));
    }

    #[test]
    fn a_full_job_survives_both_ways() {
        let text = r#"{"version":2,"id":32,"token":"t","queue":"codeintel",
          "repositoryName":"git.example/acme/app","repositoryDirectory":"repository",
          "commit":"4b825dc642cb6eb9a060e54bf8d69288fbee4904","fetchTags":false,"shallowClone":true,
          "sparseCheckout":["svc/api/*"],
          "files":{"b/c.sh":{"bucket":"batch-changes","key":"S/F","modifiedAt":"2023-01-02T03:04:05Z"}},
          "dockerSteps":[{"key":"pre-index.0","image":"alpine:3","commands":["ls"],"dir":"","env":["A=B"]}],
          "cliSteps":[{"key":"x","command":["version"],"dir":".","env":[]}],
          "redactedValues":{"s3cret":"${{ secrets.K }}"},
          "dockerAuthConfig":{"auths":{"reg.example":{"auth":"dTpw"}}}}"#;
        let job = Job::decode(text.as_bytes()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(job.encode(JobVersion::V2), expected);
        let auth = &job.docker_auth_config.auths["reg.example"];
        assert_eq!(auth.credentials(), Some(("u".into(), "p".into())));
    }
}
