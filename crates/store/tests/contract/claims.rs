//! Enqueue, claim, heartbeat.

use store::{Beat, ClaimRequest, JobState, NewJob, Outcome, policy::QueueShare};

use crate::contract;
use crate::db::{T0, finish, job};

contract! {
    async fn a_claimed_job_has_everything_it_was_enqueued_with(db) {
        let admin = db.create_first_admin("Ada", "hash", T0).await.unwrap().unwrap();
        let new = NewJob { priority: 7, max_retries: 2, ..job("jobs", admin) };
        let id = db.enqueue(&new, T0).await.unwrap().id;
        let queued = db.job(id).await.unwrap().unwrap();
        assert_eq!((queued.state, queued.attempt, queued.priority), (JobState::Queued, 0, 7));
        assert_eq!(queued.creator_name, "Ada");

        let claim = db.claim_one("jobs", "exec-1", T0 + 5).await.unwrap();
        assert_eq!(claim.payload, new.payload);
        assert_eq!(claim.token.expose().len(), 40);
        let got = &claim.job;
        assert_eq!((got.id, got.state, got.attempt), (id, JobState::Processing, 1));
        assert_eq!((got.name.as_str(), got.repository.as_str()), ("count lines", "example/app"));
        assert_eq!((got.commit.as_str(), got.max_retries), (new.commit.as_str(), 2));
        assert_eq!((got.executor.as_str(), got.started_at), ("exec-1", Some(T0 + 5)));
        assert_eq!((got.created_at, got.queued_at), (T0, T0));
        assert_eq!(db.job(id).await.unwrap().unwrap(), claim.job);
        assert_eq!(db.payload(id).await.unwrap().unwrap(), new.payload);
        assert_eq!(db.claim_one("jobs", "exec-2", T0 + 6).await.map(|c| c.job.id), None);
    }

    async fn an_unknown_queue_is_refused_and_nothing_is_enqueued(db) {
        let error = db.enqueue_many(&[job("jobs", 1), job("nope", 1)], T0).await.unwrap_err();
        assert!(error.to_string().contains("\"nope\""), "{error}");
        assert!(!db.has_ready("jobs", T0).await.unwrap());
        assert!(db.claim_one("nope", "exec-1", T0).await.is_none());
    }

    async fn the_same_idempotency_key_is_the_same_job(db) {
        let new = NewJob { idempotency_key: Some("k".into()), ..job("jobs", 1) };
        let first = db.enqueue(&new, T0).await.unwrap();
        let second = db.enqueue(&new, T0 + 1).await.unwrap();
        assert_eq!((second.id, second.created), (first.id, false));
        let other_user = NewJob { creator_id: 2, ..new.clone() };
        assert!(db.enqueue(&other_user, T0).await.unwrap().created);
        assert!(db.enqueue(&job("jobs", 1), T0).await.unwrap().created);
        assert!(db.enqueue(&job("jobs", 1), T0).await.unwrap().created);
    }

    async fn a_delayed_job_waits_for_its_time(db) {
        let new = NewJob { process_after: Some(T0 + 1000), ..job("jobs", 1) };
        let id = db.enqueue(&new, T0).await.unwrap().id;
        assert!(!db.has_ready("jobs", T0 + 999).await.unwrap());
        assert!(db.claim_one("jobs", "exec-1", T0 + 999).await.is_none());
        let later = db.enqueue_one("jobs", 1, T0 + 500).await;
        assert_eq!(db.claim_one("jobs", "exec-1", T0 + 999).await.unwrap().job.id, later);
        assert_eq!(db.claim_one("jobs", "exec-1", T0 + 1000).await.unwrap().job.id, id);
        let past = NewJob { process_after: Some(T0), ..job("jobs", 1) };
        let past = db.enqueue(&past, T0 + 1).await.unwrap().id;
        assert_eq!(db.claim_one("jobs", "exec-1", T0 + 1).await.unwrap().job.id, past);
    }

    async fn a_heartbeat_knows_only_the_jobs_of_its_executor(db) {
        let mine = db.running(T0).await.job.id;
        db.enqueue_one("batches", 1, T0).await;
        let other = db.claim_one("batches", "exec-2", T0).await.unwrap().job.id;
        let waiting = db.enqueue_one("jobs", 1, T0).await;
        let beats = db.heartbeat("exec-1", &[mine, other, waiting, 999, mine], T0 + 9).await.unwrap();
        assert_eq!(beats, [Beat { job_id: mine, queue: "jobs".into(), cancel: false, hold: None }]);
        assert_eq!(db.job(mine).await.unwrap().unwrap().last_heartbeat_at, Some(T0 + 9));
        assert_eq!(db.job(other).await.unwrap().unwrap().last_heartbeat_at, Some(T0));
        assert!(db.heartbeat("exec-1", &[], T0).await.unwrap().is_empty());
    }

    async fn a_heartbeat_of_many_jobs_is_one_answer(db) {
        let many = vec![job("jobs", 1); 3];
        db.enqueue_many(&many, T0).await.unwrap();
        for _ in 0..3 {
            db.claim_one("jobs", "exec-1", T0).await.unwrap();
        }
        let ids: Vec<i64> = (1..=1200).collect();
        let beats = db.heartbeat("exec-1", &ids, T0).await.unwrap();
        assert_eq!(beats.iter().map(|beat| beat.job_id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    async fn a_multi_queue_claim_takes_from_any_queue_and_counts(db) {
        let queues = ["codeintel".to_owned(), "batches".to_owned()];
        let shares = QueueShare::defaults();
        let request = |now| ClaimRequest {
            queues: &queues, executor: "exec-1", shares: Some(&shares), now,
        };
        assert!(db.claim(&request(T0)).await.unwrap().is_none());
        db.enqueue_one("jobs", 1, T0).await;
        assert!(db.claim(&request(T0)).await.unwrap().is_none(), "a queue that was not asked for");
        let id = db.enqueue_one("codeintel", 0, T0).await;
        assert_eq!(db.claim(&request(T0)).await.unwrap().unwrap().job.id, id);
        assert_eq!(db.claims_in_window("codeintel", T0 + 299_999).await.unwrap(), 1);
        assert_eq!(db.claims_in_window("codeintel", T0 + 300_000).await.unwrap(), 0);
        db.claim_one("jobs", "exec-1", T0).await.unwrap();
        assert_eq!(db.claims_in_window("jobs", T0).await.unwrap(), 0, "single-queue claims");
    }

    async fn a_queue_over_its_limit_stands_back_but_never_idles(db) {
        let queues = ["codeintel".to_owned(), "batches".to_owned()];
        let share = |queue: &str, limit| QueueShare { queue: queue.into(), limit, weight: 1 };
        let shares = [share("codeintel", 100), share("batches", 1)];
        let request = ClaimRequest {
            queues: &queues, executor: "exec-1", shares: Some(&shares), now: T0,
        };
        db.enqueue_many(&vec![job("batches", 1); 3], T0).await.unwrap();
        assert_eq!(db.claim(&request).await.unwrap().unwrap().job.queue, "batches");
        db.enqueue_many(&vec![job("codeintel", 0); 2], T0).await.unwrap();
        let mut order = Vec::new();
        while let Some(claim) = db.claim(&request).await.unwrap() {
            order.push(claim.job.queue);
        }
        assert_eq!(order, ["codeintel", "codeintel", "batches", "batches"]);
    }

    async fn a_job_claimed_again_forgets_how_it_ended_before(db) {
        let claim = db.running(T0).await;
        let mut end = finish(&claim, Outcome::Failed);
        end.message = "boom".into();
        end.exit_code = Some(3);
        db.finish(&end, T0 + 1).await.unwrap().unwrap();
        db.retry(claim.job.id, T0 + 2).await.unwrap();
        let again = db.claim_one("jobs", "exec-2", T0 + 3).await.unwrap();
        assert_eq!((again.job.attempt, again.job.exit_code), (2, None));
        assert_eq!((again.job.message.as_str(), again.job.finished_at), ("", None));
        assert_ne!(again.token, claim.token);
    }
}
