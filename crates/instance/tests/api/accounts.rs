//! Users: set-up, roles, passwords.

use instance::accounts;
use instance::http::error::Error;
use reqwest::Method;
use serde_json::json;

use super::people::PASSWORD;
use crate::support::Instance;

#[tokio::test]
async fn the_first_visit_makes_the_site_admin_once() {
    let instance = Instance::start().await;
    let app = &instance.app;
    let two = tokio::join!(
        accounts::set_up(app, "ada", PASSWORD),
        accounts::set_up(app, "eve", PASSWORD)
    );
    let made = [two.0, two.1].into_iter().filter(Result::is_ok).count();
    assert_eq!(made, 1);
    let late = accounts::set_up(app, "mallory", PASSWORD).await.unwrap_err();
    assert!(matches!(late, Error::Conflict(_)), "{late}");
    assert_eq!(app.store.users().await.unwrap().len(), 1);
    let log = app.store.audit_log(None, 10).await.unwrap();
    assert_eq!(log[0].action, "user.create");
    assert!(log.iter().all(|line| !line.detail.contains(PASSWORD)));
}

#[tokio::test]
async fn users_are_made_changed_and_removed() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let new = json!({ "name": "bob", "password": PASSWORD });
    let made = ada.json(&instance, Method::POST, "/users", new.clone()).await;
    assert_eq!((made.status, made.json()["role"].as_str()), (201, Some("user")));
    assert!(!made.text().contains("password") && !made.text().contains("argon2"));
    ada.json(&instance, Method::POST, "/users", new).await.says(409, "exists already");
    for (bad, field) in [
        (json!({ "name": "b b", "password": PASSWORD }), "name"),
        (json!({ "name": "carl", "password": "short" }), "password"),
        (json!({ "name": "carl", "password": PASSWORD, "role": "king" }), "role"),
    ] {
        let answer = ada.json(&instance, Method::POST, "/users", bad).await;
        assert_eq!((answer.status, answer.json()["error"]["field"].as_str()), (400, Some(field)));
    }
    let change = json!({ "role": "site_admin" });
    let changed = ada.json(&instance, Method::PATCH, "/users/bob", change).await;
    assert_eq!(changed.json()["role"], "site_admin");
    assert_eq!(ada.delete(&instance, "/users/bob").await.status, 204);
    ada.delete(&instance, "/users/bob").await.says(404, "user not found");
    ada.delete(&instance, "/users/ada").await.says(400, "last site admin");
}

#[tokio::test]
async fn users_change_their_own_password_and_nothing_else() {
    let instance = Instance::start().await;
    let (_ada, bob) = (instance.ada().await, instance.user("bob").await);
    let session = accounts::log_in(&instance.app, "bob", PASSWORD, None).await.unwrap();
    let change = json!({ "password": "another good one" });
    let changed = bob.json(&instance, Method::PATCH, "/users/bob", change).await;
    assert_eq!(changed.status, 200);
    let now = instance.clock.now_ms();
    assert_eq!(instance.app.store.session(session.token.expose(), now).await.unwrap(), None);
    assert!(accounts::log_in(&instance.app, "bob", PASSWORD, None).await.is_err());
    assert!(accounts::log_in(&instance.app, "bob", "another good one", None).await.is_ok());
    let role = json!({ "role": "site_admin" });
    bob.json(&instance, Method::PATCH, "/users/bob", role).await.says(403, "roles");
    bob.get(&instance, "/users/ada").await.says(403, "other users");
    bob.get(&instance, "/users/nobody").await.says(403, "other users");
    assert_eq!(bob.get(&instance, "/user").await.json()["name"], "bob");
}

#[tokio::test]
async fn guessing_is_slowed_down_but_nobody_is_locked_out_from_one_place() {
    let instance = Instance::start().await;
    instance.ada().await;
    let app = &instance.app;
    let (here, there) = (Some([192, 0, 2, 1].into()), Some([198, 51, 100, 2].into()));
    for _ in 0..10 {
        let wrong = accounts::log_in(app, "ada", "wrong password", here).await.unwrap_err();
        assert!(matches!(wrong, Error::Unauthorized(_)), "{wrong}");
    }
    let slowed = accounts::log_in(app, "ADA", PASSWORD, here).await.unwrap_err();
    assert!(matches!(slowed, Error::TooManyRequests { retry_after_seconds: 900 }), "{slowed}");
    accounts::log_in(app, "ada", PASSWORD, there).await.unwrap();
    // Unknown names are counted and answered alike.
    let unknown = accounts::log_in(app, "nobody", PASSWORD, there).await.unwrap_err();
    assert_eq!(unknown.to_string(), "wrong name or password");
    instance.clock.advance_ms(15 * 60 * 1000 + 1);
    accounts::log_in(app, "ada", PASSWORD, here).await.unwrap();
}

#[tokio::test]
async fn one_place_cannot_try_many_names() {
    let instance = Instance::start().await;
    let here = Some([192, 0, 2, 1].into());
    let mut answers = Vec::new();
    for n in 0..51 {
        let error = accounts::log_in(&instance.app, &format!("u{n}"), "x", here).await.unwrap_err();
        answers.push(matches!(error, Error::TooManyRequests { .. }));
    }
    assert_eq!(answers.iter().position(|slowed| *slowed), Some(50));
}
