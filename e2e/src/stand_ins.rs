//! Stand-ins for the programs that an executor starts: each does what the real one does, and on request waits
//! before or after it. So a moment that lasts milliseconds lasts as long as a test needs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Of the programs that executors start, those with a stand-in.
const PROGRAMS: [&str; 8] =
    ["git", "mksquashfs", "unsquashfs", "sqfs2tar", "mkfs.ext4", "ip", "dpkg-deb", QEMU];
const QEMU: &str = "qemu-system-x86_64";

/// Where a program waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It has not done anything.
    Before,
    /// It has done everything, and its parent does not know.
    After,
}

/// A folder of them.
pub struct StandIns {
    folder: PathBuf,
}

impl StandIns {
    /// Makes them in a new folder in `folder`.
    pub fn new(folder: &Path) -> Self {
        let stand_ins = Self { folder: folder.join("stand-ins") };
        fs::create_dir(&stand_ins.folder).expect("the test's folder is writable");
        for name in PROGRAMS {
            let path = stand_ins.folder.join(name);
            fs::write(&path, script(name, &stand_ins.folder)).expect("it is writable");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        }
        stand_ins
    }

    /// `PATH` with them before all others.
    pub fn path(&self) -> String {
        format!("{}:{}", self.folder.display(), std::env::var("PATH").expect("there is one"))
    }

    /// The one for QEMU, for `EXECUTOR_QEMU_BINARY`.
    pub fn qemu(&self) -> String {
        self.folder.join(QEMU).display().to_string()
    }

    /// From now on `program` waits when its arguments, with spaces around them, match `pattern` of a shell.
    pub fn hold(&self, program: &str, when: When, pattern: &str) {
        assert!(PROGRAMS.contains(&program), "{program} has no stand-in");
        let _ = fs::remove_file(self.folder.join("waiting")); // of the time before, if there was one
        let text = match when {
            When::Before => format!("before\n{pattern}\n"),
            When::After => format!("after\n{pattern}\n"),
        };
        let path = self.folder.join(format!("{program}.hold"));
        fs::write(path.with_extension("new"), text).expect("it is writable");
        fs::rename(path.with_extension("new"), path).expect("it is writable");
    }

    /// Whether one waits.
    pub fn are_waiting(&self) -> bool {
        self.folder.join("waiting").exists()
    }

    /// Nobody waits any more.
    pub fn release(&self) {
        for name in PROGRAMS {
            let _ = fs::remove_file(self.folder.join(format!("{name}.hold"))); // most have none
        }
    }
}

/// Its environment may be empty: nothing is taken from there. `ip` ends with its parent, as the real one does
/// within milliseconds; git and the makers of file systems work on for as long as they are let.
fn script(name: &str, folder: &Path) -> String {
    let folder = folder.display();
    let orphan = if name == "ip" { "kill -0 $PPID || exit 1" } else { ":" };
    format!(
        r#"#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hold='{folder}/{name}.hold'
wait_here() {{
    : > '{folder}/waiting'
    while [ -e "$hold" ]; do
        {orphan}
        sleep 0.1
    done
    {orphan}
}}
if {{ read -r when && read -r pattern; }} 2>/dev/null < "$hold"; then
    case " $* " in
        $pattern)
            if [ "$when" = after ]; then
                {name} "$@"
                code=$?
                wait_here
                exit $code
            fi
            wait_here
            ;;
    esac
fi
exec {name} "$@"
"#
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::wait::until_true;

    #[tokio::test]
    async fn one_waits_where_it_is_told_and_does_its_work_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let stand_ins = StandIns::new(dir.path());
        let git = |arguments: &[&str]| {
            let mut git = Command::new(stand_ins.folder.join("git"));
            git.args(arguments).current_dir(dir.path()).env_clear().stdout(Stdio::null());
            git.spawn().unwrap()
        };
        stand_ins.hold("git", When::After, "* init *");
        assert!(git(&["version"]).wait().unwrap().success());
        assert!(!stand_ins.are_waiting());
        let mut waiting = git(&["init", "--quiet", "made"]);
        until_true("it waits", Duration::from_secs(10), async || stand_ins.are_waiting()).await;
        assert!(dir.path().join("made/.git").exists() && waiting.try_wait().unwrap().is_none());
        stand_ins.release();
        assert!(waiting.wait().unwrap().success());
    }
}
