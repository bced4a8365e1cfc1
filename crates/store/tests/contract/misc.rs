//! Repositories, settings, audit log, opening and pinging.

use store::{AuditRecord, Error, NewRepository, RepositoryState, Store};

use crate::contract;
use crate::db::T0;

contract! {
    async fn a_repository_goes_from_cloning_to_ready_or_error(db) {
        let new = NewRepository {
            name: "example/app".into(),
            upstream: "https://git.example/app.git".into(),
            default_branch: String::new(),
        };
        let id = db.add_repository(&new, T0).await.unwrap();
        assert!(matches!(db.add_repository(&new, T0).await, Err(Error::Exists { .. })));
        let repository = db.repository("example/app").await.unwrap().unwrap();
        assert_eq!((repository.id, repository.state), (id, RepositoryState::Cloning));
        assert_eq!((repository.created_at, repository.last_synced_at), (T0, None));
        db.repository_ready("example/app", "main", 1 << 40, T0 + 1).await.unwrap();
        db.repository_failed("example/app", "host unreachable").await.unwrap();
        let repository = db.repository("example/app").await.unwrap().unwrap();
        assert_eq!(repository.state, RepositoryState::Error);
        assert_eq!(repository.error, "host unreachable");
        assert_eq!((repository.size_bytes, repository.last_synced_at), (1 << 40, Some(T0 + 1)));
        db.repository_ready("example/app", "trunk", 7, T0 + 2).await.unwrap();
        let repository = db.repository("example/app").await.unwrap().unwrap();
        assert_eq!((repository.error.as_str(), repository.default_branch.as_str()), ("", "trunk"));
        assert_eq!(repository.state, RepositoryState::Ready);
        db.set_upstream("example/app", "/srv/app.git").await.unwrap();
        let repository = db.repository("example/app").await.unwrap().unwrap();
        assert_eq!(repository.upstream, "/srv/app.git");
        assert_eq!(repository.state, RepositoryState::Cloning);
        assert!(matches!(db.repository_failed("x", "").await, Err(Error::NotFound { .. })));
        assert!(matches!(db.set_upstream("x", "").await, Err(Error::NotFound { .. })));
        let missing = db.repository_ready("x", "", 0, T0).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })));
    }

    async fn repositories_are_listed_by_name_and_removed(db) {
        for name in ["b", "a", "c"] {
            let new = NewRepository { name: name.into(), ..NewRepository::default() };
            db.add_repository(&new, T0).await.unwrap();
        }
        assert!(db.remove_repository("b").await.unwrap());
        assert!(!db.remove_repository("b").await.unwrap());
        let names: Vec<String> =
            db.repositories().await.unwrap().into_iter().map(|r| r.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(db.repository("b").await.unwrap(), None);
    }

    async fn settings_are_set_and_agreed_on(db) {
        assert_eq!(db.setting("k").await.unwrap(), None);
        assert_eq!(db.setting_or_insert("k", "first", T0).await.unwrap(), "first");
        assert_eq!(db.setting_or_insert("k", "second", T0).await.unwrap(), "first");
        db.set_setting("k", "third", T0).await.unwrap();
        assert_eq!(db.setting("k").await.unwrap().as_deref(), Some("third"));
    }

    async fn the_audit_log_is_read_backwards(db) {
        for n in 0..5 {
            let target = format!("executor:exec-{n}");
            let record = AuditRecord {
                actor: "user:ada", action: "executor.drain", target: &target, detail: "",
            };
            db.audit(&record, T0 + n).await.unwrap();
        }
        let page = db.audit_log(None, 2).await.unwrap();
        assert_eq!((page[0].at, page[1].at), (T0 + 4, T0 + 3));
        assert_eq!((page[0].actor.as_str(), page[0].action.as_str()), ("user:ada", "executor.drain"));
        assert_eq!((page[0].target.as_str(), page[0].detail.as_str()), ("executor:exec-4", ""));
        let next = db.audit_log(Some(page[1].id), 10).await.unwrap();
        assert_eq!(next.iter().map(|entry| entry.at - T0).collect::<Vec<_>>(), [2, 1, 0]);
    }

    async fn a_second_process_sees_what_the_first_wrote(db) {
        let id = db.enqueue_one("jobs", 1, T0).await;
        let second = Store::open(&db.url).await.unwrap();
        second.ping().await.unwrap();
        assert_eq!(second.backend(), db.backend());
        assert_eq!(second.job(id).await.unwrap().unwrap().id, id);
        second.close().await;
        assert!(second.ping().await.is_err());
        db.ping().await.unwrap();
    }

    async fn a_name_that_no_text_can_hold_is_no_fault_of_the_database(db) {
        match db.repository("a\0b").await {
            Ok(found) => assert_eq!(found, None),
            Err(error) => assert!(matches!(error, Error::Invalid { .. }), "{error}"),
        }
    }
}
