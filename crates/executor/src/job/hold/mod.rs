//! The machine of a failed job is kept for a while, for a site admin to look into (extension `hold`).
//!
//! Only the executor dials out: it asks the instance again and again what is wanted, opens a shell for each
//! terminal that somebody opened there, and carries its bytes by offsets. The instance is the judge of how
//! long; if it cannot be reached, the time that it said last counts.

mod output;
mod terminal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use microvm::images::Image;
use protocol::hold::{HeldTerminal, HoldEnd, HoldRequest, HoldResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Backoff, ClientError, JobClient, is_over};
use crate::config::go_syntax;
use crate::metrics::Metrics;
use crate::runtime::Machine;

/// Time for the last call; the machine goes meanwhile.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Least time between two questions that brought nothing new: an instance may not hold them.
const QUIET: Duration = Duration::from_millis(500);

/// How long a machine is held, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Never zero.
    pub(super) seconds: u64,
    /// For the log of the job.
    pub(super) note: String,
}

/// A wish for `seconds` as far as the executor allows it; the other way round the reason why not.
pub(super) fn allowed(seconds: u64, max: Duration) -> Result<Wish, &'static str> {
    if max.as_secs() == 0 {
        return Err("it is not held: EXECUTOR_MAXIMUM_HOLD is 0 on this executor");
    }
    let given = seconds.min(max.as_secs());
    let text = |seconds| go_syntax::format_duration(Duration::from_secs(seconds));
    let mut note = format!("held for {}, or until it is released", text(given));
    if given < seconds {
        let wished = text(seconds);
        note += &format!("; {wished} were wished, EXECUTOR_MAXIMUM_HOLD allows no more");
    }
    Ok(Wish { seconds: given, note })
}

/// Where shells are opened.
pub(super) struct Place {
    pub(super) image_index: usize,
    pub(super) image: Image,
    pub(super) cwd: String,
}

/// A held machine. Dropping it kills the machine; [`Held::serve`] also tidies up.
pub struct Held {
    pub(super) client: JobClient,
    pub(super) machine: Machine,
    pub(super) place: Place,
    pub(super) seconds: u64,
}

/// Why the hold is over.
enum Over {
    /// The instance is to be told.
    Ended(HoldEnd),
    /// It said so itself.
    Told(ClientError),
}

impl Held {
    /// Serves terminals until the hold is over, then destroys the machine. `draining` ends it at once.
    pub async fn serve(self, draining: &CancellationToken, metrics: &Metrics) {
        let _held = metrics.machine_held();
        let (job, queue) = (self.client.id(), self.client.queue().to_owned());
        tracing::info!(job, queue, seconds = self.seconds, "the machine of a failed job is held");
        let held = Arc::new(self);
        let over = {
            // The steps' way to the instance ended with the job.
            let guest = held.machine.guest().clone();
            let _no_gateway = AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(connection) = guest.next_gateway_conn().await {
                    drop(connection);
                }
            }));
            let mut terminals = Terminals::new(Arc::clone(&held));
            let mut until = Instant::now() + Duration::from_secs(held.seconds);
            tokio::select! {
                biased;
                () = draining.cancelled() => Over::Ended(HoldEnd::ExecutorStopped),
                _ = held.machine.exited() => Over::Ended(HoldEnd::MachineGone),
                over = held.obey(&mut terminals, &mut until) => over,
            }
        };
        match &over {
            Over::Ended(end) => {
                tracing::info!(job, queue, reason = end.as_str(), "the hold ended");
                let told = tokio::time::timeout(LAST_CALL, held.tell(*end));
                let (told, ()) = tokio::join!(told, held.machine.destroy());
                if told.is_err() {
                    tracing::warn!(
                        job,
                        queue,
                        "the instance could not be told that the hold ended"
                    );
                }
            }
            Over::Told(reason) => {
                tracing::info!(job, queue, %reason, "the instance ended the hold");
                held.machine.destroy().await;
            }
        }
    }

    /// Does what the instance wants until it wants no more, or the time is over.
    async fn obey(&self, terminals: &mut Terminals, until: &mut Instant) -> Over {
        let mut backoff = Backoff::patient();
        loop {
            let asked = Instant::now();
            let known_terminals = terminals.known();
            let request = HoldRequest { known_terminals, ..self.request() };
            let answer = tokio::select! {
                answer = self.client.hold(&request) => answer,
                () = tokio::time::sleep_until(*until) => return Over::Ended(HoldEnd::Expired),
            };
            let pause = match answer {
                Ok(HoldResponse { release: true, .. }) => return Over::Ended(HoldEnd::Released),
                Ok(HoldResponse { remaining_ms: 0, .. }) => return Over::Ended(HoldEnd::Expired),
                Ok(answer) => {
                    backoff.reset();
                    *until = Instant::now() + Duration::from_millis(answer.remaining_ms);
                    match terminals.adjust(&answer.terminals) {
                        true => Duration::ZERO,
                        false => QUIET.saturating_sub(asked.elapsed()),
                    }
                }
                Err(error) if is_over(&error) => return Over::Told(error),
                Err(error) => {
                    tracing::debug!(job = self.client.id(), %error, "asking about a hold failed");
                    backoff.next_delay()
                }
            };
            tokio::time::sleep_until((Instant::now() + pause).min(*until)).await;
        }
    }

    /// The last call; repeated until the instance has heard it.
    async fn tell(&self, end: HoldEnd) {
        let request = HoldRequest { ended: Some(end), ..self.request() };
        let mut backoff = Backoff::transport();
        while let Err(error) = self.client.hold(&request).await {
            if !error.is_transient() {
                return;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    fn request(&self) -> HoldRequest {
        let executor_name = self.client.executor_name().to_owned();
        HoldRequest { executor_name, ..HoldRequest::default() }
    }
}

/// The terminals that the instance listed last, each with its task. One that ended stays until the instance
/// lists it no more, so that none is opened twice.
struct Terminals {
    held: Arc<Held>,
    open: BTreeMap<i64, AbortOnDropHandle<()>>,
}

impl Terminals {
    fn new(held: Arc<Held>) -> Self {
        Self { held, open: BTreeMap::new() }
    }

    fn known(&self) -> Vec<i64> {
        self.open.keys().copied().collect()
    }

    /// Opens and closes; `true` if there was anything to do.
    fn adjust(&mut self, wanted: &[HeldTerminal]) -> bool {
        let before = self.open.len();
        self.open.retain(|id, _| wanted.iter().any(|terminal| terminal.id == *id));
        let mut news = self.open.len() < before;
        for terminal in wanted {
            self.open.entry(terminal.id).or_insert_with(|| {
                news = true;
                let serving = terminal::serve(Arc::clone(&self.held), *terminal);
                AbortOnDropHandle::new(tokio::spawn(serving))
            });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_cut_to_what_the_executor_allows_and_that_is_said() {
        let hour = Duration::from_secs(3600);
        let wish = allowed(1800, hour).unwrap();
        assert_eq!(
            (wish.seconds, wish.note.as_str()),
            (1800, "held for 30m0s, or until it is released")
        );
        let wish = allowed(7200, hour).unwrap();
        assert_eq!(wish.seconds, 3600);
        assert!(wish.note.contains("2h0m0s were wished, EXECUTOR_MAXIMUM_HOLD"), "{}", wish.note);
        assert!(allowed(60, Duration::ZERO).unwrap_err().contains("EXECUTOR_MAXIMUM_HOLD"));
    }
}
