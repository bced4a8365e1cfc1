//! Lists, counts, and why a job waits.

use protocol::HeartbeatRequest;
use protocol::ext::AgentStatus;
use store::{Job, JobFilter, JobState, NewJob, Outcome, QueueCounts, QueueStats};

use crate::contract;
use crate::db::{Db, T0, finish, job};

async fn ids(db: &Db, filter: JobFilter) -> Vec<i64> {
    let jobs = db.jobs(&JobFilter { limit: 100, ..filter }).await.unwrap();
    jobs.iter().map(|job: &Job| job.id).collect()
}

contract! {
    async fn jobs_are_filtered_and_paged_newest_first(db) {
        let other = NewJob { name: "Build 100%".into(), repository: "x/y".into(), ..job("batches", 2) };
        let a = db.enqueue_one("jobs", 1, T0).await;
        let b = db.enqueue(&other, T0).await.unwrap().id;
        let c = db.enqueue_one("jobs", 2, T0).await;
        db.claim_one("batches", "exec-1", T0).await.unwrap();
        let any = JobFilter::default;
        assert_eq!(ids(db, any()).await, [c, b, a]);
        assert_eq!(ids(db, JobFilter { queue: Some("jobs".into()), ..any() }).await, [c, a]);
        assert_eq!(ids(db, JobFilter { queue: Some(String::new()), ..any() }).await, [c, b, a]);
        let state = Some(JobState::Processing);
        assert_eq!(ids(db, JobFilter { state, ..any() }).await, [b]);
        assert_eq!(ids(db, JobFilter { creator_id: Some(2), ..any() }).await, [c, b]);
        assert_eq!(ids(db, JobFilter { repository: Some("x/y".into()), ..any() }).await, [b]);
        assert_eq!(ids(db, JobFilter { executor: Some("exec-1".into()), ..any() }).await, [b]);
        assert_eq!(ids(db, JobFilter { before: Some(c), ..any() }).await, [b, a]);
        let text = |text: &str| JobFilter { text: Some(text.into()), ..any() };
        assert_eq!(ids(db, text("bUILD 100%")).await, [b]);
        assert_eq!(ids(db, text("COUNT_LINES")).await, Vec::<i64>::new());
        assert_eq!(ids(db, text("EXAMPLE/app")).await, [c, a]);
        assert_eq!(ids(db, text(&format!("#{a}"))).await, [a]);
        assert_eq!(ids(db, text("' OR 1=1 --")).await, Vec::<i64>::new());
        let both = JobFilter { queue: Some("jobs".into()), creator_id: Some(2), ..text("count") };
        assert_eq!(ids(db, both).await, [c]);
        let one = db.jobs(&JobFilter { limit: 1, ..any() }).await.unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(db.count_jobs(&any(), 100).await.unwrap(), 3);
        assert_eq!(db.count_jobs(&any(), 2).await.unwrap(), 2);
        assert_eq!(db.count_jobs(&text("count"), 100).await.unwrap(), 2);
        assert_eq!(db.job(999).await.unwrap(), None);
        assert_eq!(db.payload(999).await.unwrap(), None);
    }

    async fn counts_and_load_of_each_queue(db) {
        db.enqueue_many(&vec![job("jobs", 1); 4], T0).await.unwrap();
        db.enqueue(&NewJob { process_after: Some(T0 + 9999), ..job("jobs", 1) }, T0).await.unwrap();
        let done = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        db.finish(&finish(&done, Outcome::Complete), T0).await.unwrap().unwrap();
        let failed = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        db.finish(&finish(&failed, Outcome::Failed), T0).await.unwrap().unwrap();
        db.claim_one("jobs", "exec-1", T0).await.unwrap();
        let counts = db.counts().await.unwrap();
        assert_eq!(counts.len(), 3);
        let jobs = counts.iter().find(|counts| counts.queue == "jobs").unwrap();
        let expected = QueueCounts {
            queue: "jobs".into(), queued: 2, processing: 1, completed: 1, failed: 1,
            ..QueueCounts::default()
        };
        assert_eq!(*jobs, expected);
        let stats = db.queue_stats(T0 + 70).await.unwrap();
        let jobs = stats.iter().find(|stats| stats.queue == "jobs").unwrap();
        let expected = QueueStats {
            queue: "jobs".into(), queued: 1, delayed: 1, processing: 1, oldest_ms: 70,
        };
        assert_eq!(*jobs, expected);
        let empty = stats.iter().find(|stats| stats.queue == "batches").unwrap();
        assert_eq!((empty.queued, empty.oldest_ms), (0, 0));
    }

    async fn why_a_job_waits_counts_who_goes_first(db) {
        db.enqueue_many(&vec![job("jobs", 1); 3], T0).await.unwrap();
        db.enqueue_many(&vec![job("jobs", 2); 5], T0).await.unwrap();
        db.enqueue(&NewJob { priority: 1, ..job("jobs", 3) }, T0).await.unwrap();
        let mine = db.enqueue_one("jobs", 1, T0 + 1).await;
        let why = db.why_queued(mine, T0 + 2).await.unwrap().unwrap();
        assert_eq!((why.ahead_by_priority, why.ahead_by_same_user), (1, 3));
        // What it says must be what happens.
        let mut before = 0;
        while db.claim_one("jobs", "exec-1", T0 + 2).await.unwrap().job.id != mine {
            before += 1;
        }
        assert_eq!(why.ahead, before);
        assert_eq!(db.why_queued(mine, T0 + 2).await.unwrap(), None, "it runs");
        assert_eq!(db.why_queued(999, T0).await.unwrap(), None);
    }

    async fn why_a_job_waits_counts_executors_and_slots(db) {
        let beat = |name: &str, capacity: Option<i64>, draining| HeartbeatRequest {
            executor_name: name.into(),
            agent: capacity.map(|capacity| AgentStatus {
                capacity, draining, ..AgentStatus::default()
            }),
            ..HeartbeatRequest::default()
        };
        let jobs = ["jobs".to_owned()];
        let id = db.enqueue_one("jobs", 1, T0).await;
        let nobody = db.why_queued(id, T0).await.unwrap().unwrap();
        assert_eq!((nobody.executors, nobody.last_executor_seen_at), (0, None));
        db.executor_heartbeat(&beat("old", Some(9), false), &jobs, false, T0).await.unwrap();
        let now = T0 + 20_000;
        let gone = db.why_queued(id, now).await.unwrap().unwrap();
        assert_eq!((gone.executors, gone.last_executor_seen_at), (0, Some(T0)));
        for (name, capacity, draining) in
            [("a", Some(4), false), ("b", None, false), ("c", Some(2), true), ("d", Some(2), false)]
        {
            let beat = beat(name, capacity, draining);
            db.executor_heartbeat(&beat, &jobs, false, now).await.unwrap();
        }
        let batches = ["batches".to_owned()];
        db.executor_heartbeat(&beat("e", Some(8), false), &batches, false, now).await.unwrap();
        db.set_drain("d", true).await.unwrap();
        db.enqueue_one("batches", 1, T0).await;
        db.claim_one("batches", "a", T0).await.unwrap();
        let why = db.why_queued(id, now).await.unwrap().unwrap();
        assert_eq!((why.executors, why.draining), (4, 2));
        assert_eq!((why.slots, why.slots_in_use, why.executors_of_unknown_capacity), (4, 1, 1));
        let delayed = NewJob { process_after: Some(now + 5), ..job("jobs", 1) };
        let delayed = db.enqueue(&delayed, now).await.unwrap().id;
        let why = db.why_queued(delayed, now).await.unwrap().unwrap();
        assert_eq!(why.process_after, Some(now + 5));
    }
}
