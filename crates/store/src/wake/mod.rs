//! Wake-ups: whoever waits for a job, for output or for a cancel hears of it at once.
//!
//! Register before you look: subscribe first, then read the database, then wait. A change between the
//! reading and the waiting is then not missed. Wake-ups are hints, never facts: re-read after each,
//! and look again every few seconds without one (a replica may have been away).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::db::Store;

pub(crate) mod postgres;

/// What a wake-up is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A job of this queue became ready. Wakes *one* subscriber for each job, the one that waits
    /// longest: a hundred waiting executors must not all run for one job.
    Queue(String),
    /// Something on this job's feed: state, phase, log entry, output, result.
    Job(i64),
    /// Some job changed its state, for lists.
    Jobs,
    /// This executor must be told something now: a cancel, a drain. Held heartbeats wait for it.
    Executor(String),
    /// The hold of this job, or which terminals it has. The executor that holds waits for it.
    Hold(i64),
    /// Something typed or printed in this terminal, its size or its end.
    Terminal(i64),
    /// The list of executors changed.
    Executors,
    /// The list of repositories changed.
    Repositories,
}

impl Topic {
    /// One line of text, for the way to other replicas.
    pub(crate) fn to_line(&self) -> String {
        match self {
            Self::Queue(name) => format!("queue {name}"),
            Self::Job(id) => format!("job {id}"),
            Self::Jobs => "jobs".into(),
            Self::Executor(name) => format!("executor {name}"),
            Self::Hold(id) => format!("hold {id}"),
            Self::Terminal(id) => format!("terminal {id}"),
            Self::Executors => "executors".into(),
            Self::Repositories => "repositories".into(),
        }
    }

    /// Reads [`Self::to_line`]; `None` for what another version may say.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (kind, name) = line.split_once(' ').unwrap_or((line, ""));
        Some(match kind {
            "queue" => Self::Queue(name.to_owned()),
            "job" => Self::Job(name.parse().ok()?),
            "jobs" => Self::Jobs,
            "executor" => Self::Executor(name.to_owned()),
            "hold" => Self::Hold(name.parse().ok()?),
            "terminal" => Self::Terminal(name.parse().ok()?),
            "executors" => Self::Executors,
            "repositories" => Self::Repositories,
            _ => return None,
        })
    }
}

/// Registered interest in some topics. Dropping it ends the interest.
#[derive(Debug)]
pub struct Subscription {
    wake: Wake,
    topics: Vec<Topic>,
    waiter: Arc<Waiter>,
}

impl Subscription {
    /// Resolves when one of the topics was bumped since the subscription or since the last time this
    /// resolved. Cancel safe.
    pub async fn changed(&mut self) {
        self.waiter.notify.notified().await;
        self.waiter.woken.store(false, Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.wake.remove(&self.topics, &self.waiter);
        if self.waiter.woken.load(Ordering::Acquire) {
            // Woken for a job but gone before looking: the next in line must look instead.
            for topic in self.topics.iter().filter(|t| matches!(t, Topic::Queue(_))) {
                self.wake.bump(topic);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Waiter {
    notify: Notify,
    /// Notified and not yet resolved.
    woken: AtomicBool,
}

impl Waiter {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// The waiters of this process by topic. The lock is held for moments and never across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake {
    waiters: Arc<Mutex<HashMap<Topic, VecDeque<Weak<Waiter>>>>>,
}

impl Wake {
    fn subscribe(&self, topics: Vec<Topic>) -> Subscription {
        let waiter = Arc::new(Waiter::default());
        let mut map = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &topics {
            map.entry(topic.clone()).or_default().push_back(Arc::downgrade(&waiter));
        }
        drop(map);
        Subscription { wake: self.clone(), topics, waiter }
    }

    pub(crate) fn bump(&self, topic: &Topic) {
        let mut map = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = map.get_mut(topic) else { return };
        if !matches!(topic, Topic::Queue(_)) {
            line.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.wake());
            return;
        }
        for place in 0..line.len() {
            let waiter = line.get(place).and_then(Weak::upgrade);
            if let Some(waiter) = waiter.filter(|w| !w.woken.load(Ordering::Acquire)) {
                waiter.wake();
                // To the back of the line, so that the next job wakes the next executor.
                if let Some(entry) = line.remove(place) {
                    line.push_back(entry);
                }
                return;
            }
        }
    }

    /// After a time of deafness nobody knows what was missed.
    pub(crate) fn bump_everything(&self) {
        let map = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        map.values().flatten().filter_map(Weak::upgrade).for_each(|waiter| waiter.wake());
    }

    fn remove(&self, topics: &[Topic], waiter: &Arc<Waiter>) {
        let mut map = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            if let Some(line) = map.get_mut(topic) {
                line.retain(|w| !std::ptr::eq(w.as_ptr(), Arc::as_ptr(waiter)));
                if line.is_empty() {
                    map.remove(topic);
                }
            }
        }
    }
}

impl Store {
    /// Registers interest in `topics`. Do it before reading the state that the topics are about.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = Topic>) -> Subscription {
        self.wake().subscribe(topics.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;
    use std::task::{Context, Waker};

    fn ready(subscription: &mut Subscription) -> bool {
        let mut future = std::pin::pin!(subscription.changed());
        future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn one_job_wakes_one_waiter_and_the_next_job_the_next() {
        let wake = Wake::default();
        let queue = || vec![Topic::Queue("jobs".into())];
        let (mut a, mut b) = (wake.subscribe(queue()), wake.subscribe(queue()));
        wake.bump(&Topic::Queue("jobs".into()));
        assert!(ready(&mut a) && !ready(&mut b));
        wake.bump(&Topic::Queue("jobs".into()));
        assert!(!ready(&mut a) && ready(&mut b));
    }

    #[test]
    fn a_waiter_that_leaves_hands_its_wake_up_on() {
        let wake = Wake::default();
        let queue = || vec![Topic::Queue("jobs".into())];
        let (a, mut b) = (wake.subscribe(queue()), wake.subscribe(queue()));
        wake.bump(&Topic::Queue("jobs".into()));
        drop(a);
        assert!(ready(&mut b));
        drop(b);
        assert!(wake.waiters.lock().unwrap().is_empty());
    }

    #[test]
    fn a_change_before_the_wait_is_not_missed_and_reaches_everyone() {
        let wake = Wake::default();
        let (mut a, mut b) =
            (wake.subscribe(vec![Topic::Job(7)]), wake.subscribe(vec![Topic::Job(7), Topic::Jobs]));
        wake.bump(&Topic::Job(8));
        assert!(!ready(&mut a));
        wake.bump(&Topic::Job(7));
        assert!(ready(&mut a) && ready(&mut b) && !ready(&mut b));
    }

    #[test]
    fn topics_survive_the_way_as_text() {
        let topics = [
            Topic::Queue("jobs".into()),
            Topic::Job(31),
            Topic::Jobs,
            Topic::Executor("exec 7".into()),
            Topic::Hold(31),
            Topic::Terminal(7),
            Topic::Executors,
            Topic::Repositories,
        ];
        for topic in topics {
            assert_eq!(Topic::from_line(&topic.to_line()), Some(topic));
        }
        assert_eq!(Topic::from_line("moon phase"), None);
    }
}
