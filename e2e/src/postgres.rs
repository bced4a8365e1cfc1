//! A throw-away PostgreSQL server from the distribution's package.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{Program, run_command};
use crate::wait::until_true;

/// A running server with one empty database. It ends, and its files go, when dropped.
pub struct Postgres {
    program: Program,
    port: u16,
    _folder: TempDir, // last: the server must be gone before its files
}

impl Postgres {
    /// Starts a server on a free port of the loopback. `durable` keeps the default settings for writing to
    /// disk, for measurements; without it the server is quicker and may lose data when the machine stops.
    pub async fn start(durable: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("e2e-postgres-").tempdir().expect("a folder");
        let programs = programs();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
        if let Some((user, group)) = server_account() {
            chown(&data, Some(user), Some(group)).expect("root may give files away");
        }

        let mut initdb = as_server(&programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"]);
        run_command(initdb.arg(&data));

        let port = crate::http::free_port();
        let mut server = as_server(&programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1", "-k", ""]);
        server.args(["-p", &port.to_string(), "-c", "max_connections=200"]);
        if !durable {
            server.args(["-c", "fsync=off", "-c", "synchronous_commit=off"]);
        }
        let mut postgres = Self {
            program: Program::start("postgres", server, folder.path()),
            port,
            _folder: folder,
        };
        postgres.wait_until_ready(&programs).await;
        postgres
    }

    /// `postgres://…` of its one database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    async fn wait_until_ready(&mut self, programs: &Path) {
        let (program, port) = (&mut self.program, self.port.to_string());
        until_true("PostgreSQL is ready", Duration::from_secs(60), async || {
            assert!(program.is_running(), "PostgreSQL ended at once:\n{}", program.log_tail(20));
            let mut asked = Command::new(programs.join("pg_isready"));
            asked.args(["-q", "-h", "127.0.0.1", "-p", &port]);
            asked.status().is_ok_and(|status| status.success())
        })
        .await;
    }
}

/// The newest installed version's folder of programs. Debian keeps them out of the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin")).max();
    newest.expect("PostgreSQL's server is not installed: apt-get install postgresql")
}

/// The server refuses to run as root: then it runs under its package's account, `(uid, gid)`.
fn server_account() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").expect("the password file is readable");
    let user = user.expect("the package made the account postgres");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn as_server(program: &Path) -> Command {
    if server_account().is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command.current_dir("/");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_starts_and_leaves_nothing() {
        let postgres = Postgres::start(false).await;
        let folder = postgres._folder.path().to_owned();
        let answer =
            run_command(Command::new("psql").args([&postgres.url(), "-tAc", "select 40 + 2"]));
        assert_eq!(answer.trim(), "42");
        drop(postgres);
        assert!(!folder.exists());
        assert!(crate::processes::of(&folder).is_empty());
    }
}
