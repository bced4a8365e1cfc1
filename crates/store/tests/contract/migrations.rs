//! Opening databases of another time.

use store::{Error, SCHEMA_VERSION, Store};

use crate::contract;
use crate::db::T0;

contract! {
    async fn opening_again_changes_nothing(db) {
        let id = db.enqueue_one("jobs", 1, T0).await;
        let again = Store::open(&db.url).await.unwrap();
        assert_eq!(again.job(id).await.unwrap().unwrap().id, id);
    }

    async fn a_database_of_a_newer_program_is_refused(db) {
        let pool = sqlx::AnyPool::connect(&db.url).await.unwrap();
        let newer = SCHEMA_VERSION + 1;
        sqlx::query("UPDATE schema_version SET version = $1")
            .bind(newer)
            .execute(&pool)
            .await
            .unwrap();
        let error = Store::open(&db.url).await.unwrap_err();
        let known = matches!(error, Error::NewerDatabase { database, program }
            if database == newer && program == SCHEMA_VERSION);
        assert!(known, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("schema version {newer}")), "{text}");
        assert!(text.contains(&format!("up to {SCHEMA_VERSION}")), "{text}");
        let left: i64 = sqlx::query_scalar("SELECT version FROM schema_version")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(left, newer);
    }

    async fn a_database_of_before_the_holds_is_brought_up(db) {
        let claim = db.running(T0).await;
        let pool = sqlx::AnyPool::connect(&db.url).await.unwrap();
        let back = "DROP TABLE terminal_events; DROP TABLE terminals; DROP TABLE holds; \
            ALTER TABLE jobs DROP COLUMN hold_seconds; \
            ALTER TABLE jobs DROP COLUMN hold_wish; \
            ALTER TABLE jobs DROP COLUMN hold_wish_at; UPDATE schema_version SET version = 1";
        sqlx::raw_sql(back).execute(&pool).await.unwrap();
        let newer = Store::open(&db.url).await.unwrap();
        let job = newer.job(claim.job.id).await.unwrap().unwrap();
        assert_eq!((job.state, job.hold_seconds), (store::JobState::Processing, 0));
        newer.wish_hold(job.id, 60, T0).await.unwrap();
        assert_eq!(newer.open_holds().await.unwrap(), []);
    }

    async fn programs_that_start_together_migrate_once(db) {
        let pool = sqlx::AnyPool::connect(&db.url).await.unwrap();
        let open = (0..4).map(|_| {
            let url = db.url.clone();
            tokio::spawn(async move { Store::open(&url).await.map(drop) })
        });
        for opened in open.collect::<Vec<_>>() {
            opened.await.unwrap().unwrap();
        }
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM schema_version").fetch_one(&pool).await.unwrap();
        assert_eq!(rows, 1);
    }
}

#[tokio::test]
async fn a_url_that_names_no_database_is_refused_without_showing_it() {
    for url in ["mysql://ada:hunter2@db/x", "sqlite:", ""] {
        let error = Store::open(url).await.unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
