//! Wake-ups, within a process and between replicas.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use store::{Outcome, Store, Subscription, Topic};

use crate::contract;
use crate::db::{T0, finish, lease};

fn woken(subscription: &mut Subscription) -> bool {
    let mut changed = pin!(subscription.changed());
    changed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

contract! {
    async fn everything_that_happens_to_a_job_wakes_its_page(db) {
        let mut queue = db.subscribe([Topic::Queue("jobs".into())]);
        let claim = db.running(T0).await;
        assert!(woken(&mut queue));
        let id = claim.job.id;
        let mut page = db.subscribe([Topic::Job(id)]);
        let mut executor = db.subscribe([Topic::Executor("exec-1".into())]);
        let mut list = db.subscribe([Topic::Jobs]);
        let lease = lease(&claim);
        assert!(!woken(&mut page) && !woken(&mut list));

        let entry = store::NewLogEntry { key: "a", ..store::NewLogEntry::default() };
        db.add_log_entry(&lease, &entry, None, T0).await.unwrap();
        assert!(woken(&mut page) && !woken(&mut list) && !woken(&mut executor));
        let append = store::Append { entry_id: 1, data: b"x", ..store::Append::default() };
        db.append_log(&lease, &append, T0).await.unwrap();
        assert!(woken(&mut page));
        db.replace_log_entry(&lease, 1, &entry, T0).await.unwrap();
        assert!(woken(&mut page));
        db.begin_phase(&lease, protocol::Phase::Booting, 0, T0).await.unwrap();
        assert!(woken(&mut page));
        db.put_result(&lease, "k", "n", &serde_json::json!(1), T0).await.unwrap();
        assert!(woken(&mut page));

        db.cancel(id, "", T0).await.unwrap();
        assert!(woken(&mut page) && woken(&mut list) && woken(&mut executor));
        db.finish(&finish(&claim, Outcome::Failed), T0).await.unwrap().unwrap();
        assert!(woken(&mut page) && woken(&mut list));
        db.retry(id, T0).await.unwrap();
        assert!(woken(&mut queue) && woken(&mut page) && woken(&mut list));
        db.claim_one("jobs", "exec-1", T0).await.unwrap();
        assert!(woken(&mut page) && woken(&mut list));
        db.reset_stalled(T0 + 30_000).await.unwrap();
        assert!(woken(&mut queue) && woken(&mut page) && woken(&mut executor));
    }

    async fn drains_and_repositories_wake_their_topics(db) {
        let beat = protocol::HeartbeatRequest {
            executor_name: "exec-1".into(), ..protocol::HeartbeatRequest::default()
        };
        let mut executors = db.subscribe([Topic::Executors]);
        let mut held = db.subscribe([Topic::Executor("exec-1".into())]);
        db.executor_heartbeat(&beat, &["jobs".into()], false, T0).await.unwrap();
        assert!(woken(&mut executors) && !woken(&mut held));
        db.set_drain("exec-1", true).await.unwrap();
        assert!(woken(&mut executors) && woken(&mut held));
        let mut repositories = db.subscribe([Topic::Repositories]);
        db.add_repository(&store::NewRepository::default(), T0).await.unwrap();
        assert!(woken(&mut repositories));
    }

    async fn five_jobs_wake_five_waiting_executors(db) {
        let mut waiting: Vec<Subscription> =
            (0..7).map(|_| db.subscribe([Topic::Queue("jobs".into())])).collect();
        db.enqueue_many(&vec![crate::db::job("jobs", 1); 5], T0).await.unwrap();
        let woken = waiting.iter_mut().map(woken).filter(|woken| *woken).count();
        assert_eq!(woken, 5);
    }
}

#[tokio::test]
async fn replicas_on_postgres_wake_each_other() {
    let Some(db) = crate::db::Db::postgres().await else { return };
    let replica = Store::open(&db.url).await.unwrap();
    let mut queue = replica.subscribe([Topic::Queue("jobs".into())]);
    let mut other = replica.subscribe([Topic::Queue("batches".into())]);
    db.enqueue_one("jobs", 1, T0).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), queue.changed()).await;
    heard.expect("a wake-up of the other replica");
    assert!(!woken(&mut other));
}
