//! Access tokens.

use reqwest::Method;
use serde_json::json;

use crate::support::Instance;

#[tokio::test]
async fn a_token_is_shown_once_works_and_is_revoked() {
    let instance = Instance::start().await;
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    let new = json!({ "note": " ci " });
    let made = bob.json(&instance, Method::POST, "/users/bob/tokens", new.clone()).await;
    assert_eq!(made.status, 201);
    let value = made.json()["value"].as_str().unwrap().to_owned();
    let id = made.json()["token"]["id"].as_i64().unwrap();
    assert!(value.starts_with("exec_") && value.len() == 45, "{value}");
    let list = bob.get(&instance, "/users/bob/tokens").await;
    assert!(!list.text().contains(&value[5..]));
    assert_eq!(list.json()["tokens"][0]["note"], "ci");

    let me = async |authorization: String| {
        let headers = [("authorization", authorization.as_str())];
        instance.call(Method::GET, "/api/v1/user", &headers, "").await.status
    };
    assert_eq!(me(format!("token {value}")).await, 200);
    assert_eq!(me(format!("Bearer {value}")).await, 200);
    for wrong in [
        format!("token {}", &value[5..]),
        format!("token {value}0"),
        format!("Basic {value}"),
        format!("token exec_{}", "0".repeat(40)),
        "token".to_owned(),
        value.clone(),
    ] {
        assert_eq!(me(wrong.clone()).await, 401, "{wrong}");
    }
    let used = bob.get(&instance, "/users/bob/tokens").await.json();
    assert!(used["tokens"][0]["lastUsedAt"].is_string());

    ada.json(&instance, Method::POST, "/users/bob/tokens", json!({ "note": "" }))
        .await
        .says(400, "note");
    let path = format!("/users/bob/tokens/{id}");
    ada.delete(&instance, &format!("/users/ada/tokens/{id}")).await.says(404, "access token");
    assert_eq!(bob.delete(&instance, &path).await.status, 204);
    assert_eq!(me(format!("token {value}")).await, 401);
    bob.delete(&instance, &path).await.says(404, "access token");
    let gone = ada.delete(&instance, "/users/bob").await;
    assert_eq!((gone.status, me(format!("token {}", bob.token)).await), (204, 401));
}
