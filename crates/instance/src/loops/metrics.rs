//! Gauges that need a query.

use crate::App;
use crate::metrics::{QueueLabels, StateLabels};

/// One pass.
///
/// # Errors
/// Database errors.
pub async fn tick(app: &App, now: i64) -> anyhow::Result<()> {
    for stats in app.store.queue_stats(now).await? {
        let queue = stats.queue;
        let states = [
            ("queued", stats.queued),
            ("delayed", stats.delayed),
            ("processing", stats.processing),
        ];
        for (state, count) in states {
            let labels = StateLabels { queue: queue.clone(), state: state.to_owned() };
            app.metrics.queue_jobs.get_or_create(&labels).set(count);
        }
        let labels = QueueLabels { queue };
        app.metrics.queue_size.get_or_create(&labels).set(stats.queued + stats.delayed);
        app.metrics.oldest_queued_seconds.get_or_create(&labels).set(stats.oldest_ms / 1000);
    }
    let held = app.store.open_holds().await?.len();
    app.metrics.held_machines.set(i64::try_from(held).unwrap_or(i64::MAX));
    Ok(())
}
