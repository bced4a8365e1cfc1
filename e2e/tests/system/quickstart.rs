//! What a newcomer does.

use std::process::Command;

use e2e::folder::Folder;
use e2e::images::repository;
use e2e::program::{binary, run_command};

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_runs_a_job_in_a_clean_clone() {
    let folder = Folder::new();
    let clone = folder.path().join("clone");
    run_command(Command::new("git").args(["clone", "--quiet"]).arg(repository()).arg(&clone));
    let mut commit = Command::new("git");
    let commit = run_command(commit.arg("-C").arg(&clone).args(["rev-parse", "HEAD"]));

    for run in ["first", "second"] {
        let mut quickstart = Command::new(clone.join("quickstart"));
        quickstart.arg("--once").env("EXECUTORS_PORT", e2e::http::free_port().to_string());
        quickstart.env("EXECUTORS_BIN_DIR", binary("instance").parent().unwrap());
        let output = quickstart.output().unwrap();

        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the {run} run: {}\n{text}\n{errors}", output.status);
        assert!(text.contains("Linux "), "no kernel of a guest in:\n{text}");
        assert!(text.contains(commit.trim()), "no commit in:\n{text}");
        assert!(text.contains(" lines in ") && text.contains(" rs"), "no count in:\n{text}");
    }
    let left = e2e::processes::of(folder.path());
    assert!(left.is_empty(), "still running: {left:?}");
}
