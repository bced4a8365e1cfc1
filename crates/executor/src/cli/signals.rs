//! Signals become steps of a shutdown: the first drains, the second stops.

use executor::agent::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

/// Listens until the process ends.
///
/// # Errors
/// The system refuses the handlers.
pub fn listen(shutdown: Shutdown) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if shutdown.is_draining() {
                tracing::warn!("second signal: stopping at once");
            } else {
                tracing::info!("draining: no more jobs are taken; a second signal stops at once");
            }
            shutdown.escalate();
        }
    });
    Ok(())
}
