//! The heartbeat: every few seconds, also when idle and while draining, until the last job ended.
//!
//! Where the instance offers it, each beat is held open until there is something to tell, and the
//! next one follows at once: a cancellation arrives without waiting for the next beat.

use std::time::Duration;

use protocol::HeartbeatRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::running::orders;
use crate::client::queue::Beat;
use crate::client::{ClientError, JobRef};

/// First and longest pause after held beats that came back early with nothing new: the instance
/// repeats itself until a job that it stopped is gone.
const REPEATED: Duration = Duration::from_millis(200);
const REPEATED_MAX: Duration = Duration::from_secs(1);
/// Beats are never closer than this, so that several jobs starting together make one beat.
const CLOSEST: Duration = Duration::from_millis(20);

/// When the next beat is due.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    repeated: u32,
}

impl Pace {
    /// After a held beat that took `elapsed`: at once, unless the instance only repeats itself.
    fn after_held(&mut self, elapsed: Duration, news: bool, interval: Duration) -> Duration {
        if news || elapsed >= interval / 2 {
            self.repeated = 0;
            return elapsed;
        }
        let pause = REPEATED.saturating_mul(1 << self.repeated.min(8)).min(REPEATED_MAX);
        self.repeated += 1;
        elapsed + pause
    }
}

impl Shared {
    pub(super) async fn beat(&self, telemetry: HeartbeatRequest, end: CancellationToken) {
        let interval = self.agent.config.heartbeat_interval;
        let mut pace = Pace::default();
        loop {
            let started = Instant::now();
            let next = tokio::select! {
                () = end.cancelled() => return,
                next = self.one_beat(&telemetry, interval, &mut pace) => next,
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep_until(started + next.max(CLOSEST)) => {}
            }
        }
    }

    /// Sends one beat; answers when the next is due, counted from the start of this one.
    async fn one_beat(
        &self,
        telemetry: &HeartbeatRequest,
        interval: Duration,
        pace: &mut Pace,
    ) -> Duration {
        let client = &self.agent.client;
        let started = Instant::now();
        let mut jobs = self.running.subscribe();
        let mut status = self.agent.status.subscribe();
        let reported: Vec<JobRef> = jobs.borrow_and_update().keys().cloned().collect();
        let mut telemetry =
            HeartbeatRequest { prometheus_metrics: self.agent.metrics.text(), ..telemetry.clone() };
        let negotiated = client.granted();
        if !negotiated.is_empty() {
            telemetry.agent = Some(status.borrow_and_update().clone());
        }
        let call = client.heartbeat(&self.agent.config.queues, &reported, telemetry, interval);
        let result = tokio::select! {
            result = call => result,
            // The instance holds a beat that does not know of this change: replace it.
            Ok(()) = jobs.changed(), if negotiated.long_poll => return Duration::ZERO,
            Ok(()) = status.changed(), if negotiated.long_poll => return Duration::ZERO,
        };
        self.agent.metrics.call("Heartbeat", result.is_ok());
        match result {
            Ok(beat) => {
                if std::mem::take(&mut pace.failures) > 0 {
                    tracing::info!("the instance answers heartbeats again");
                }
                let news = self.obey(&reported, &beat);
                if !beat.held && !client.granted().long_poll {
                    return interval;
                }
                pace.after_held(started.elapsed(), news, interval)
            }
            Err(error) => {
                pace.failures += 1;
                self.complain(&error, pace.failures);
                interval
            }
        }
    }

    /// Does what the answer says; `true` if it said anything new.
    fn obey(&self, reported: &[JobRef], beat: &Beat) -> bool {
        self.running.wish_holds(&beat.holds);
        let mut news = self.running.obey(&orders(reported, beat));
        if let Some(drain) = beat.drain {
            let changed =
                self.site_drain.send_if_modified(|known| std::mem::replace(known, drain) != drain);
            if changed {
                let text = if drain { "drained by the site admin" } else { "no longer drained" };
                tracing::info!("{text}");
                self.agent.status.set_draining(drain || self.shutdown.is_draining());
                news = true;
            }
        }
        news
    }

    /// A failed beat stops no job; the next may succeed.
    fn complain(&self, error: &ClientError, failures: u32) {
        self.agent.status.note_error(error);
        if error.is_refused() {
            tracing::error!(
                %error,
                "the instance refuses the access token: EXECUTOR_FRONTEND_PASSWORD must be equal to executors.accessToken in its site configuration"
            );
        } else {
            tracing::warn!(%error, failures, "the heartbeat failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_repeats_itself_is_asked_less_often() {
        let mut pace = Pace::default();
        let interval = Duration::from_secs(5);
        let ms = Duration::from_millis;
        assert_eq!(pace.after_held(ms(30), true, interval), ms(30));
        let pauses = [0; 4].map(|_| pace.after_held(ms(0), false, interval));
        assert_eq!(pauses, [ms(200), ms(400), ms(800), ms(1000)]);
        assert_eq!(pace.after_held(ms(5000), false, interval), ms(5000));
        assert_eq!(pace.after_held(ms(0), false, interval), ms(200));
    }
}
