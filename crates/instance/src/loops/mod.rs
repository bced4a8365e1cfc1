//! What happens without anybody asking. Each loop is a `tick` that derives everything from the database
//! and the clock, so that it may be stepped by hand, run on several replicas, or be late.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::App;

/// Starts every loop; none of them ends by itself.
pub fn spawn(app: &Arc<App>) -> JoinSet<&'static str> {
    let mut loops = JoinSet::new();
    let config = app.config.clone();
    loops.spawn(async move {
        loop {
            tokio::time::sleep(crate::site_config::watch::POLL).await;
            config.poll();
        }
    });
    loops
}
