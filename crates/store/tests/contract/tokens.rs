//! Job tokens.

use store::{JobToken, Outcome, TokenState};

use crate::contract;
use crate::db::{T0, finish};

contract! {
    async fn a_job_token_is_bound_and_dies_with_the_job(db) {
        let claim = db.running(T0).await;
        let token = db.job_token(claim.token.expose()).await.unwrap().unwrap();
        let expected = JobToken {
            job_id: claim.job.id,
            attempt: 1,
            queue: "jobs".into(),
            repository: "example/app".into(),
            executor: "exec-1".into(),
            state: TokenState::Live,
        };
        assert_eq!(token, expected);
        db.finish(&finish(&claim, Outcome::Complete), T0).await.unwrap().unwrap();
        let token = db.job_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!(token.state, TokenState::Dead);
    }

    async fn an_invented_token_is_nobodys(db) {
        db.running(T0).await;
        for token in ["", "not hex", "00112233445566778899aabbccddeeff00112233"] {
            assert_eq!(db.job_token(token).await.unwrap(), None);
        }
    }

    async fn the_database_holds_no_plain_token(db) {
        let claim = db.running(T0).await;
        let user = db.create_first_admin("ada", "hash", T0).await.unwrap().unwrap();
        let session = db.create_session(user, 1000, T0).await.unwrap();
        let access = db.create_access_token(user, "ci", T0).await.unwrap();
        let stored = crate::db::all_text(db).await;
        assert!(stored.contains("example/app"), "the dump shows what is stored");
        for token in [&claim.token, &session.token, &access.token] {
            assert!(!stored.contains(token.expose()));
        }
    }
}
