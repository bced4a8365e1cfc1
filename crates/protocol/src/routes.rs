//! Paths, relative to the base URL of an instance.

/// Queue routes: `/.executors/queue/dequeue` and `/.executors/queue/{queue}/dequeue`, and so on.
pub const QUEUE: &str = "/.executors/queue";
/// Workspace files: `/.executors/files/batch-changes/{spec}/{file}`.
pub const FILES: &str = "/.executors/files";
/// Git smart HTTP: `/.executors/git/{repository}/info/refs` and `…/git-upload-pack`.
pub const GIT: &str = "/.executors/git";
/// Answers `ok` to the right shared token.
pub const TEST_AUTH: &str = "/.executors/test/auth";
/// The recommended version of `src`.
pub const SRC_CLI_VERSION: &str = "/.api/src-cli/version";

/// Extension `append-logs`: POST raw bytes, query `offset`, and on the last call `exitCode` and `durationMs`.
pub fn log_append(queue: &str, job: i64, entry: i64) -> String {
    format!("{QUEUE}/{queue}/jobs/{job}/log/{entry}")
}

/// Extension `phases`: POST a [`crate::PhaseReport`].
pub fn phases(queue: &str, job: i64) -> String {
    format!("{QUEUE}/{queue}/jobs/{job}/phases")
}

/// Extension `results`: POST a [`crate::ext::ResultReport`].
pub fn results(queue: &str, job: i64) -> String {
    format!("{QUEUE}/{queue}/jobs/{job}/results")
}

/// Extension `results`: PUT the bytes of an artifact; `path` is relative to the workspace and
/// must be percent-encoded segment by segment.
pub fn artifact(queue: &str, job: i64, path: &str) -> String {
    format!("{QUEUE}/{queue}/jobs/{job}/artifacts/{path}")
}

/// Extension `hold`: POST a [`crate::hold::HoldRequest`].
pub fn hold(queue: &str, job: i64) -> String {
    format!("{QUEUE}/{queue}/jobs/{job}/hold")
}

/// Extension `hold`: POST a [`crate::hold::InputRequest`].
pub fn terminal_input(queue: &str, job: i64, terminal: i64) -> String {
    format!("{}/terminals/{terminal}/input", hold(queue, job))
}

/// Extension `hold`: POST raw bytes, query `offset`, and when the shell has ended `exitCode`. Answered
/// with an [`crate::ext::AppendResponse`].
pub fn terminal_output(queue: &str, job: i64, terminal: i64) -> String {
    format!("{}/terminals/{terminal}/output", hold(queue, job))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_routes_of_a_hold() {
        assert_eq!(super::hold("jobs", 3), "/.executors/queue/jobs/jobs/3/hold");
        let input = "/.executors/queue/jobs/jobs/3/hold/terminals/7/input";
        assert_eq!(super::terminal_input("jobs", 3, 7), input);
        let output = "/.executors/queue/jobs/jobs/3/hold/terminals/7/output";
        assert_eq!(super::terminal_output("jobs", 3, 7), output);
    }
}
