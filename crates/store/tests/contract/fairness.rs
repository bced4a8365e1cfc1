//! Whose turn it is.

use store::NewJob;

use crate::contract;
use crate::db::{Db, T0, job};

async fn order(db: &Db, queue: &str) -> Vec<i64> {
    let mut order = Vec::new();
    while let Some(claim) = db.claim_one(queue, "exec-1", T0 + 1_000_000).await {
        order.push(claim.job.id);
    }
    order
}

contract! {
    async fn users_take_turns_in_batches(db) {
        let mut ids = Vec::new();
        for (n, user) in [1, 1, 1, 1, 2, 2, 3].into_iter().enumerate() {
            ids.push(db.enqueue_one("batches", user, T0 + n as i64).await);
        }
        // ids[0..4] of user 1, ids[4..6] of user 2, ids[6] of user 3.
        let expected = [ids[0], ids[4], ids[6], ids[1], ids[5], ids[2], ids[3]];
        assert_eq!(order(db, "batches").await, expected);
    }

    async fn one_who_had_a_turn_waits_for_the_others(db) {
        let a = db.enqueue_many(&vec![job("batches", 1); 3], T0).await.unwrap();
        db.enqueue_one("batches", 2, T0).await;
        assert_eq!(db.claim_one("batches", "exec-1", T0).await.unwrap().job.creator_id, 1);
        assert_eq!(db.claim_one("batches", "exec-1", T0).await.unwrap().job.creator_id, 2);
        // User 2 comes back at once, but had a turn after user 1.
        db.enqueue_one("batches", 2, T0).await;
        assert_eq!(db.claim_one("batches", "exec-1", T0).await.unwrap().job.id, a[1].id);
        assert_eq!(db.claim_one("batches", "exec-1", T0).await.unwrap().job.creator_id, 2);
    }

    async fn a_user_who_cancels_a_thousand_jobs_does_not_pay_for_them(db) {
        let many = db.enqueue_many(&vec![job("batches", 1); 50], T0).await.unwrap();
        let last = db.enqueue_one("batches", 1, T0 + 1).await;
        db.enqueue_many(&vec![job("batches", 2); 20], T0).await.unwrap();
        for job in many {
            db.cancel(job.id, "", T0 + 2).await.unwrap();
        }
        assert!(order(db, "batches").await[..2].contains(&last));
    }

    async fn manual_requests_come_first_in_codeintel_and_then_arrival_counts(db) {
        let auto = db.enqueue_one("codeintel", 0, T0).await;
        let manual = db.enqueue_one("codeintel", 9, T0 + 1).await;
        let auto_2 = db.enqueue_one("codeintel", 0, T0 + 2).await;
        let manual_2 = db.enqueue_one("codeintel", 8, T0 + 3).await;
        let manual_3 = db.enqueue_one("codeintel", 9, T0 + 4).await;
        assert_eq!(order(db, "codeintel").await, [manual, manual_2, manual_3, auto, auto_2]);
    }

    async fn priority_comes_before_turns_in_jobs(db) {
        let at = async |user, priority| {
            db.enqueue(&NewJob { priority, ..job("jobs", user) }, T0).await.unwrap().id
        };
        let low = at(1, 0).await;
        let (high_1, high_1b) = (at(1, 5).await, at(1, 5).await);
        let high_2 = at(2, 5).await;
        let lowest = at(3, -1).await;
        assert_eq!(order(db, "jobs").await, [high_1, high_2, high_1b, low, lowest]);
    }

    async fn many_users_are_all_served_in_the_first_round(db) {
        let mut jobs = Vec::new();
        for user in 1..=40 {
            jobs.extend(vec![job("batches", user); 3]);
        }
        db.enqueue_many(&jobs, T0).await.unwrap();
        for round in 0..3 {
            let mut users = Vec::new();
            for _ in 0..40 {
                let claim = db.claim_one("batches", "exec-1", T0 + round).await.unwrap();
                users.push(claim.job.creator_id);
            }
            users.sort_unstable();
            assert_eq!(users, (1..=40).collect::<Vec<_>>(), "round {round}");
        }
        assert!(db.claim_one("batches", "exec-1", T0).await.is_none());
    }
}
