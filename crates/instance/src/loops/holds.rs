//! Holds end whose executor fell silent, or goes on after their time.

use crate::App;

/// One pass.
///
/// # Errors
/// Database errors.
pub async fn tick(app: &App, now: i64) -> anyhow::Result<()> {
    for (hold, end) in app.store.end_lost_holds(now).await? {
        tracing::warn!(
            job.id = hold.job_id,
            attempt = hold.attempt,
            executor = hold.executor,
            reason = end.as_str(),
            "a hold was ended without its executor"
        );
    }
    Ok(())
}
