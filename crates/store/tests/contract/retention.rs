//! What is old goes, and nothing else.

use store::{Artifact, AuditRecord, NewLogEntry, NewUpload, Outcome, Retention, UploadPart};

use crate::contract;
use crate::db::{T0, finish, lease};

contract! {
    async fn old_finished_jobs_go_with_all_they_left(db) {
        let old = db.running(T0).await;
        let entry = NewLogEntry { key: "a", out: b"text", ..NewLogEntry::default() };
        db.add_log_entry(&lease(&old), &entry, None, T0).await.unwrap();
        let artifact = Artifact {
            path: "a".into(), size: 1, sha256: String::new(), blob_key: "blob-a".into(), at: T0,
        };
        db.put_artifact(&lease(&old), &artifact, T0).await.unwrap();
        db.finish(&finish(&old, Outcome::Complete), T0 + 10).await.unwrap().unwrap();
        let young = db.running(T0).await;
        db.finish(&finish(&young, Outcome::Complete), T0 + 100).await.unwrap().unwrap();
        let running = db.running(T0).await;
        let waiting = db.enqueue_one("jobs", 1, T0).await;

        let keep = Retention { jobs_before: T0 + 100, uploads_before: T0, audit_before: T0 };
        assert_eq!(db.retain(&keep, T0 + 200).await.unwrap().jobs, 1);
        let id = old.job.id;
        assert_eq!(db.job(id).await.unwrap(), None);
        assert_eq!(db.payload(id).await.unwrap(), None);
        assert!(db.log_entries(id, 1).await.unwrap().is_empty());
        assert!(db.feed(id, 0, 100, 100).await.unwrap().is_empty());
        assert!(db.attempts(id).await.unwrap().is_empty());
        assert_eq!(db.job_token(old.token.expose()).await.unwrap(), None);
        for kept in [young.job.id, running.job.id, waiting] {
            assert!(db.job(kept).await.unwrap().is_some());
        }
        assert_eq!(db.doomed_blobs(10).await.unwrap(), ["blob-a"]);
        db.forget_doomed("blob-a").await.unwrap();
        assert!(db.doomed_blobs(10).await.unwrap().is_empty());
    }

    async fn many_old_jobs_go_in_one_call(db) {
        let many = vec![crate::db::job("jobs", 1); 250];
        for enqueued in db.enqueue_many(&many, T0).await.unwrap() {
            db.cancel(enqueued.id, "", T0).await.unwrap();
        }
        let keep = Retention { jobs_before: T0 + 1, uploads_before: T0, audit_before: T0 };
        assert_eq!(db.retain(&keep, T0 + 1).await.unwrap().jobs, 250);
        assert_eq!(db.retain(&keep, T0 + 1).await.unwrap().jobs, 0);
    }

    async fn ended_sessions_torn_uploads_and_old_audit_lines_go(db) {
        let ada = db.create_first_admin("ada", "h", T0).await.unwrap().unwrap();
        let ended = db.create_session(ada, 10, T0).await.unwrap();
        let open = db.create_session(ada, 1000, T0).await.unwrap();
        let record = AuditRecord { actor: "a", action: "b", target: "c", detail: "" };
        db.audit(&record, T0).await.unwrap();
        db.audit(&record, T0 + 50).await.unwrap();
        let new = NewUpload { num_parts: 2, ..NewUpload::default() };
        let torn = db.create_upload(&new, T0).await.unwrap();
        let part = UploadPart { part: 0, size: 1, blob_key: "part-0".into() };
        db.put_upload_part(torn, &part).await.unwrap();
        let fresh = db.create_upload(&new, T0 + 50).await.unwrap();
        let keep = Retention { jobs_before: T0, uploads_before: T0 + 50, audit_before: T0 + 50 };
        let swept = db.retain(&keep, T0 + 10).await.unwrap();
        assert_eq!((swept.sessions, swept.uploads, swept.audit_lines), (1, 1, 1));
        assert_eq!(db.session(ended.token.expose(), T0).await.unwrap(), None);
        assert!(db.session(open.token.expose(), T0).await.unwrap().is_some());
        assert_eq!(db.upload(torn).await.unwrap(), None);
        assert!(db.upload(fresh).await.unwrap().is_some());
        assert_eq!(db.doomed_blobs(10).await.unwrap(), ["part-0"]);
    }

    async fn forgotten_turns_do_not_lose_waiting_jobs(db) {
        db.running(T0).await;
        db.enqueue_one("jobs", 1, T0).await;
        let later = T0 + 1_000_000_000;
        let keep = Retention { jobs_before: T0, uploads_before: T0, audit_before: T0 };
        db.retain(&keep, later).await.unwrap();
        assert!(db.claim_one("jobs", "exec-1", later).await.is_some());
        assert!(db.claim_one("jobs", "exec-1", later).await.is_none());
        db.retain(&keep, later * 2).await.unwrap();
        db.enqueue_one("jobs", 1, later).await;
        assert!(db.claim_one("jobs", "exec-1", later).await.is_some());
    }
}
