//! Who of the held dequeues may look for a job.
//!
//! A hundred executors wait; one job arrives. If all of them looked, ninety-nine statements would find
//! nothing. So a wake-up lets only the few that have waited longest look, and each that finds a job
//! lets one more look, because there may be another. A wake-up that meets nobody is lost, which is
//! why a waiter registers before it looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Waiters that look at once for one wake-up: more than one in case the first has just gone away.
const LOOKERS: usize = 2;

/// The held dequeues of this process, longest waiting first.
#[derive(Clone, Debug, Default)]
pub struct Dispatcher {
    waiters: Arc<Mutex<Waiters>>,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    by_age: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    queues: Vec<String>,
    called: bool,
    notify: Arc<Notify>,
}

impl Dispatcher {
    /// Stands in line. Look for a job *after* this.
    pub fn wait_for(&self, queues: &[String]) -> Waiter {
        let notify = Arc::new(Notify::new());
        let mut waiters = self.lock();
        let ticket = waiters.next;
        waiters.next += 1;
        let entry = Entry { queues: queues.to_vec(), called: false, notify: Arc::clone(&notify) };
        waiters.by_age.insert(ticket, entry);
        Waiter { dispatcher: self.clone(), ticket, notify }
    }

    /// There may be a job in `queue`.
    pub fn wake(&self, queue: &str) {
        self.call(LOOKERS, |entry| entry.queues.iter().any(|q| q == queue));
    }

    /// Something may have become takeable by time alone, or on another replica.
    pub fn wake_any(&self) {
        self.call(LOOKERS, |_| true);
    }

    /// Held dequeues.
    pub fn waiting(&self) -> usize {
        self.lock().by_age.len()
    }

    fn call(&self, count: usize, wants: impl Fn(&Entry) -> bool) {
        let mut waiters = self.lock();
        let idle = waiters.by_age.values_mut().filter(|e| !e.called && wants(e));
        for entry in idle.take(count) {
            entry.called = true;
            entry.notify.notify_one();
        }
    }

    // Blocking lock: held for map operations only, never across an await.
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub struct Waiter {
    dispatcher: Dispatcher,
    ticket: u64,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Until this waiter may look. The place in the line is kept, so who finds nothing stays first.
    pub async fn called(&self) {
        self.notify.notified().await;
        // From here on a new wake-up counts again: the look that follows cannot miss its job.
        if let Some(entry) = self.dispatcher.lock().by_age.get_mut(&self.ticket) {
            entry.called = false;
        }
    }

    /// Leaves with a job: there may be another one for the next.
    pub fn leave_with_job(self, queue: &str) {
        let dispatcher = self.dispatcher.clone();
        drop(self);
        dispatcher.wake(queue);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let entry = self.dispatcher.lock().by_age.remove(&self.ticket);
        // Called, but gone before it looked: somebody else must.
        if let Some(entry) = entry
            && entry.called
        {
            self.dispatcher.call(1, |e| e.queues.iter().any(|q| entry.queues.contains(q)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn called(waiter: &Waiter) -> bool {
        waiter.called().now_or_never().is_some()
    }

    #[test]
    fn only_the_longest_waiting_of_the_queue_look() {
        let dispatcher = Dispatcher::default();
        let jobs = ["jobs".to_owned()];
        let other = dispatcher.wait_for(&["batches".to_owned()]);
        let waiters: Vec<_> = (0..10).map(|_| dispatcher.wait_for(&jobs)).collect();
        dispatcher.wake("jobs");
        let looking: Vec<_> = waiters.iter().map(called).collect();
        assert_eq!(looking.iter().filter(|c| **c).count(), LOOKERS);
        assert!(looking[0] && looking[1] && !called(&other));
    }

    #[test]
    fn many_wakes_reach_many_waiters() {
        let dispatcher = Dispatcher::default();
        let jobs = ["jobs".to_owned()];
        let waiters: Vec<_> = (0..6).map(|_| dispatcher.wait_for(&jobs)).collect();
        dispatcher.wake("jobs");
        dispatcher.wake("jobs");
        dispatcher.wake("jobs");
        assert!(waiters.iter().all(called));
    }

    #[test]
    fn who_finds_a_job_lets_the_next_look() {
        let dispatcher = Dispatcher::default();
        let jobs = ["jobs".to_owned()];
        let mut waiters: Vec<_> = (0..3).map(|_| dispatcher.wait_for(&jobs)).collect();
        dispatcher.wake("jobs");
        assert!(called(&waiters[0]) && called(&waiters[1]) && !called(&waiters[2]));
        waiters.remove(0).leave_with_job("jobs");
        assert!(called(&waiters[0]) && called(&waiters[1]));
    }

    #[test]
    fn who_leaves_unlooked_passes_the_call_on() {
        let dispatcher = Dispatcher::default();
        let jobs = ["jobs".to_owned()];
        let mut waiters: Vec<_> = (0..LOOKERS + 1).map(|_| dispatcher.wait_for(&jobs)).collect();
        dispatcher.wake("jobs");
        drop(waiters.remove(0));
        assert!(waiters.iter().all(called));
        assert_eq!(dispatcher.waiting(), LOOKERS);
    }
}
