//! Queues that others use, run by node from `benches/peers`.

use std::path::PathBuf;
use std::process::Command;

use e2e::images::repository;
use e2e::postgres::Postgres;
use serde_json::Value;

/// Job cycles per second of a peer on this database; the reason when it cannot be measured here.
///
/// # Errors
/// npm or node are missing, or the packages cannot be had.
pub fn cycles_per_second(
    peer: &str,
    postgres: &Postgres,
    jobs: usize,
    workers: usize,
) -> Result<f64, String> {
    let folder = installed()?;
    let mut node = Command::new("node");
    node.arg(folder.join(format!("{peer}.js"))).arg(postgres.url());
    node.args([jobs.to_string(), workers.to_string()]);
    let output = node.output().map_err(|error| format!("node: {error}"))?;
    if !output.status.success() {
        return Err(format!("{peer}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{peer} printed no JSON: {error}"))?;
    let seconds = answer["seconds"].as_f64().ok_or("no seconds")?;
    Ok(jobs as f64 / seconds)
}

/// The folder with the programs and their packages, which are fetched once.
fn installed() -> Result<PathBuf, String> {
    let programs = e2e::program::binary("instance");
    let folder = programs.parent().expect("it is in a folder").join("bench-peers");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "pg-boss.js", "graphile-worker.js"] {
        std::fs::copy(repository().join("benches/peers").join(file), folder.join(file))
            .map_err(|error| format!("{file}: {error}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]);
    let output = npm.current_dir(&folder).output().map_err(|error| format!("npm: {error}"))?;
    if output.status.success() {
        Ok(folder)
    } else {
        Err(format!("npm install: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
