//! The registry of executors.

use protocol::HeartbeatRequest;
use protocol::ext::AgentStatus;
use store::{Error, Executor, ExecutorFilter};

use crate::contract;
use crate::db::{Db, T0};

fn beat(name: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        executor_name: name.into(),
        os: "linux".into(),
        architecture: "amd64".into(),
        docker_version: "24.0.1".into(),
        executor_version: "5.1.0".into(),
        git_version: "2.40.0".into(),
        src_cli_version: "5.1.3".into(),
        ..HeartbeatRequest::default()
    }
}

async fn names(db: &Db, filter: ExecutorFilter) -> Vec<String> {
    let list = db.executors(&filter).await.unwrap();
    list.executors.into_iter().map(|executor| executor.name).collect()
}

contract! {
    async fn a_stock_executor_is_described_by_its_heartbeats(db) {
        let queues = ["batches".to_owned(), "codeintel".to_owned()];
        assert!(!db.executor_heartbeat(&beat("exec-1"), &queues, true, T0).await.unwrap());
        let newer = HeartbeatRequest { executor_version: "5.2.0".into(), ..beat("exec-1") };
        db.executor_heartbeat(&newer, &queues[..1], false, T0 + 5000).await.unwrap();
        let expected = Executor {
            id: 1,
            name: "exec-1".into(),
            queues: vec!["batches".into()],
            multi_queue: false,
            os: "linux".into(),
            architecture: "amd64".into(),
            docker_version: "24.0.1".into(),
            executor_version: "5.2.0".into(),
            git_version: "2.40.0".into(),
            ignite_version: String::new(),
            src_cli_version: "5.1.3".into(),
            capacity: None,
            runtime: String::new(),
            acceleration: String::new(),
            draining: false,
            drain_requested: false,
            last_error: String::new(),
            last_error_at: None,
            first_seen_at: T0,
            last_seen_at: T0 + 5000,
        };
        let found = db.executor("exec-1").await.unwrap();
        assert_eq!(found, Some(Executor { id: found.as_ref().unwrap().id, ..expected }));
        assert_eq!(db.executor("exec-2").await.unwrap(), None);
    }

    async fn our_executors_tell_more_and_keep_their_last_error(db) {
        let queues = ["jobs".to_owned()];
        let agent = |last_error: &str| AgentStatus {
            capacity: 4,
            runtime: "qemu".into(),
            acceleration: "kvm".into(),
            draining: true,
            last_error: last_error.into(),
        };
        for (error, now) in [("", T0), ("disk full", T0 + 1), ("disk full", T0 + 2), ("", T0 + 3)] {
            let beat = HeartbeatRequest { agent: Some(agent(error)), ..beat("exec-1") };
            db.executor_heartbeat(&beat, &queues, false, now).await.unwrap();
        }
        let executor = db.executor("exec-1").await.unwrap().unwrap();
        assert_eq!((executor.capacity, executor.draining), (Some(4), true));
        assert_eq!((executor.runtime.as_str(), executor.acceleration.as_str()), ("qemu", "kvm"));
        assert_eq!(executor.last_error, "disk full");
        assert_eq!(executor.last_error_at, Some(T0 + 1));
    }

    async fn a_drain_is_asked_for_until_taken_back(db) {
        let queues = ["jobs".to_owned()];
        assert!(matches!(db.set_drain("exec-1", true).await, Err(Error::NotFound { .. })));
        db.executor_heartbeat(&beat("exec-1"), &queues, false, T0).await.unwrap();
        db.set_drain("exec-1", true).await.unwrap();
        assert!(db.executor_heartbeat(&beat("exec-1"), &queues, false, T0).await.unwrap());
        assert!(db.executor("exec-1").await.unwrap().unwrap().drain_requested);
        db.set_drain("exec-1", false).await.unwrap();
        assert!(!db.executor_heartbeat(&beat("exec-1"), &queues, false, T0).await.unwrap());
    }

    async fn executors_are_found_by_text_activity_and_page(db) {
        for (n, name) in ["exec-A", "exec_b", "other"].into_iter().enumerate() {
            let queue = if n == 1 { "batches" } else { "jobs" };
            let now = T0 + n as i64;
            db.executor_heartbeat(&beat(name), &[queue.to_owned()], false, now).await.unwrap();
        }
        let query = |text: &str| ExecutorFilter { query: text.into(), ..ExecutorFilter::default() };
        assert_eq!(names(db, query("")).await, ["other", "exec_b", "exec-A"]);
        assert_eq!(names(db, query("EXEC-a")).await, ["exec-A"]);
        assert_eq!(names(db, query("c_b")).await, ["exec_b"], "a wildcard stands for itself");
        assert_eq!(names(db, query("batch")).await, ["exec_b"]);
        assert_eq!(names(db, query("5.1.3")).await.len(), 3);
        assert!(names(db, query("%")).await.is_empty());
        let active = ExecutorFilter { seen_since: Some(T0 + 1), ..ExecutorFilter::default() };
        assert_eq!(names(db, active).await, ["other", "exec_b"]);
        let page = ExecutorFilter { offset: 1, limit: 1, ..ExecutorFilter::default() };
        let list = db.executors(&page).await.unwrap();
        assert_eq!((list.executors[0].name.as_str(), list.total), ("exec_b", 3));
    }

    async fn metrics_and_old_executors_go_by_time(db) {
        let queues = ["jobs".to_owned()];
        let with = |name: &str, text: &str| HeartbeatRequest {
            prometheus_metrics: text.into(), ..beat(name)
        };
        db.executor_heartbeat(&with("exec-1", "up 1\n"), &queues, false, T0).await.unwrap();
        db.executor_heartbeat(&with("exec-1", "up 2\n"), &queues, false, T0 + 5).await.unwrap();
        db.executor_heartbeat(&with("exec-2", ""), &queues, false, T0 + 9).await.unwrap();
        let metrics = db.executor_metrics(T0).await.unwrap();
        assert_eq!(metrics, [("exec-1".to_owned(), "up 2\n".to_owned())]);
        assert!(db.executor_metrics(T0 + 6).await.unwrap().is_empty());
        assert_eq!(db.delete_executors_before(T0 + 9).await.unwrap(), 1);
        assert_eq!(names(db, ExecutorFilter::default()).await, ["exec-2"]);
        assert!(db.executor_metrics(T0).await.unwrap().is_empty());
    }

    async fn an_executors_jobs_are_the_ones_it_runs(db) {
        let first = db.running(T0).await;
        let second = db.running(T0).await;
        let end = crate::db::finish(&first, store::Outcome::Complete);
        db.finish(&end, T0).await.unwrap().unwrap();
        let jobs = db.executor_jobs("exec-1").await.unwrap();
        assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [second.job.id]);
    }

    async fn a_heartbeat_with_odd_text_is_recorded(db) {
        let odd = HeartbeatRequest {
            os: "li\0nux".into(), prometheus_metrics: "\0".into(), ..beat("exec-1")
        };
        db.executor_heartbeat(&odd, &["jobs".to_owned()], false, T0).await.unwrap();
        assert_eq!(db.executor("exec-1").await.unwrap().unwrap().os, "li\u{fffd}nux");
    }
}
