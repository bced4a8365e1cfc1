//! `executor run`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use executor::agent::{Agent, RefusedToken, Shutdown};
use executor::client::{Client, unique_executor_name};
use executor::config::Config;
use executor::job::JobRunner;
use executor::metrics::Metrics;
use executor::runtime::Runtime;
use executor::state::{StateLock, open_tools};
use executor::status::Status;

use super::{load_config, logging, runtime, signals, validate};

/// From the start, which sweeps as well, to the next sweep.
const SECOND_SWEEP: Duration = Duration::from_secs(5);

#[derive(Args, Default)]
pub struct RunArgs {
    /// Check this machine first as `executor validate` does, and end with an error if it is not fit or
    /// the instance refuses the access token, instead of trying again.
    #[arg(long)]
    verify: bool,
}

/// Runs until drained.
///
/// # Errors
/// The configuration, or this machine, is not fit.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    logging::init();
    let config = Arc::new(load_config()?);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    runtime().context("cannot start threads")?.block_on(serve(config, args.verify))
}

async fn serve(config: Arc<Config>, verify: bool) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    signals::listen(shutdown.clone()).context("cannot listen to signals")?;
    if verify && !validate::check_all(&config).await {
        anyhow::bail!("this machine is not fit to run jobs, see above");
    }
    let lock = StateLock::take(&config.state_dir)?;
    let tools = open_tools(Arc::clone(&config), &config.state_dir, &lock).await?;
    let status = Arc::new(Status::new(
        config.maximum_jobs,
        tools.runtime.name(),
        tools.runtime.acceleration(),
    ));
    tracing::info!(
        queues = config.queues.label(),
        slots = config.maximum_jobs,
        runtime = tools.runtime.name(),
        acceleration = tools.runtime.acceleration(),
        "executor {} starts",
        env!("CARGO_PKG_VERSION")
    );
    if let Runtime::Containers(containers) = &tools.runtime {
        tracing::warn!("every job shares this machine's kernel: EXECUTOR_DANGER_ALLOW_CONTAINERS");
        for (problem, fix) in containers.describe().1 {
            tracing::warn!(fix, "{problem}");
        }
    }
    let client = Client::new(
        config.frontend_url.clone(),
        config.frontend_password.clone(),
        unique_executor_name(),
    )?;
    let metrics = Arc::new(Metrics::default());
    let runner = Arc::new(JobRunner::new(tools, Arc::clone(&metrics)));
    let sweeper = tokio::spawn(sweep(Arc::clone(&runner), Arc::clone(&config)));
    let refused_token = if verify { RefusedToken::Fail } else { RefusedToken::KeepTrying };
    let agent = Agent { config, client, runner, metrics, status, refused_token };
    let ended = agent.run(shutdown).await;
    sweeper.abort();
    ended?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// Removes, now and then, what executors that died left on this machine.
async fn sweep(runner: Arc<JobRunner>, config: Arc<Config>) {
    // Zero would not let anything else run.
    let interval = config.cleanup_interval.max(Duration::from_secs(1));
    // What the one before began may still have been going when this one started.
    let mut pause = SECOND_SWEEP.min(interval);
    loop {
        tokio::time::sleep(pause).await;
        pause = interval;
        if let Err(error) = runner.tools().runtime.reclaim().await {
            tracing::warn!(%error, "cleaning up failed");
        }
    }
}
