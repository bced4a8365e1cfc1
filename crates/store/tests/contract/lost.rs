//! Executors that fall silent, and those that come back.

use protocol::FailureReason;
use store::{Beat, Error, JobState, Outcome, Reset, TokenState};

use crate::contract;
use crate::db::{Db, T0, finish, lease};

/// The first moment at which a job beaten at `T0` is given up.
const LOST: i64 = T0 + 25_001;

async fn lose(db: &Db, now: i64) -> Vec<Reset> {
    db.reset_stalled(now).await.unwrap()
}

contract! {
    async fn a_silent_executor_loses_its_job_after_25_seconds(db) {
        let claim = db.running(T0).await;
        assert!(lose(db, T0 + 25_000).await.is_empty());
        let reset = Reset {
            job_id: claim.job.id,
            queue: "jobs".into(),
            executor: "exec-1".into(),
            state: JobState::Queued,
        };
        assert_eq!(lose(db, LOST).await, [reset]);
        assert!(lose(db, LOST).await.is_empty());
        let attempt = &db.attempts(claim.job.id).await.unwrap()[0];
        assert_eq!((attempt.outcome.as_str(), attempt.finished_at), ("lost", Some(LOST)));
        assert_eq!(attempt.reason, Some(FailureReason::ExecutorLost));
        let again = db.claim_one("jobs", "exec-2", LOST + 1).await.unwrap();
        assert_eq!((again.job.attempt, again.job.num_resets), (2, 1));
    }

    async fn a_beating_executor_keeps_its_job(db) {
        let claim = db.running(T0).await;
        db.heartbeat("exec-1", &[claim.job.id], T0 + 20_000).await.unwrap();
        assert!(lose(db, LOST).await.is_empty());
        assert_eq!(lose(db, T0 + 45_001).await.len(), 1);
    }

    async fn a_reset_job_keeps_its_place_in_the_queue(db) {
        let claim = db.running(T0).await;
        db.enqueue_one("jobs", 1, T0 + 1).await;
        lose(db, LOST).await;
        assert_eq!(db.claim_one("jobs", "exec-2", LOST).await.unwrap().job.id, claim.job.id);
    }

    async fn a_job_lost_four_times_fails(db) {
        db.enqueue_one("jobs", 1, T0).await;
        let mut now = T0;
        for _ in 0..3 {
            db.claim_one("jobs", "exec-1", now).await.unwrap();
            now += 25_001;
            assert_eq!(lose(db, now).await[0].state, JobState::Queued);
        }
        let last = db.claim_one("jobs", "exec-1", now).await.unwrap();
        assert_eq!(lose(db, now + 25_001).await[0].state, JobState::Failed);
        let job = db.job(last.job.id).await.unwrap().unwrap();
        assert_eq!((job.reason, job.attempt), (Some(FailureReason::ExecutorLost), 4));
        let text = "job processor died while handling this message too many times";
        assert_eq!(job.message, text);
        assert_eq!(db.finish(&finish(&last, Outcome::Complete), now).await.unwrap(), None);
        // A person may still try again, with all its resets.
        db.retry(last.job.id, now).await.unwrap();
        db.claim_one("jobs", "exec-1", now).await.unwrap();
        assert_eq!(lose(db, now + 25_001).await[0].state, JobState::Queued);
    }

    async fn a_lost_job_that_was_to_be_canceled_is_canceled(db) {
        let claim = db.running(T0).await;
        db.cancel(claim.job.id, "", T0).await.unwrap();
        assert_eq!(lose(db, LOST).await[0].state, JobState::Canceled);
        assert!(db.claim_one("jobs", "exec-2", LOST).await.is_none());
    }

    async fn a_late_result_counts_while_nobody_took_the_job(db) {
        let claim = db.running(T0).await;
        lose(db, LOST).await;
        let token = db.job_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!(token.state, TokenState::Lost);
        let shared = store::Lease { attempt: None, ..lease(&claim) };
        let unbound = store::Finish { lease: shared, ..finish(&claim, Outcome::Complete) };
        assert_eq!(db.finish(&unbound, LOST).await.unwrap(), None, "only with the job token");
        let done = db.finish(&finish(&claim, Outcome::Complete), LOST + 1).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Completed);
        assert!(db.claim_one("jobs", "exec-2", LOST + 2).await.is_none());
        assert_eq!(db.attempts(claim.job.id).await.unwrap()[0].outcome, "completed");
    }

    async fn a_late_result_is_refused_when_somebody_took_the_job(db) {
        let claim = db.running(T0).await;
        lose(db, LOST).await;
        let second = db.claim_one("jobs", "exec-2", LOST + 1).await.unwrap();
        assert_eq!(db.finish(&finish(&claim, Outcome::Complete), LOST + 2).await.unwrap(), None);
        let token = db.job_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!(token.state, TokenState::Dead);
        let done = db.finish(&finish(&second, Outcome::Failed), LOST + 3).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Failed);
    }

    async fn the_same_executor_claiming_again_makes_its_older_result_worthless(db) {
        let first = db.running(T0).await;
        lose(db, LOST).await;
        let second = db.claim_one("jobs", "exec-1", LOST + 1).await.unwrap();
        assert_eq!(second.job.id, first.job.id);
        assert_eq!(db.finish(&finish(&first, Outcome::Complete), LOST + 2).await.unwrap(), None);
    }

    async fn a_manual_retry_does_not_revive_old_tokens(db) {
        let claim = db.running(T0).await;
        db.finish(&finish(&claim, Outcome::Failed), T0).await.unwrap().unwrap();
        db.retry(claim.job.id, T0).await.unwrap();
        assert_eq!(db.finish(&finish(&claim, Outcome::Complete), T0).await.unwrap(), None);
        assert!(db.heartbeat("exec-1", &[claim.job.id], T0).await.unwrap().is_empty());
    }

    async fn an_executor_that_was_only_cut_off_has_its_job_back(db) {
        let claim = db.running(T0).await;
        let id = claim.job.id;
        lose(db, LOST).await;
        let logs = db.begin_phase(&lease(&claim), protocol::Phase::Running, 5, LOST).await;
        assert!(matches!(logs, Err(Error::UnknownJob)), "not while it is queued");
        assert!(db.heartbeat("exec-2", &[id], LOST).await.unwrap().is_empty());
        let beats = db.heartbeat("exec-1", &[id], LOST + 1).await.unwrap();
        assert_eq!(beats, [Beat { job_id: id, queue: "jobs".into(), cancel: false, hold: None }]);
        let job = db.job(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Processing, 1));
        assert!(db.claim_one("jobs", "exec-2", LOST + 2).await.is_none());
        db.begin_phase(&lease(&claim), protocol::Phase::Running, 5, LOST + 2).await.unwrap();
        let done = db.finish(&finish(&claim, Outcome::Complete), LOST + 3).await.unwrap();
        assert!(done.is_some());
    }
}
