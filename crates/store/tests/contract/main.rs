//! What every public method promises, on SQLite and on PostgreSQL.
//!
//! PostgreSQL: the server of `EXECUTORS_TEST_POSTGRES_URL`, else a throw-away cluster of the installed
//! binaries. Without either the tests fail, unless `EXECUTORS_SKIP_POSTGRES=1` says otherwise.

mod accounts;
mod artifacts;
mod claims;
mod concurrency;
mod db;
mod endings;
mod executors;
mod fairness;
mod holds;
mod images;
mod lists;
mod logs;
mod lost;
mod migrations;
mod misc;
mod model;
mod retention;
mod tokens;
mod uploads;
mod wake;

/// Runs each test on both databases, under the names `<test>::sqlite` and `<test>::postgres`.
macro_rules! contract {
    ($(async fn $name:ident($db:ident) $body:block)*) => {$(
        async fn $name($db: &crate::db::Db) $body

        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name(&crate::db::Db::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(db) = crate::db::Db::postgres().await {
                    super::$name(&db).await;
                }
            }
        }
    )*};
}
pub(crate) use contract;
