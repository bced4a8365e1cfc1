//! Text → types, every value with its place.

use std::collections::BTreeMap;

use serde::Deserialize;
pub(super) use serde_saphyr::Spanned;

use crate::problems::{Problem, Problems};

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJob {
    #[serde(default)]
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub repository: Option<Spanned<String>>,
    #[serde(default)]
    pub revision: Option<Spanned<String>>,
    pub steps: Spanned<Vec<RawStep>>,
    #[serde(default)]
    pub files: Option<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    pub artifacts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub resources: Option<RawResources>,
    #[serde(default)]
    pub timeout: Option<Spanned<String>>,
    #[serde(default)]
    pub priority: Option<Spanned<i64>>,
    #[serde(default)]
    pub queue: Option<Spanned<String>>,
    #[serde(default)]
    pub network: Option<Spanned<String>>,
    #[serde(default)]
    pub on_failure: Option<Spanned<String>>,
}

/// A step as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    #[serde(default)]
    pub name: Option<Spanned<String>>,
    pub image: Spanned<String>,
    pub run: Spanned<String>,
    #[serde(default)]
    pub env: Option<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    pub dir: Option<Spanned<String>>,
}

/// Resources as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResources {
    #[serde(default)]
    pub cpus: Option<Spanned<u32>>,
    #[serde(default)]
    pub memory: Option<Spanned<String>>,
    #[serde(default)]
    pub disk: Option<Spanned<String>>,
    #[serde(default)]
    pub processes: Option<Spanned<u32>>,
}

/// Parses the text. The reader refuses repeated keys and alias bombs by itself.
pub(super) fn read(text: &str) -> Result<RawJob, Problems> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) =
            error.location().map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
        let message = first_line(&error.to_string());
        Problems(vec![Problem { line, column, path: String::new(), message }])
    })
}

/// The reader's messages end with a place of their own; ours stands in front already.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
