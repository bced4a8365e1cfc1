//! Jobs whose executor fell silent go back into their queue.

use store::JobState;

use crate::App;
use crate::metrics::{ResetLabels, ResetOutcome};

/// One pass.
///
/// # Errors
/// Database errors.
pub async fn tick(app: &App, now: i64) -> anyhow::Result<()> {
    for reset in app.store.reset_stalled(now).await? {
        let outcome = match reset.state {
            JobState::Queued => ResetOutcome::requeued,
            _ => ResetOutcome::ended,
        };
        app.metrics.resets.get_or_create(&ResetLabels { outcome }).inc();
        tracing::warn!(
            job.id = reset.job_id,
            queue = reset.queue,
            executor = reset.executor,
            state = %reset.state,
            "no heartbeat, job was taken from its executor"
        );
    }
    Ok(())
}
