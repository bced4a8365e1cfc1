//! Many at the same time.

use std::collections::BTreeSet;

use store::{Append, NewLogEntry, Outcome};

use crate::contract;
use crate::db::{T0, finish, job, lease};

contract! {
    async fn eight_executors_claim_two_hundred_jobs_once_each(db) {
        let mut jobs = Vec::new();
        for n in 0..200 {
            jobs.push(job("batches", n % 5 + 1));
        }
        let enqueued = db.enqueue_many(&jobs, T0).await.unwrap();
        let workers = (0..8).map(|worker| {
            let store = db.store.clone();
            tokio::spawn(async move {
                let queues = ["batches".to_owned()];
                let executor = format!("exec-{worker}");
                let (mut mine, mut misses) = (Vec::new(), 0);
                // Under contention one look may find all candidates taken; three may not.
                while misses < 3 {
                    let request = store::ClaimRequest {
                        queues: &queues, executor: &executor, shares: None, now: T0,
                    };
                    match store.claim(&request).await.unwrap() {
                        Some(claim) => {
                            let done = finish(&claim, Outcome::Complete);
                            assert!(store.finish(&done, T0).await.unwrap().is_some());
                            mine.push(claim.job.id);
                        }
                        None => misses += 1,
                    }
                }
                mine
            })
        });
        let mut all = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            all.extend(worker.await.unwrap());
        }
        let distinct: BTreeSet<i64> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len(), "no job was claimed twice");
        assert_eq!(distinct, enqueued.iter().map(|e| e.id).collect(), "no job was lost");
        assert!(!db.has_ready("batches", T0).await.unwrap());
    }

    async fn jobs_enqueued_while_lanes_run_empty_are_never_lost(db) {
        // Each job is alone in its lane most of the time, so lanes go on and off all the time.
        let producers = (0..4).map(|user| {
            let store = db.store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    store.enqueue(&job("jobs", user), T0).await.unwrap();
                }
            })
        });
        let producers = producers.collect::<Vec<_>>();
        let consumers = (0..4).map(|worker| {
            let store = db.store.clone();
            tokio::spawn(async move {
                let queues = ["jobs".to_owned()];
                let executor = format!("exec-{worker}");
                let mut claimed = 0;
                for _ in 0..60 {
                    let request = store::ClaimRequest {
                        queues: &queues, executor: &executor, shares: None, now: T0,
                    };
                    claimed += usize::from(store.claim(&request).await.unwrap().is_some());
                }
                claimed
            })
        });
        let consumers = consumers.collect::<Vec<_>>();
        for producer in producers {
            producer.await.unwrap();
        }
        let mut claimed = 0;
        for consumer in consumers {
            claimed += consumer.await.unwrap();
        }
        while db.claim_one("jobs", "exec-9", T0).await.is_some() {
            claimed += 1;
        }
        assert_eq!(claimed, 100);
    }

    async fn a_follower_misses_nothing_while_many_write(db) {
        let claim = db.running(T0).await;
        let id = claim.job.id;
        for n in 1..=4 {
            let key = format!("step.{n}");
            let entry = NewLogEntry { key: &key, ..NewLogEntry::default() };
            db.add_log_entry(&lease(&claim), &entry, Some(n), T0).await.unwrap();
        }
        let writers = (1..=4).map(|entry_id| {
            let (store, claim) = (db.store.clone(), claim.clone());
            tokio::spawn(async move {
                for n in 0..25_u64 {
                    let append =
                        Append { entry_id, offset: n * 3, data: b"ab\n", ..Append::default() };
                    store.append_log(&lease(&claim), &append, T0).await.unwrap();
                }
            })
        });
        let writers = writers.collect::<Vec<_>>();
        let mut page = db.subscribe([store::Topic::Job(id)]);
        let (mut cursor, mut bytes) = (0, 0);
        let follow = async {
            while bytes < 4 * 25 * 3 {
                for item in db.feed(id, cursor, 7, 100).await.unwrap() {
                    assert!(item.seq > cursor);
                    cursor = item.seq;
                    if let store::FeedChange::Output { data, .. } = item.change {
                        bytes += data.len();
                    }
                }
                if bytes < 4 * 25 * 3 && db.feed(id, cursor, 1, 1).await.unwrap().is_empty() {
                    page.changed().await;
                }
            }
        };
        let deadline = std::time::Duration::from_secs(60);
        tokio::time::timeout(deadline, follow).await.expect("all output within a minute");
        for writer in writers {
            writer.await.unwrap();
        }
    }
}
