//! `instance config get`.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

use super::Folder;
use crate::cli::output;
use crate::site_config::keys::KEYS;
use crate::site_config::{file, parse, redact};

/// Print the file, or the value of one key as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance config get
  instance config get jobs.retentionDays")]
pub struct Args {
    /// Only this key; its default when the file does not set it.
    key: Option<String>,
    #[command(flatten)]
    folder: Folder,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = file::path(&args.folder.data_dir);
    let text = file::read(&args.folder.data_dir)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = redact::redact(&text);
    match &args.key {
        None => output::line(text.trim_end())?,
        Some(name) => output::json(&value(&text, name)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The value in a redacted text. Redacted secrets do not pass the check, so they are filled first.
fn value(text: &str, name: &str) -> anyhow::Result<Value> {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        let near = parse::nearest(name, KEYS.iter().map(|key| key.name));
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        anyhow::bail!("unknown key {name}{hint}");
    };
    let filler = "x".repeat(crate::site_config::keys::MIN_TOKEN_LENGTH);
    let marked = format!("\"{}\"", redact::REDACTED);
    let mut values = parse::values(&text.replace(&marked, &format!("\"{filler}\"")))?;
    let shown = values[name].take().to_string().replace(&filler, redact::REDACTED);
    let value: Value = serde_json::from_str(&shown)?;
    Ok(if value.is_null() {
        serde_json::from_str(key.default).unwrap_or(Value::Null)
    } else {
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_defaults_and_secrets() {
        let text = redact::redact(
            r#"{"executors.accessToken": "live-secret-0123456789", "jobs.retentionDays": 3}"#,
        );
        assert_eq!(value(&text, "jobs.retentionDays").unwrap(), 3);
        assert_eq!(value(&text, "limits.memory").unwrap(), "64G");
        assert_eq!(value(&text, "executors.accessToken").unwrap(), "REDACTED");
        let error = value(&text, "limits.memmory").unwrap_err().to_string();
        assert_eq!(error, "unknown key limits.memmory; did you mean limits.memory?");
    }
}
