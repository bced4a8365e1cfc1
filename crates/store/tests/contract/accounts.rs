//! Users, sessions, access tokens, throttling.

use store::{Error, Role};

use crate::contract;
use crate::db::T0;

contract! {
    async fn only_the_first_account_makes_itself_admin(db) {
        assert!(!db.has_users().await.unwrap());
        let id = db.create_first_admin("Ada", "hash-1", T0).await.unwrap().unwrap();
        assert_eq!(db.create_first_admin("eve", "hash-2", T0).await.unwrap(), None);
        assert!(db.has_users().await.unwrap());
        let user = db.user_by_name("aDA").await.unwrap().unwrap();
        assert_eq!((user.id, user.role, user.created_at), (id, Role::SiteAdmin, T0));
        assert_eq!((user.name.as_str(), user.password_hash.as_str()), ("Ada", "hash-1"));
        assert!(!format!("{user:?}").contains("hash-1"));
        assert_eq!(db.user(id).await.unwrap(), Some(user));
        assert_eq!(db.user(999).await.unwrap(), None);
    }

    async fn of_many_first_admins_one_succeeds(db) {
        let tries = (0..8).map(|n| {
            let store = db.store.clone();
            tokio::spawn(async move {
                store.create_first_admin(&format!("user-{n}"), "hash", T0).await.unwrap()
            })
        });
        let mut made = 0;
        for attempt in tries.collect::<Vec<_>>() {
            made += usize::from(attempt.await.unwrap().is_some());
        }
        assert_eq!((made, db.users().await.unwrap().len()), (1, 1));
    }

    async fn names_are_unique_in_any_case(db) {
        db.create_user("ada", "h", Role::User, T0).await.unwrap();
        let again = db.create_user("ADA", "h", Role::User, T0).await;
        assert!(matches!(again, Err(Error::Exists { .. })));
        db.create_user("Bob", "h", Role::User, T0).await.unwrap();
        let names: Vec<String> = db.users().await.unwrap().into_iter().map(|u| u.name).collect();
        assert_eq!(names, ["ada", "Bob"]);
    }

    async fn somebody_stays_in_charge(db) {
        let ada = db.create_first_admin("ada", "h", T0).await.unwrap().unwrap();
        assert!(matches!(db.set_role(ada, Role::User).await, Err(Error::Invalid { .. })));
        assert!(matches!(db.delete_user(ada).await, Err(Error::Invalid { .. })));
        let bob = db.create_user("bob", "h", Role::User, T0).await.unwrap();
        db.set_role(bob, Role::SiteAdmin).await.unwrap();
        db.set_role(ada, Role::User).await.unwrap();
        assert_eq!(db.user(ada).await.unwrap().unwrap().role, Role::User);
        db.delete_user(ada).await.unwrap();
        assert_eq!(db.user(ada).await.unwrap(), None);
        assert!(matches!(db.delete_user(ada).await, Err(Error::NotFound { .. })));
        assert!(matches!(db.set_role(ada, Role::User).await, Err(Error::NotFound { .. })));
    }

    async fn sessions_end_by_time_by_hand_and_with_the_password(db) {
        let ada = db.create_first_admin("ada", "h", T0).await.unwrap().unwrap();
        let one = db.create_session(ada, 1000, T0).await.unwrap();
        let two = db.create_session(ada, 9000, T0).await.unwrap();
        let session = db.session(one.token.expose(), T0 + 999).await.unwrap().unwrap();
        assert_eq!((session.user.id, session.expires_at), (ada, T0 + 1000));
        assert_eq!(session.csrf_secret, one.csrf_secret);
        assert_ne!(one.csrf_secret, two.csrf_secret);
        assert_eq!(db.session(one.token.expose(), T0 + 1000).await.unwrap(), None);
        assert_eq!(db.session("nonsense", T0).await.unwrap(), None);
        db.extend_session(one.token.expose(), T0 + 5000).await.unwrap();
        assert!(db.session(one.token.expose(), T0 + 4999).await.unwrap().is_some());
        db.end_session(one.token.expose()).await.unwrap();
        db.end_session(one.token.expose()).await.unwrap();
        assert_eq!(db.session(one.token.expose(), T0).await.unwrap(), None);
        db.set_password(ada, "h2").await.unwrap();
        assert_eq!(db.session(two.token.expose(), T0).await.unwrap(), None);
        assert_eq!(db.user(ada).await.unwrap().unwrap().password_hash, "h2");
        let three = db.create_session(ada, 9000, T0).await.unwrap();
        db.end_sessions(ada).await.unwrap();
        assert_eq!(db.session(three.token.expose(), T0).await.unwrap(), None);
        assert!(matches!(db.set_password(999, "h").await, Err(Error::NotFound { .. })));
        assert!(matches!(db.create_session(999, 1, T0).await, Err(Error::NotFound { .. })));
    }

    async fn access_tokens_speak_for_their_user_until_revoked(db) {
        let ada = db.create_first_admin("ada", "h", T0).await.unwrap().unwrap();
        let bob = db.create_user("bob", "h", Role::User, T0).await.unwrap();
        let new = db.create_access_token(ada, "ci", T0).await.unwrap();
        let (token, user) =
            db.user_by_access_token(new.token.expose(), T0 + 5).await.unwrap().unwrap();
        assert_eq!((token.id, user.id, token.last_used_at), (new.id, ada, None));
        db.user_by_access_token(new.token.expose(), T0 + 6).await.unwrap().unwrap();
        let listed = db.access_tokens(ada).await.unwrap();
        assert_eq!((listed[0].last_used_at, listed[0].note.as_str()), (Some(T0 + 5), "ci"));
        db.user_by_access_token(new.token.expose(), T0 + 60_005).await.unwrap().unwrap();
        assert_eq!(db.access_tokens(ada).await.unwrap()[0].last_used_at, Some(T0 + 60_005));
        assert!(!db.revoke_access_token(bob, new.id, T0).await.unwrap(), "not bob's");
        assert!(db.revoke_access_token(ada, new.id, T0 + 7).await.unwrap());
        assert!(!db.revoke_access_token(ada, new.id, T0 + 8).await.unwrap());
        assert!(db.user_by_access_token(new.token.expose(), T0 + 9).await.unwrap().is_none());
        assert_eq!(db.access_tokens(ada).await.unwrap()[0].revoked_at, Some(T0 + 7));
        assert!(matches!(db.create_access_token(999, "", T0).await, Err(Error::NotFound { .. })));
        assert!(db.user_by_access_token("nonsense", T0).await.unwrap().is_none());
    }

    async fn a_deleted_user_has_neither_session_nor_token(db) {
        db.create_first_admin("ada", "h", T0).await.unwrap().unwrap();
        let bob = db.create_user("bob", "h", Role::User, T0).await.unwrap();
        let session = db.create_session(bob, 1000, T0).await.unwrap();
        let token = db.create_access_token(bob, "", T0).await.unwrap();
        let job = db.enqueue_one("jobs", bob, T0).await;
        db.delete_user(bob).await.unwrap();
        assert_eq!(db.session(session.token.expose(), T0).await.unwrap(), None);
        assert!(db.user_by_access_token(token.token.expose(), T0).await.unwrap().is_none());
        let job = db.job(job).await.unwrap().unwrap();
        assert_eq!((job.creator_id, job.creator_name.as_str()), (bob, ""));
    }

    async fn hits_are_counted_in_their_window(db) {
        let hit = async |now| db.throttle_hit("name:ada", 1000, now).await.unwrap();
        assert_eq!(hit(T0).await, 1);
        assert_eq!(hit(T0 + 1).await, 2);
        assert_eq!(hit(T0 + 999).await, 3);
        assert_eq!(db.throttle_hits("name:ada", 1000, T0 + 999).await.unwrap(), 3);
        assert_eq!(db.throttle_hits("name:bob", 1000, T0).await.unwrap(), 0);
        assert_eq!(db.throttle_hits("name:ada", 1000, T0 + 1000).await.unwrap(), 0);
        assert_eq!(hit(T0 + 1000).await, 1);
        assert_eq!(hit(T0 + 1500).await, 2);
        db.throttle_clear("name:ada").await.unwrap();
        assert_eq!(hit(T0 + 1500).await, 1);
    }
}
