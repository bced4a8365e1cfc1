//! The git program behind a small type.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Settings every run gets on the command line, which wins over a repository's own configuration.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "safe.directory=*",
    "advice.detachedHead=false",
    "uploadpack.allowFilter=true",
    "uploadpack.allowAnySHA1InWant=true",
    "uploadpack.hideRefs=refs/mirror",
    "pack.windowMemory=100m",
];

/// Environment handed through: how to find programs, and how to reach the outside.
const PASSED: [&str; 9] = [
    "PATH",
    "HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// `git -C <dir>` with nothing of this machine's configuration. `protocols` is git's own allow-list,
/// for example `https:http`; empty = no transport at all.
pub(super) fn git(dir: &Path, protocols: &str) -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=15")
        .env("GIT_ALLOW_PROTOCOL", if protocols.is_empty() { "none" } else { protocols })
        .env("GIT_OPTIONAL_LOCKS", "0")
        .arg("-C")
        .arg(dir);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The end of what git said on stderr, as one line for a person.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> =
        text.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect();
    // Progress lines say nothing about the failure; `fatal:` and `error:` do.
    let telling: Vec<&str> = lines
        .iter()
        .copied()
        .filter(|l| ["fatal:", "error:", "remote:"].iter().any(|p| l.starts_with(p)))
        .collect();
    let chosen = if telling.is_empty() { &lines } else { &telling };
    let start = chosen.len().saturating_sub(3);
    let line = chosen[start..].join("; ");
    line.chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_cause_is_told_and_progress_is_not() {
        let text = b"Receiving objects: 10%\rReceiving objects: 11%\nfatal: early EOF\n";
        assert_eq!(last_words(text), "fatal: early EOF");
        assert_eq!(last_words(b"\x1b[31mnope\n"), "[31mnope");
        assert_eq!(last_words(b""), "");
    }
}
