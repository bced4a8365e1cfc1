//! Users of a test instance, and what they send.

use instance::accounts;
use reqwest::Method;
use serde_json::Value;
use store::Role;

use crate::support::{Answer, Instance};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

/// Somebody with an access token.
pub struct Person {
    pub name: &'static str,
    pub token: String,
}

impl Instance {
    /// The first user, a site admin.
    pub async fn ada(&self) -> Person {
        accounts::set_up(&self.app, "ada", PASSWORD).await.unwrap();
        self.person("ada").await
    }

    /// A further user.
    pub async fn user(&self, name: &'static str) -> Person {
        accounts::create_user(&self.app, "test", name, PASSWORD, Role::User).await.unwrap();
        self.person(name).await
    }

    async fn person(&self, name: &'static str) -> Person {
        let user = self.app.store.user_by_name(name).await.unwrap().unwrap();
        let made = accounts::create_token(&self.app, "test", &user, "test").await.unwrap();
        Person { name, token: accounts::token_value(&made.token) }
    }
}

impl Person {
    /// Any request to the API with the person's token; `path` begins after `/api/v1`.
    pub async fn send(
        &self,
        instance: &Instance,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let authorization = format!("token {}", self.token);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        instance.call(method, &format!("/api/v1{path}"), &all, body).await
    }

    pub async fn get(&self, instance: &Instance, path: &str) -> Answer {
        self.send(instance, Method::GET, path, &[], "").await
    }

    pub async fn post(&self, instance: &Instance, path: &str) -> Answer {
        self.send(instance, Method::POST, path, &[], "").await
    }

    pub async fn delete(&self, instance: &Instance, path: &str) -> Answer {
        self.send(instance, Method::DELETE, path, &[], "").await
    }

    /// With a JSON body.
    pub async fn json(
        &self,
        instance: &Instance,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(instance, method, path, &headers, body.to_string()).await
    }

    /// Submits a job file; the answer must be a success.
    pub async fn submit(&self, instance: &Instance, file: &str) -> i64 {
        let answer = self.send(instance, Method::POST, "/jobs", &[], file.to_owned()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_i64().unwrap()
    }
}
