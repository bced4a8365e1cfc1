//! The script of a step: the commands behind a preamble that prefers bash.

/// Directory of the scripts, relative to the workspace.
pub const DIRECTORY: &str = ".sourcegraph-executor";

/// Runs again under bash where there is one, then turns errexit off and xtrace on: commands are echoed
/// on stderr, and the exit code is that of the last command.
const PREAMBLE: &str = r#"if [ -z "$1" ]; then
  for executor_shell in "$(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH" command -v bash)" /bin/bash; do
    if [ -x "$executor_shell" ]; then
      exec "$executor_shell" "$0" skip-check
    fi
  done
fi
unset executor_shell
set +e
set -x
"#;

/// The text of a script.
pub fn text(commands: &[String]) -> String {
    format!("{PREAMBLE}\n{}\n", commands.join("\n"))
}

/// The name of a script: `<job>.<index>_<repository>@<commit>.sh`, as stock executors name it.
pub fn name(job: i64, index: usize, repository: &str, commit: &str) -> String {
    let repository: String =
        repository.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    let commit: String = commit.chars().map(|c| if c == '/' { '_' } else { c }).collect();
    let name = format!("{job}.{index}_{repository}@{commit}.sh");
    // File systems stop at 255 bytes.
    if name.len() <= 255 { name } else { format!("{job}.{index}.sh") }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs a script with the host's shell in an empty directory.
    fn run(commands: &[&str]) -> (i32, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sh");
        let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
        std::fs::write(&path, text(&commands)).unwrap();
        let output = Command::new("/bin/sh").arg(&path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn a_failing_command_in_the_middle_does_not_end_the_step() {
        let (code, stdout, stderr) = run(&["false", "echo after"]);
        assert_eq!((code, stdout.as_str()), (0, "after\n"));
        assert_eq!(stderr, "+ false\n+ echo after\n");
    }

    #[test]
    fn the_exit_code_is_that_of_the_last_command() {
        assert_eq!(run(&["true", "exit 7"]).0, 7);
        assert_eq!(run(&["set -e", "false", "true"]).0, 1);
        assert_eq!(run(&[]).0, 0);
    }

    #[test]
    fn bash_is_preferred() {
        let (code, stdout, _) = run(&["echo ${BASH_VERSION:+bash}"]);
        assert_eq!((code, stdout.as_str()), (0, "bash\n"));
    }

    #[test]
    fn names_are_those_of_stock_executors() {
        assert_eq!(name(42, 1, "git.example/a/b", "0c0f"), "42.1_git.example_a_b@0c0f.sh");
        assert_eq!(name(42, 0, "", ""), "42.0_@.sh");
        assert_eq!(name(42, 0, &"x".repeat(300), "c"), "42.0.sh");
    }
}
