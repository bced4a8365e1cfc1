//! `executor test-vm`: a machine prepared as a job's, with a shell in it.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use executor::client::{Client, JobClient, unique_executor_name};
use executor::config::{Config, ProcessEnvironment, Source as _};
use executor::job::{Trial, trial};
use executor::logs::{JobLog, Redactor};
use executor::state::{StateLock, open_tools};
use microvm::Stdio;
use protocol::{DockerStep, Job};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{load_config, logging, runtime};

/// Runs a line where the last one left off.
const LINE_SCRIPT: &str = r#"state=/data/.executor-test-vm
cd "$(cat "$state" 2>/dev/null || pwd)" || exit
eval "$EXECUTOR_LINE"
code=$?
pwd >"$state"
exit "$code""#;

#[derive(Args)]
pub struct TestVmArgs {
    /// Repository of the instance to check out at the root of the workspace. The instance must accept
    /// the executors' access token for it (`executors.allowSharedTokenOnJobRoutes`).
    #[arg(long, value_name = "NAME", requires = "revision")]
    repo: Option<String>,
    /// Its revision.
    #[arg(long, requires = "repo")]
    revision: Option<String>,
    /// Image of the machine's one step. For an image of the instance's own registry INSTANCE_TOKEN must
    /// hold an access token of a user.
    #[arg(long, default_value = "executors.internal/base:1")]
    image: String,
    /// Run this and leave with its exit code, instead of reading lines from standard input.
    #[arg(long, value_name = "SHELL")]
    command: Option<String>,
}

/// Starts a machine, gives it to the user, removes it.
///
/// # Errors
/// As a job would fail.
pub fn run(args: TestVmArgs) -> anyhow::Result<ExitCode> {
    logging::init();
    let config = Arc::new(load_config()?);
    let runtime = runtime().context("cannot start threads")?;
    let result = runtime.block_on(try_out(config, args));
    // A thread may still wait for a line of standard input.
    runtime.shutdown_background();
    result
}

async fn try_out(config: Arc<Config>, args: TestVmArgs) -> anyhow::Result<ExitCode> {
    // Its own caches: an executor may be running beside it.
    let dir = config.state_dir.join("test-vm");
    let lock = StateLock::take(&dir)?;
    let tools = open_tools(Arc::clone(&config), &dir, &lock).await?;
    let url = config.frontend_url.clone();
    let client = Client::new(url, config.frontend_password.clone(), unique_executor_name())?;
    let queue = config.queues.label().replace(',', "-");
    let token = ProcessEnvironment.get("INSTANCE_TOKEN").unwrap_or_default();
    let job_client = client.job(&queue, 0, &token);
    let folder = tempfile::tempdir_in(&tools.jobs_dir)?;
    let redactor = Redactor::new(&secrets(&config, token));
    let log = JobLog::local(folder.path(), redactor, 16 << 20)?;
    let job = Job {
        repository_name: args.repo.unwrap_or_default(),
        commit: args.revision.unwrap_or_default(),
        shallow_clone: true,
        docker_steps: vec![DockerStep { image: args.image, ..DockerStep::default() }],
        ..Job::default()
    };
    let trial = prepare(job, &tools, &job_client, &log).await;
    for (key, path) in log.files() {
        for line in String::from_utf8_lossy(&std::fs::read(path)?).lines() {
            eprintln!("{key}: {}", line.trim_start_matches("stderr: "));
        }
    }
    let trial = trial?;
    let code = tokio::select! {
        code = converse(&trial, args.command) => code,
        _ = tokio::signal::ctrl_c() => Ok(130),
    };
    trial.machine.destroy().await;
    eprintln!("the microVM was removed");
    Ok(ExitCode::from(code?))
}

fn secrets(config: &Config, token: String) -> BTreeMap<String, String> {
    let shared = config.frontend_password.expose().to_owned();
    [shared, token].map(|secret| (secret, "SECRET_REMOVED".to_owned())).into_iter().collect()
}

async fn prepare(
    job: Job,
    tools: &executor::job::Tools,
    client: &JobClient,
    log: &JobLog,
) -> anyhow::Result<Trial> {
    trial(job, tools, client, log).await.map_err(|failure| anyhow::anyhow!(failure.message))
}

/// Runs the command, or each line of standard input.
async fn converse(trial: &Trial, command: Option<String>) -> anyhow::Result<u8> {
    if let Some(command) = command {
        return run_line(trial, command).await;
    }
    let interactive = std::io::stdin().is_terminal();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    if interactive {
        eprintln!("Each line runs in the microVM, in /data; `exit` or Ctrl-D removes it.");
    }
    let mut code = 0;
    loop {
        if interactive {
            eprint!("test-vm$ ");
        }
        match lines.next_line().await? {
            Some(line) if line.trim() == "exit" => return Ok(code),
            Some(line) => code = run_line(trial, line).await?,
            None => return Ok(code),
        }
    }
}

async fn run_line(trial: &Trial, line: String) -> anyhow::Result<u8> {
    let argv = ["/bin/sh", "-c", LINE_SCRIPT].map(str::to_owned).to_vec();
    let spec = trial.command(argv, vec![format!("EXECUTOR_LINE={line}")]);
    let mut exec = trial.machine.guest().exec(spec).await?;
    while let Some(chunk) = exec.next().await {
        match chunk.stdio {
            Stdio::Stdout => {
                std::io::stdout().write_all(&chunk.data)?;
                std::io::stdout().flush()?;
            }
            Stdio::Stderr => std::io::stderr().write_all(&chunk.data)?,
        }
    }
    let result = exec.wait().await?;
    let code = result.exit_code.unwrap_or(128 + result.signal.unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(1))
}
