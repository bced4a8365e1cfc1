//! Finish, cancel, retry, requeue.

use protocol::{FailureReason, Usage};
use store::{Cancellation, Error, Finished, JobState, NewJob, Outcome};

use crate::contract;
use crate::db::{T0, finish, job, lease};

contract! {
    async fn completion_is_recorded_once(db) {
        let claim = db.running(T0).await;
        let usage = Usage { cpu_ms: 12, peak_memory_bytes: 1 << 40, ..Usage::default() };
        let mut end = finish(&claim, Outcome::Complete);
        end.usage = Some(usage);
        end.reason = Some(FailureReason::StepFailed);
        let id = claim.job.id;
        let done = db.finish(&end, T0 + 7).await.unwrap();
        assert_eq!(done, Some(Finished { job_id: id, state: JobState::Completed }));
        assert_eq!(db.finish(&end, T0 + 8).await.unwrap(), None, "a second time");
        let job = db.job(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.finished_at), (JobState::Completed, Some(T0 + 7)));
        assert_eq!((job.usage, job.reason, job.num_failures), (Some(usage), None, 0));
        assert!(db.heartbeat("exec-1", &[id], T0 + 9).await.unwrap().is_empty());
    }

    async fn a_failure_keeps_its_evidence_on_job_and_attempt(db) {
        let claim = db.running(T0).await;
        let mut end = finish(&claim, Outcome::Failed);
        end.reason = Some(FailureReason::GuestOom);
        end.message = "killed: out of memory".into();
        end.exit_code = Some(137);
        db.finish(&end, T0 + 7).await.unwrap().unwrap();
        let job = db.job(claim.job.id).await.unwrap().unwrap();
        assert_eq!((job.state, job.num_failures), (JobState::Failed, 1));
        assert_eq!((job.reason, job.exit_code), (Some(FailureReason::GuestOom), Some(137)));
        let attempts = db.attempts(claim.job.id).await.unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].attempt, attempts[0].outcome.as_str()), (1, "failed"));
        assert_eq!(attempts[0].message, "killed: out of memory");
        assert_eq!((attempts[0].started_at, attempts[0].finished_at), (T0, Some(T0 + 7)));
        assert_eq!(attempts[0].executor, "exec-1");
    }

    async fn only_the_owner_ends_a_job(db) {
        let claim = db.running(T0).await;
        let lies = [
            store::Lease { executor: "exec-2", ..lease(&claim) },
            store::Lease { queue: "batches", ..lease(&claim) },
            store::Lease { attempt: Some(2), ..lease(&claim) },
            store::Lease { job_id: 999, ..lease(&claim) },
        ];
        for lie in lies {
            let end = store::Finish { lease: lie, ..finish(&claim, Outcome::Complete) };
            assert_eq!(db.finish(&end, T0).await.unwrap(), None, "{lie:?}");
        }
        let shared = store::Lease { attempt: None, ..lease(&claim) };
        let end = store::Finish { lease: shared, ..finish(&claim, Outcome::Complete) };
        assert!(db.finish(&end, T0).await.unwrap().is_some(), "the shared secret is not bound");
    }

    async fn an_error_without_retries_fails_and_with_one_runs_again(db) {
        let claim = db.running(T0).await;
        let done = db.finish(&finish(&claim, Outcome::Errored), T0).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Failed);

        db.enqueue(&NewJob { max_retries: 1, ..job("jobs", 1) }, T0).await.unwrap();
        let first = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        let done = db.finish(&finish(&first, Outcome::Errored), T0).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Errored);
        assert!(db.claim_one("jobs", "exec-1", T0 + 9_999).await.is_none());
        let second = db.claim_one("jobs", "exec-1", T0 + 10_000).await.unwrap();
        assert_eq!((second.job.id, second.job.attempt), (first.job.id, 2));
        let done = db.finish(&finish(&second, Outcome::Errored), T0 + 10_001).await.unwrap();
        assert_eq!(done.unwrap().state, JobState::Failed);
    }

    async fn cancel_of_a_queued_job_is_final_at_once(db) {
        let id = db.enqueue_one("jobs", 1, T0).await;
        assert_eq!(db.cancel(id, "by ada", T0 + 1).await.unwrap(), Cancellation::Canceled);
        let job = db.job(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.reason), (JobState::Canceled, Some(FailureReason::Canceled)));
        assert_eq!((job.message.as_str(), job.finished_at), ("by ada", Some(T0 + 1)));
        assert!(db.claim_one("jobs", "exec-1", T0 + 2).await.is_none());
        let again = db.cancel(id, "by ada", T0 + 3).await.unwrap();
        assert_eq!(again, Cancellation::AlreadyFinished(JobState::Canceled));
        assert!(matches!(db.cancel(999, "", T0).await, Err(Error::NotFound { .. })));
    }

    async fn cancel_of_a_running_job_is_told_and_then_reported(db) {
        let claim = db.running(T0).await;
        let id = claim.job.id;
        assert_eq!(db.cancel(id, "by ada", T0 + 1).await.unwrap(), Cancellation::Requested);
        assert_eq!(db.cancel(id, "by ada", T0 + 1).await.unwrap(), Cancellation::Requested);
        assert!(db.heartbeat("exec-1", &[id], T0 + 2).await.unwrap()[0].cancel);
        let done = db.finish(&finish(&claim, Outcome::Failed), T0 + 3).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Canceled);
        let job = db.job(id).await.unwrap().unwrap();
        assert_eq!((job.reason, job.num_failures), (Some(FailureReason::Canceled), 0));
    }

    async fn completion_wins_over_a_requested_cancel(db) {
        let claim = db.running(T0).await;
        db.cancel(claim.job.id, "", T0).await.unwrap();
        let done = db.finish(&finish(&claim, Outcome::Complete), T0).await.unwrap().unwrap();
        assert_eq!(done.state, JobState::Completed);
    }

    async fn an_errored_job_waiting_for_its_retry_can_be_canceled(db) {
        db.enqueue(&NewJob { max_retries: 1, ..job("jobs", 1) }, T0).await.unwrap();
        let claim = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        db.finish(&finish(&claim, Outcome::Errored), T0).await.unwrap().unwrap();
        let canceled = db.cancel(claim.job.id, "", T0).await.unwrap();
        assert_eq!(canceled, Cancellation::Canceled);
        assert!(db.claim_one("jobs", "exec-1", T0 + 60_000).await.is_none());
    }

    async fn every_finished_job_can_be_retried_and_no_other(db) {
        for outcome in [Outcome::Complete, Outcome::Failed] {
            let claim = db.running(T0).await;
            let id = claim.job.id;
            assert!(matches!(db.retry(id, T0).await, Err(Error::Transition { .. })));
            db.finish(&finish(&claim, outcome), T0 + 1).await.unwrap().unwrap();
            db.retry(id, T0 + 2).await.unwrap();
            let job = db.job(id).await.unwrap().unwrap();
            assert_eq!((job.state, job.queued_at), (JobState::Queued, T0 + 2));
            assert_eq!((job.finished_at, job.num_failures), (None, 0));
            assert!(matches!(db.retry(id, T0).await, Err(Error::Transition { .. })));
            db.cancel(id, "", T0 + 3).await.unwrap();
            db.retry(id, T0 + 4).await.unwrap();
            let again = db.claim_one("jobs", "exec-1", T0 + 5).await.unwrap();
            assert_eq!((again.job.id, again.job.cancel_requested), (id, false));
            db.finish(&finish(&again, Outcome::Complete), T0 + 6).await.unwrap().unwrap();
        }
        assert!(matches!(db.retry(999, T0).await, Err(Error::NotFound { .. })));
    }

    async fn a_requeued_job_runs_again_at_its_time_under_a_new_token(db) {
        let claim = db.running(T0).await;
        let id = claim.job.id;
        db.requeue(id, Some(T0 + 100), T0 + 1).await.unwrap();
        assert!(matches!(db.requeue(id, None, T0 + 1).await, Err(Error::Transition { .. })));
        assert_eq!(db.finish(&finish(&claim, Outcome::Complete), T0 + 2).await.unwrap(), None);
        assert!(db.claim_one("jobs", "exec-1", T0 + 99).await.is_none());
        let again = db.claim_one("jobs", "exec-1", T0 + 100).await.unwrap();
        assert_eq!((again.job.id, again.job.attempt), (id, 2));
        db.requeue(id, None, T0 + 101).await.unwrap();
        assert_eq!(db.claim_one("jobs", "exec-1", T0 + 101).await.unwrap().job.attempt, 3);
    }

    async fn the_instance_fails_a_job_that_it_cannot_hand_out(db) {
        let claim = db.running(T0).await;
        let id = claim.job.id;
        let (reason, text) = (FailureReason::InvalidJob, "failed to transform record: boom");
        db.fail_claimed(id, reason, text, T0 + 1).await.unwrap();
        let job = db.job(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.reason), (JobState::Failed, Some(reason)));
        assert_eq!(job.message, text);
        let again = db.fail_claimed(id, reason, text, T0 + 1).await;
        assert!(matches!(again, Err(Error::Transition { .. })));
        let unknown = db.fail_claimed(999, reason, text, T0 + 1).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })));
    }
}
