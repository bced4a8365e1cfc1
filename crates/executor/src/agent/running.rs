//! Which jobs run here, and what an answer to a heartbeat means for them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::WireId;
use protocol::hold::HoldWish;
use tokio::sync::watch;

use crate::client::JobRef;
use crate::client::queue::Beat;
use crate::job::{Interrupt, JobControl};

/// The running jobs. Changes can be waited for.
#[derive(Debug)]
pub struct RunningJobs {
    jobs: watch::Sender<BTreeMap<JobRef, JobControl>>,
}

impl Default for RunningJobs {
    fn default() -> Self {
        Self { jobs: watch::Sender::new(BTreeMap::new()) }
    }
}

impl RunningJobs {
    /// Adds a job as soon as no other with its id runs. One that does has lost its lease, since the
    /// instance gave the id out again: it is stopped first.
    pub async fn insert(&self, job: &JobRef, control: &JobControl) {
        let mut changes = self.jobs.subscribe();
        loop {
            let older = changes.borrow_and_update().get(job).cloned();
            if let Some(older) = older {
                tracing::warn!(%job, "the job was handed out again while it ran, the older run is stopped");
                older.interrupt(Interrupt::LeaseLost);
            }
            let added = self.jobs.send_if_modified(|jobs| match jobs.entry(job.clone()) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(control.clone());
                    true
                }
                std::collections::btree_map::Entry::Occupied(_) => false,
            });
            if added {
                return;
            }
            // The sender lives as long as self.
            let _ = changes.changed().await;
        }
    }

    /// Removes a job that ended.
    pub fn remove(&self, job: &JobRef) {
        self.jobs.send_if_modified(|jobs| jobs.remove(job).is_some());
    }

    /// All of them, sorted.
    pub fn list(&self) -> Vec<JobRef> {
        self.jobs.borrow().keys().cloned().collect()
    }

    /// Tells when a job starts or ends.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<JobRef, JobControl>> {
        self.jobs.subscribe()
    }

    /// Stops all of them.
    pub fn interrupt_all(&self, reason: Interrupt) {
        for control in self.jobs.borrow().values() {
            control.interrupt(reason);
        }
    }

    /// Notes which machines shall be held if their jobs fail. The instance repeats that in each answer.
    pub fn wish_holds(&self, wishes: &[HoldWish]) {
        let jobs = self.jobs.borrow();
        for wish in wishes {
            let Some((id, queue)) = wish.id.split() else { continue };
            let named = |job: &JobRef| job.id == id && queue.is_none_or(|queue| job.queue == queue);
            for (job, control) in jobs.iter().filter(|(job, _)| named(job)) {
                if control.wish_hold(wish.seconds) {
                    let seconds = wish.seconds;
                    tracing::info!(%job, seconds, "a site admin says how long to hold the machine if the job fails");
                }
            }
        }
    }

    /// Stops what the instance wants stopped; `true` if that was news for any job.
    pub fn obey(&self, orders: &[(JobRef, Interrupt)]) -> bool {
        let jobs = self.jobs.borrow();
        let mut news = false;
        for (job, reason) in orders {
            if let Some(control) = jobs.get(job)
                && control.interrupt(*reason)
            {
                tracing::info!(%job, ?reason, "the instance stops a job");
                news = true;
            }
        }
        news
    }
}

/// What an answer says about the jobs that were reported. Jobs that started since are not its
/// business, and an id that cannot be read never stops anything.
pub fn orders(reported: &[JobRef], beat: &Beat) -> Vec<(JobRef, Interrupt)> {
    let canceled = named(reported, &beat.cancel).0;
    let mut orders: Vec<_> =
        canceled.iter().map(|job| ((*job).clone(), Interrupt::Canceled)).collect();
    let Some(known) = &beat.known else { return orders };
    let (known, all_readable) = named(reported, known);
    if !all_readable {
        tracing::warn!("the instance answered a heartbeat with an id that cannot be read");
        return orders;
    }
    for job in reported {
        if !known.contains(job) && !canceled.contains(job) {
            orders.push((job.clone(), Interrupt::LeaseLost));
        }
    }
    orders
}

/// The reported jobs that are named, and whether every id could be read.
fn named<'a>(reported: &'a [JobRef], ids: &[WireId]) -> (BTreeSet<&'a JobRef>, bool) {
    let mut found = BTreeSet::new();
    let mut all_readable = true;
    for id in ids {
        let Some((number, queue)) = id.split() else {
            all_readable = false;
            continue;
        };
        found.extend(
            reported
                .iter()
                .filter(|job| job.id == number && queue.is_none_or(|queue| job.queue == queue)),
        );
    }
    (found, all_readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: i64, queue: &str) -> JobRef {
        JobRef { queue: queue.into(), id }
    }

    fn beat(known: Option<&[&str]>, cancel: &[&str]) -> Beat {
        let ids = |ids: &[&str]| ids.iter().map(|id| WireId::Text((*id).into())).collect();
        Beat { known: known.map(ids), cancel: ids(cancel), ..Beat::default() }
    }

    #[test]
    fn unknown_jobs_are_dropped_and_cancelled_ones_cancelled() {
        let reported = [job(1, "batches"), job(2, "batches"), job(2, "codeintel")];
        let answer = beat(Some(&["2-batches", "2-codeintel"]), &["2-codeintel"]);
        let expected =
            [(job(2, "codeintel"), Interrupt::Canceled), (job(1, "batches"), Interrupt::LeaseLost)];
        assert_eq!(orders(&reported, &answer), expected);
    }

    #[test]
    fn ids_without_queue_name_the_job_in_any_queue() {
        let reported = [job(1, "jobs"), job(2, "jobs")];
        assert_eq!(orders(&reported, &beat(Some(&["1", "2"]), &[])), []);
    }

    #[test]
    fn an_answer_that_cannot_be_read_stops_nothing() {
        let reported = [job(1, "jobs")];
        assert_eq!(orders(&reported, &beat(Some(&["seven"]), &[])), []);
        assert_eq!(orders(&reported, &beat(None, &[])), []);
        let cancel_only = beat(None, &["1", "x"]);
        assert_eq!(orders(&reported, &cancel_only), [(job(1, "jobs"), Interrupt::Canceled)]);
    }

    #[test]
    fn null_means_that_no_job_is_known() {
        let reported = [job(1, "jobs")];
        assert_eq!(
            orders(&reported, &beat(Some(&[]), &[])),
            [(job(1, "jobs"), Interrupt::LeaseLost)]
        );
    }

    #[tokio::test]
    async fn a_wish_reaches_the_job_that_it_names() {
        let running = RunningJobs::default();
        let controls = [JobControl::default(), JobControl::default()];
        running.insert(&job(5, "batches"), &controls[0]).await;
        running.insert(&job(5, "codeintel"), &controls[1]).await;
        let wish = |id: &str, seconds| HoldWish { id: WireId::Text(id.into()), seconds };
        running.wish_holds(&[wish("5-codeintel", 60), wish("6", 1), wish("what", 1)]);
        assert_eq!(controls.each_ref().map(JobControl::hold_wish), [None, Some(60)]);
        running.wish_holds(&[wish("5", 0)]);
        assert_eq!(controls.each_ref().map(JobControl::hold_wish), [Some(0), Some(0)]);
    }

    #[tokio::test]
    async fn an_id_that_is_handed_out_again_waits_for_the_older_run() {
        let running = RunningJobs::default();
        let (older, newer) = (JobControl::default(), JobControl::default());
        running.insert(&job(1, "jobs"), &older).await;
        let second = job(1, "jobs");
        let (_, ()) = tokio::join!(running.insert(&second, &newer), async {
            assert_eq!(older.interrupted().await, Interrupt::LeaseLost);
            running.remove(&job(1, "jobs"));
        });
        assert_eq!(running.list(), [job(1, "jobs")]);
        assert_eq!(newer.reason(), None);
    }
}
