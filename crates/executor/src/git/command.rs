//! The git program, hardened: no configuration but ours, no hooks, no prompts, no protocol but the
//! one that a call needs. Arguments are never a shell string; credentials are never arguments.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// Error output kept for messages.
const STDERR_LIMIT: usize = 64 * 1024;

/// Settings of every call, as `key=value` of git's configuration.
const SETTINGS: &[(&str, &str)] = &[
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.logAllRefUpdates", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "false"),
    ("protocol.version", "2"),
    ("transfer.fsckObjects", "true"),
    // Flaws of old but honest histories; what is dangerous stays an error.
    ("fetch.fsck.zeroPaddedFilemode", "warn"),
    ("fetch.fsck.missingSpaceBeforeDate", "warn"),
    ("fetch.fsck.missingSpaceBeforeEmail", "warn"),
    ("fetch.fsck.missingNameBeforeEmail", "warn"),
    ("fetch.fsck.missingEmail", "warn"),
    ("fetch.fsck.badEmail", "warn"),
    ("fetch.fsck.badName", "warn"),
    ("fetch.fsck.badTimezone", "warn"),
    ("fetch.fsck.badDateOverflow", "warn"),
    ("fetch.fsck.treeNotSorted", "error"),
];

/// Variables of the executor that git may see: how to reach the network, nothing else.
const PASSED_ON: &[&str] = &[
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "TMPDIR",
];

/// Git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started.
    #[error("cannot run git, is it installed? {0}")]
    Start(#[source] std::io::Error),
    /// It failed.
    #[error("git {verb} failed: {}", last_lines(stderr))]
    Failed {
        /// The subcommand.
        verb: String,
        /// Beginning of its error output.
        stderr: String,
    },
}

/// What a call may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing outside its repository.
    Local,
    /// Another repository of ours on this disk.
    Disk,
    /// The instance.
    Instance,
}

/// Where git stops to look for the repository of `dir`. It wants an absolute path.
fn ceiling(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.parent().unwrap_or(&dir).to_owned()
}

/// One call of git.
pub(super) struct Git {
    command: Command,
    verb: String,
    settings: Vec<(String, String)>,
}

impl Git {
    /// `git <verb> …` in `dir`.
    pub(super) fn new(dir: &Path, verb: &str, reach: Reach) -> Self {
        let mut command = Command::new("git");
        command.env_clear();
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            // `dir` or nothing: the state directory may be in somebody's work tree.
            .env("GIT_CEILING_DIRECTORIES", ceiling(dir))
            .env(
                "GIT_ALLOW_PROTOCOL",
                match reach {
                    Reach::Local => "none",
                    Reach::Disk => "file",
                    Reach::Instance => "http:https",
                },
            )
            .arg(verb)
            // Its helpers work there, too: so all are found if we die before them (`Repositories::open`).
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its helpers (git-remote-https) die with it.
            .process_group(0)
            .kill_on_drop(true);
        let settings = SETTINGS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { command, verb: verb.to_owned(), settings }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// A setting for this call. It travels in the environment, which only this user can read; that is
    /// why credentials may be given so.
    pub(super) fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Runs it; the answer is its standard output.
    pub(super) async fn run(self) -> Result<String, GitError> {
        let Self { mut command, verb, settings } = self;
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let child = command.spawn().map_err(GitError::Start)?;
        let mut group = ProcessGroup { leader: child.id() };
        let (success, stdout, stderr) = finish(child).await.map_err(GitError::Start)?;
        group.leader = None;
        if success { Ok(stdout) } else { Err(GitError::Failed { verb, stderr }) }
    }
}

async fn finish(mut child: Child) -> std::io::Result<(bool, String, String)> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let read_out = async {
        let mut text = Vec::new();
        if let Some(out) = &mut out {
            out.read_to_end(&mut text).await?;
        }
        std::io::Result::Ok(text)
    };
    let read_err = async {
        let mut text = Vec::new();
        if let Some(err) = &mut err {
            err.take(STDERR_LIMIT as u64).read_to_end(&mut text).await?;
            tokio::io::copy(err, &mut tokio::io::sink()).await?;
        }
        std::io::Result::Ok(text)
    };
    let (status, out, err) = tokio::try_join!(child.wait(), read_out, read_err)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.success(), text(out), text(err)))
}

/// Kills git and its helpers when the call is given up.
struct ProcessGroup {
    leader: Option<u32>,
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(pid) = self.leader.and_then(|pid| i32::try_from(pid).ok()) {
            // The group may be gone already.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The end of an error text, on one line.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(3);
    lines[from..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_carries_the_words_of_git() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            Git::new(dir.path(), "rev-parse", Reach::Local).arg("HEAD").run().await.unwrap_err();
        assert!(error.to_string().contains("not a git repository"), "{error}");
    }

    #[tokio::test]
    async fn only_our_settings_count() {
        let dir = tempfile::tempdir().unwrap();
        let list = Git::new(dir.path(), "config", Reach::Local)
            .setting("test.value", "a b\nc")
            .args(["--list", "--show-origin"])
            .run()
            .await
            .unwrap();
        let foreign: Vec<_> = list.lines().filter(|line| line.starts_with("file:")).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(list.contains("test.value=a b\nc"));
    }
}
