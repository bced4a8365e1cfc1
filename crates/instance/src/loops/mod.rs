//! What happens without anybody asking. Each loop is a `tick` that derives everything from the database
//! and the clock, so that it may be stepped by hand, run on several replicas, or be late.

pub mod holds;
pub mod metrics;
pub mod orphans;
pub mod repositories;
pub mod retention;
pub mod stalled;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::App;

/// Starts every loop; none of them ends by itself. The process must not outlive one that does.
pub fn spawn(app: &Arc<App>) -> JoinSet<&'static str> {
    let seconds = Duration::from_secs;
    let mut loops = JoinSet::new();
    every(&mut loops, app, "stalled jobs", seconds(5), |app, now| async move {
        stalled::tick(&app, now).await
    });
    every(
        &mut loops,
        app,
        "holds",
        seconds(5),
        |app, now| async move { holds::tick(&app, now).await },
    );
    every(&mut loops, app, "metrics", seconds(10), |app, now| async move {
        metrics::tick(&app, now).await
    });
    every(&mut loops, app, "retention", seconds(300), |app, now| async move {
        retention::tick(&app, now).await
    });
    every(&mut loops, app, "orphans", seconds(6 * 3600), |app, now| async move {
        orphans::tick(&app, now).await
    });
    every(
        &mut loops,
        app,
        "site configuration",
        crate::site_config::watch::POLL,
        |app, now| async move { configuration(&app, now).await },
    );
    let app = Arc::clone(app);
    loops.spawn(async move {
        repositories::run(app).await;
        "repositories"
    });
    loops
}

/// Runs `tick` again and again. A tick that fails is logged and comes again; one that panics ends the
/// loop, and with it the process.
fn every<F, T>(
    loops: &mut JoinSet<&'static str>,
    app: &Arc<App>,
    name: &'static str,
    period: Duration,
    tick: F,
) where
    F: Fn(Arc<App>, i64) -> T + Send + 'static,
    T: Future<Output = anyhow::Result<()>> + Send,
{
    let app = Arc::clone(app);
    loops.spawn(async move {
        while !app.closing.is_cancelled() {
            if let Err(error) = tick(Arc::clone(&app), app.clock.now_ms()).await {
                tracing::error!(error = format!("{error:#}"), name, "loop");
            }
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = app.closing.cancelled() => {}
            }
        }
        std::future::pending().await
    });
}

/// Follows the file of the site configuration. A change that did not come through a page of this
/// process leaves a line in the audit log as well.
async fn configuration(app: &App, now: i64) -> anyhow::Result<()> {
    use crate::site_config::watch::Reload;
    match app.config.poll() {
        Reload::Unchanged => {}
        Reload::Applied { etag } => {
            tracing::info!("site configuration reloaded");
            let record = store::AuditRecord {
                actor: "file",
                action: "config.edit",
                target: "site-config",
                detail: &etag,
            };
            app.store.audit(&record, now).await?;
        }
        Reload::Refused(problems) => {
            tracing::warn!(%problems, "site configuration has mistakes, the former one stays");
        }
        Reload::Unreadable(problem) => {
            tracing::warn!(problem, "site configuration, the former one stays");
        }
    }
    Ok(())
}
