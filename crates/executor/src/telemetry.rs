//! Versions that the instance shows, gathered once at start.

use std::time::Duration;

use protocol::HeartbeatRequest;
use tokio::process::Command;

/// Starting must not wait longer for a program that hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// The part of a heartbeat that names versions; `engine` is that of the container engine, if one is used.
pub async fn gather(engine: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        os: std::env::consts::OS.to_owned(),
        architecture: go_architecture(std::env::consts::ARCH).to_owned(),
        executor_version: env!("CARGO_PKG_VERSION").to_owned(),
        docker_version: engine.to_owned(),
        git_version: git_version().await.unwrap_or_default(),
        ..HeartbeatRequest::default()
    }
}

/// Output of `git version` without its first words; `None` if there is no working git.
pub async fn git_version() -> Option<String> {
    let output = Command::new("git").arg("version").kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT, output).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix("git version ").map(str::to_owned)
}

fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn versions_have_the_words_of_go() {
        let telemetry = gather("").await;
        assert_eq!(telemetry.os, "linux");
        assert!(matches!(telemetry.architecture.as_str(), "amd64" | "arm64"));
        assert!(telemetry.git_version.starts_with(|c: char| c.is_ascii_digit()));
    }
}
