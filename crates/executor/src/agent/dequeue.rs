//! Takes jobs while there are free slots.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Shared;
use crate::client::queue::{Capacity, DequeueError};
use crate::client::{Backoff, Dequeued, JobRef};
use crate::job::JobControl;

/// How long the instance is asked to hold a dequeue open.
const HOLD: Duration = Duration::from_secs(30);

impl Shared {
    /// Returns when no more jobs are to be taken. The running ones go on.
    pub(super) async fn take_jobs(self: &Arc<Self>) {
        let config = &self.agent.config;
        let until = config.max_active_time.map(|time| Instant::now() + time);
        let mut left = config.total_jobs;
        let mut backoff = Backoff::patient();
        while left != Some(0) {
            let Some(permit) = self.until_end(until, self.free_slot()).await else { return };
            let asked = Instant::now();
            let Some(answer) = self.until_answer(until).await else { return };
            // The site admin drained the executor meanwhile.
            let Some(result) = answer else { continue };
            self.agent.metrics.call("Dequeue", result.is_ok());
            let pause = match result {
                Ok(Some(dequeued)) => {
                    left = left.map(|left| left - 1);
                    backoff.reset();
                    self.start(dequeued, permit);
                    Duration::ZERO
                }
                Ok(None) => {
                    backoff.reset();
                    // An answer that was held has had its pause.
                    config.poll_interval.saturating_sub(asked.elapsed())
                }
                Err(error) => {
                    self.refuse(error).await;
                    backoff.next_delay()
                }
            };
            if self.until_end(until, tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
        tracing::info!("took as many jobs as EXECUTOR_NUM_TOTAL_JOBS allows");
    }

    /// `None` when the executor drains or its active time is over first.
    async fn until_end<T>(
        &self,
        until: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let end_of_time = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.draining() => None,
            () = end_of_time => {
                tracing::info!("EXECUTOR_MAX_ACTIVE_TIME is over, no more jobs are taken");
                None
            }
            done = work => Some(done),
        }
    }

    /// The answer to a question for a job; `None` when the executor ends first. A question that is not
    /// held open is answered soon: giving it up could lose a job that is already on its way.
    async fn until_answer(
        &self,
        until: Option<Instant>,
    ) -> Option<Option<Result<Option<Dequeued>, DequeueError>>> {
        if self.agent.client.granted().long_poll {
            return self.until_end(until, self.ask()).await;
        }
        tokio::select! {
            () = self.shutdown.stopping() => None,
            answer = self.ask() => Some(answer),
        }
    }

    /// A slot, once one is free and the site admin lets us take jobs.
    async fn free_slot(&self) -> OwnedSemaphorePermit {
        let mut drained = self.site_drain.subscribe();
        // The sender lives as long as self; the semaphore is never closed.
        let _ = drained.wait_for(|drained| !drained).await;
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Asks for a job; `None` when the site admin drains the executor while the question is held.
    async fn ask(&self) -> Option<Result<Option<Dequeued>, DequeueError>> {
        let limits = &self.agent.config.limits;
        let capacity = Capacity {
            vcpus: limits.vcpus,
            memory: limits.memory_text.clone(),
            disk: limits.disk_text.clone(),
        };
        let mut drained = self.site_drain.subscribe();
        tokio::select! {
            biased;
            Ok(_) = drained.wait_for(|drained| *drained) => None,
            result = self.agent.client.dequeue(&self.agent.config.queues, &capacity, HOLD) => Some(result),
        }
    }

    fn start(self: &Arc<Self>, dequeued: Dequeued, permit: OwnedSemaphorePermit) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            // Dropped last: a free slot means that nothing of the job is left.
            let _permit = permit;
            let job = JobRef { queue: dequeued.queue.clone(), id: dequeued.job.id };
            let control = JobControl::default();
            shared.running.insert(&job, &control).await;
            // Also when the task panics: the slot and the id are free again.
            let ended = Ended { shared: &shared, job: &job };
            let client = shared.agent.client.job(&job.queue, job.id, &dequeued.job.token);
            let draining = shared.shutdown.drain_token();
            let held = shared.agent.runner.run(dequeued, client, &control, draining).await;
            // The instance knows that the job is over: it may come again while its machine is held.
            drop(ended);
            if let Some(held) = held {
                held.serve(draining, &shared.agent.metrics).await;
            }
        });
    }

    /// A dequeue that brought no job: say so, and give back a job that cannot be read.
    async fn refuse(&self, error: DequeueError) {
        self.agent.status.note_error(&error);
        match error {
            DequeueError::Call(error) => tracing::warn!(%error, "asking for a job failed"),
            DequeueError::Unreadable { job, token, reason } => {
                tracing::error!(%job, reason, "a job cannot be read");
                let client = self.agent.client.job(&job.queue, job.id, token.expose());
                self.agent.runner.refuse(&client, &reason).await;
            }
        }
    }
}

struct Ended<'a> {
    shared: &'a Shared,
    job: &'a JobRef,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.running.remove(self.job);
    }
}
