//! `instance serve`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::app::Options;
use crate::clock::Clock;

/// How and where to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on.
    #[arg(long, env = "INSTANCE_LISTEN", default_value = "127.0.0.1:7080")]
    pub listen: SocketAddr,
    /// Data folder; made when missing.
    #[arg(long, env = "INSTANCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Database: `postgres://…` or `sqlite:PATH`; the default is `instance.db` in the data folder. A URL
    /// with a password belongs into the environment: arguments are seen by every user of the machine.
    #[arg(long, env = "INSTANCE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Serve `/metrics` without a token on this address as well; keep it reachable for monitoring only.
    #[arg(long, env = "INSTANCE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Log as JSON lines.
    #[arg(long, env = "INSTANCE_LOG_JSON")]
    pub log_json: bool,
    /// What to log, for example `info,instance=debug`.
    #[arg(long, env = "INSTANCE_LOG", default_value = "info")]
    pub log: String,
}

/// Serves until a signal: the first one drains, the second one ends the process at once.
///
/// # Errors
/// When the instance cannot start, or a loop of it died.
pub fn run(args: Args) -> anyhow::Result<()> {
    start_logging(&args)?;
    // Only a second installation fails, and then one is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (shutdown, at_once) = (CancellationToken::new(), CancellationToken::new());
        on_signals(shutdown.clone(), at_once.clone())?;
        tokio::select! {
            result = serve(args, shutdown) => result,
            () = at_once.cancelled() => Err(anyhow::anyhow!("ended at once by a second signal")),
        }
    });
    // Without waiting for what may still run on other threads.
    runtime.shutdown_background();
    result
}

async fn serve(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let app = App::open(Options {
        data_dir: args.data_dir,
        database_url: args.database_url,
        clock: Clock::system(),
    })
    .await?;
    let app = Arc::new(app);
    let listener = bind(args.listen).await?;
    let Some(address) = args.metrics_listen else {
        return crate::serve::run(listener, app, shutdown).await;
    };
    let metrics = bind(address).await?;
    tokio::try_join!(
        crate::serve::run(listener, Arc::clone(&app), shutdown.clone()),
        crate::serve::run_metrics(metrics, app, shutdown),
    )?;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn start_logging(args: &Args) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log)
        .with_context(|| format!("--log {:?}", args.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = if args.log_json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|e| anyhow::anyhow!("logging: {e}"))
}

fn on_signals(shutdown: CancellationToken, at_once: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.is_cancelled() {
                at_once.cancel();
                return;
            }
            tracing::info!("stopping; a second signal ends at once");
            shutdown.cancel();
        }
    });
    Ok(())
}
