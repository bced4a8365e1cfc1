//! `executor test-vm`: a machine prepared as a job's, with a shell in it.
//!
//! Where a person sits at a terminal, the shell (or the command) has one too. Otherwise standard input and
//! both outputs are passed on as they are: `executor test-vm < script`, or in a pipe.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use executor::client::{Client, unique_executor_name};
use executor::config::{Config, ProcessEnvironment, Source as _};
use executor::job::{Tools, Trial, trial};
use executor::logs::{JobLog, Redactor};
use executor::runtime::{Terminal, exit_code};
use executor::state::{StateLock, open_tools};
use microvm::{ExecSpec, Stdio};
use protocol::{DockerStep, Job};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::console::{self, Ending};
use super::{load_config, logging, runtime};

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
    /// Run this instead of a shell, and leave with its exit code.
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
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    result
}

async fn try_out(config: Arc<Config>, args: TestVmArgs) -> anyhow::Result<ExitCode> {
    let mut ending = Ending::listen()?;
    // Its own caches: an executor may be running beside it.
    let dir = config.state_dir.join("test-vm");
    let lock = StateLock::take(&dir)?;
    let tools = tokio::select! {
        tools = open_tools(Arc::clone(&config), &dir, &lock) => tools?,
        code = ending.asked() => return Ok(ExitCode::from(code)),
    };
    let command = args.command.clone();
    let trial = tokio::select! {
        trial = prepare(&config, &tools, args) => trial?,
        code = ending.asked() => {
            // What it began goes with it; that takes a moment.
            eprintln!("stopped");
            if !tools.runtime.settled().await {
                eprintln!("something of the machine may be left; the next executor to start removes it");
            }
            return Ok(ExitCode::from(code));
        }
    };
    let code = tokio::select! {
        code = converse(&trial, command) => code,
        code = ending.asked() => Ok(code),
    };
    trial.machine.destroy().await;
    eprintln!("the machine was removed");
    Ok(ExitCode::from(code?))
}

fn secrets(config: &Config, token: String) -> BTreeMap<String, String> {
    let shared = config.frontend_password.expose().to_owned();
    [shared, token].map(|secret| (secret, "SECRET_REMOVED".to_owned())).into_iter().collect()
}

/// A machine for a job of one step without anything to do.
async fn prepare(config: &Config, tools: &Tools, args: TestVmArgs) -> anyhow::Result<Trial> {
    let url = config.frontend_url.clone();
    let client = Client::new(url, config.frontend_password.clone(), unique_executor_name())?;
    let queue = config.queues.label().replace(',', "-");
    let token = ProcessEnvironment.get("INSTANCE_TOKEN").unwrap_or_default();
    let client = client.job(&queue, 0, &token);
    let folder = tempfile::tempdir_in(&tools.jobs_dir)?;
    let redactor = Redactor::new(&secrets(config, token));
    let log = JobLog::local(folder.path(), redactor, 16 << 20)?;
    let job = Job {
        repository_name: args.repo.unwrap_or_default(),
        commit: args.revision.unwrap_or_default(),
        shallow_clone: true,
        docker_steps: vec![DockerStep { image: args.image, ..DockerStep::default() }],
        ..Job::default()
    };
    let trial = trial(job, tools, &client, &log).await;
    for (key, path) in log.files() {
        for line in String::from_utf8_lossy(&std::fs::read(path)?).lines() {
            eprintln!("{key}: {}", line.trim_start_matches("stderr: "));
        }
    }
    trial.map_err(|failure| anyhow::anyhow!(failure.message))
}

/// Runs the command or a shell; its exit code.
async fn converse(trial: &Trial, command: Option<String>) -> anyhow::Result<u8> {
    let argv = |command| ["/bin/sh".to_owned(), "-c".to_owned(), command].to_vec();
    let code = match (console::is_interactive(), command) {
        (true, None) => {
            eprintln!("`exit` or Ctrl-D leaves the shell; the machine is removed then.");
            let resized = signal(SignalKind::window_change())?;
            on_terminal(trial.shell(console::size()).await?, resized).await?
        }
        (true, Some(command)) => {
            let resized = signal(SignalKind::window_change())?;
            let spec = trial.command(argv(command));
            on_terminal(trial.machine.on_terminal(spec, console::size()).await?, resized).await?
        }
        (false, None) => in_pipes(trial, vec!["/bin/sh".to_owned()]).await?,
        (false, Some(command)) => in_pipes(trial, argv(command)).await?,
    };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Joins the operator's terminal with that of a program, until the program ends.
async fn on_terminal(mut terminal: Terminal, mut resized: Signal) -> anyhow::Result<i64> {
    let raw = console::Raw::enter().context("the terminal")?;
    let input = terminal.input();
    let typing = async {
        pass_on_input(async |bytes| input.send(bytes).await.is_ok()).await;
        input.hang_up().await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(typing);
    let mut screen = tokio::io::stdout();
    loop {
        tokio::select! {
            shown = terminal.next() => match shown {
                Some(shown) => show(&mut screen, &shown).await?,
                None => break,
            },
            _ = resized.recv() => input.resize(console::size()).await?,
            () = &mut typing => {}
        }
    }
    drop(raw);
    Ok(terminal.wait().await?)
}

/// Passes standard input and both outputs on, until the program ends.
async fn in_pipes(trial: &Trial, argv: Vec<String>) -> anyhow::Result<i64> {
    let spec = ExecSpec { stdin: true, ..trial.command(argv) };
    let mut exec = trial.machine.exec(spec).await?;
    let input = exec.input();
    let typing = async {
        pass_on_input(async |bytes| input.send(bytes).await.is_ok()).await;
        input.end().await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(typing);
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        tokio::select! {
            chunk = exec.next() => match chunk {
                Some(chunk) if chunk.stdio == Stdio::Stdout => show(&mut stdout, &chunk.data).await?,
                Some(chunk) => show(&mut stderr, &chunk.data).await?,
                None => break,
            },
            () = &mut typing => {}
        }
    }
    Ok(exit_code(&exec.wait().await?))
}

async fn show(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Reads standard input to its end, or until nobody wants it.
async fn pass_on_input(mut wanted: impl AsyncFnMut(&[u8]) -> bool) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    // A terminal that is gone reads as an error: the end as well.
    while let Ok(length @ 1..) = stdin.read(&mut buffer).await {
        if !wanted(&buffer[..length]).await {
            return;
        }
    }
}
