//! What may not be written, and why.

use crate::repository::{File, files, rust_files};

/// One forbidden text. It is given in two halves so that this file does not contain it.
struct Ban {
    halves: (&'static str, &'static str),
    reason: &'static str,
}

const fn ban(first: &'static str, second: &'static str, reason: &'static str) -> Ban {
    Ban { halves: (first, second), reason }
}

/// Found lines, as `path:line: text`.
fn find(files: &[File], ban: &Ban, text_of: fn(&File) -> &str) -> Vec<String> {
    let needle = [ban.halves.0, ban.halves.1].concat();
    let mut found = Vec::new();
    for file in files {
        for (number, line) in text_of(file).lines().enumerate() {
            if line.contains(&needle) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    found
}

fn whole(file: &File) -> &str {
    &file.text
}

fn check(files: &[File], bans: &[Ban], text_of: fn(&File) -> &str) {
    let mut complaints = Vec::new();
    for ban in bans {
        for found in find(files, ban, text_of) {
            complaints.push(format!("{found}\n    {}", ban.reason));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_path_of_a_developers_machine_is_written_down() {
    let bans = [
        ban("/wo", "rk/wt", "a path of one machine"),
        ban("/wo", "rk/shared", "a path of one machine"),
        ban("/wo", "rk/target", "a path of one machine"),
        ban("/wo", "rk/main", "a path of one machine"),
    ];
    check(&files(), &bans, whole);
}

#[test]
fn nothing_is_left_unfinished() {
    let bans = [
        ban("todo", "!(", "finish it or leave it out"),
        ban("unimpl", "emented!(", "finish it or leave it out"),
        ban("#[ign", "ore", "a test that never runs protects nothing"),
        ban("#[should", "_panic", "assert on the error instead: any panic would pass"),
        ban(
            "#[al",
            "low(",
            "use #[expect(…, reason = \"…\")], which complains when it is no longer needed",
        ),
        ban("#![al", "low(", "use #![expect(…, reason = \"…\")]"),
        ban("dbg", "!(", "left over from debugging"),
    ];
    check(&rust_files(), &bans, whole);
}

#[test]
fn tests_wait_on_conditions() {
    // Only this file may sleep: it polls a condition until a deadline.
    let files: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| file.is_test() && file.path != "e2e/src/wait.rs")
        .collect();
    let reason =
        "a sleep is too short on a slow machine and too long on a fast one; wait on a condition";
    check(&files, &[ban("time::", "sleep(", reason), ban("thread::", "sleep(", reason)], whole);
}

#[test]
fn the_host_builds_no_shell_command() {
    let files: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| file.path.starts_with("crates/") && !file.is_test())
        .filter(|file| !file.path.starts_with("crates/guest/")) // the guest runs a job's scripts
        .collect();
    let reason = "quoting mistakes become command injection; name the program and its arguments";
    let bans = [
        ban("Command::new(\"", "sh\")", reason),
        ban("Command::new(\"", "bash\")", reason),
        ban("Command::new(\"/bin", "/sh\")", reason),
    ];
    check(&files, &bans, File::without_tests);
}
