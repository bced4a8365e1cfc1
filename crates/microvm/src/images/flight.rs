//! Work for one key is done once at a time; others wait, see its progress, and look again.
//!
//! A waiter takes over when the one at work fails or goes away: it holds a lock, not a result, so nobody
//! ever inherits an error that came from another requester's credentials.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, watch};

use super::request::Progress;

/// Keys at work.
#[derive(Debug)]
pub struct Flights<K>(Arc<Mutex<HashMap<K, Flight>>>);

#[derive(Clone, Debug)]
struct Flight {
    lock: Arc<tokio::sync::Mutex<()>>,
    progress: watch::Sender<Option<Progress>>,
}

/// The right to work on a key, until dropped.
pub struct Turn<K: Eq + Hash> {
    key: K,
    flights: Arc<Mutex<HashMap<K, Flight>>>,
    flight: Flight,
    lock: Option<OwnedMutexGuard<()>>,
}

impl<K: Clone + Eq + Hash> Flights<K> {
    /// Nothing at work.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Waits for one's turn; `waiting` is told the progress of whoever has it.
    pub async fn turn(&self, key: &K, waiting: impl Fn(Option<Progress>)) -> Turn<K> {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Flight { lock: Arc::default(), progress: watch::Sender::new(None) };
            flights.entry(key.clone()).or_insert_with(new).clone()
        };
        // Made before waiting: it also cleans up after a waiter that gives up.
        let mut turn = Turn { key: key.clone(), flights: Arc::clone(&self.0), flight, lock: None };
        let mut progress = turn.flight.progress.subscribe();
        let acquire = Arc::clone(&turn.flight.lock).lock_owned();
        tokio::pin!(acquire);
        turn.lock = loop {
            tokio::select! {
                biased;
                lock = &mut acquire => break Some(lock),
                changed = progress.changed() => {
                    // The sender lives as long as `turn`.
                    if changed.is_ok() {
                        waiting(*progress.borrow_and_update());
                    }
                }
            }
        };
        turn
    }
}

impl<K: Eq + Hash> Turn<K> {
    /// Tells those who wait.
    pub fn reporter(&self) -> watch::Sender<Option<Progress>> {
        self.flight.progress.clone()
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        drop(self.lock.take());
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // This one's and the map's: nobody else waits. Handles are only cloned under the map's lock.
        if Arc::strong_count(&self.flight.lock) == 2 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn one_at_a_time_and_nothing_stays_behind() {
        let flights = Arc::new(Flights::new());
        let at_work = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (flights, at_work) = (Arc::clone(&flights), Arc::clone(&at_work));
                tokio::spawn(async move {
                    let _turn = flights.turn(&"key", |_| ()).await;
                    assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    at_work.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(flights.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_sees_progress_and_takes_over() {
        let flights = Arc::new(Flights::new());
        let first = flights.turn(&1, |_| ()).await;
        let (seen, mut saw) = tokio::sync::mpsc::unbounded_channel();
        let waiter = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move {
                let tell = move |progress| {
                    let _ = seen.send(progress);
                };
                drop(flights.turn(&1, tell).await);
            }
        });
        let progress = Progress { phase: super::super::Phase::Merging, done: 1, total: 2 };
        while saw.is_empty() {
            first.reporter().send_replace(Some(progress));
            tokio::task::yield_now().await;
        }
        assert_eq!(saw.recv().await, Some(Some(progress)));
        drop(first);
        waiter.await.unwrap();
        let quitter = flights.turn(&1, |_| ()).await;
        let abandoned =
            tokio::time::timeout(std::time::Duration::ZERO, flights.turn(&1, |_| ())).await;
        assert!(abandoned.is_err());
        drop(quitter);
        assert!(flights.0.lock().unwrap().is_empty());
    }
}
