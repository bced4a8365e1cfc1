//! The user API of an instance, as a user's program sees it.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

use crate::http::client;
use crate::wait::until;

/// The API with a token.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

impl Api {
    /// Of the instance at `url`.
    pub fn new(url: &str, token: &str) -> Self {
        Self { client: client(), base: format!("{url}/api/v1"), token: token.to_owned() }
    }

    /// Sends a request with the token; `path` begins after `/api/v1`.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<Response> {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header("Authorization", format!("token {}", self.token));
        match body {
            Some(body) => request.json(body).send().await,
            None => request.send().await,
        }
    }

    /// GET, with the answer as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await.expect("the instance answers");
        json(answer, path).await
    }

    /// GET, with the answer as text.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.send(Method::GET, path, None).await.expect("the instance answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.expect("a whole answer")
    }

    /// POST, with the answer as JSON (`null` when it has no body).
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.send(Method::POST, path, Some(body)).await.expect("the instance answers");
        json(answer, path).await
    }

    /// Submits a job file.
    pub async fn submit(&self, job_file: &Value) -> Job {
        let answer = self.post("/jobs", job_file).await;
        let id = answer["id"].as_i64().unwrap_or_else(|| panic!("no id in {answer}"));
        Job { api: self.clone(), id }
    }

    /// The executors that the instance knows.
    pub async fn executors(&self) -> Vec<Value> {
        let answer = self.get("/executors").await;
        answer["executors"].as_array().expect("a list of executors").clone()
    }
}

async fn json(answer: Response, path: &str) -> Value {
    let status = answer.status();
    let text = answer.text().await.expect("a whole answer");
    assert!(status.is_success(), "{path}: {status}: {text}");
    if status == StatusCode::NO_CONTENT || text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// A submitted job.
#[derive(Clone)]
pub struct Job {
    api: Api,
    /// Its id.
    pub id: i64,
}

impl Job {
    /// Everything about it.
    pub async fn get(&self) -> Value {
        self.api.get(&format!("/jobs/{}", self.id)).await
    }

    /// `queued`, `processing`, …
    pub async fn state(&self) -> String {
        self.get().await["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until it is in this state.
    pub async fn reaches(&self, state: &str, deadline: Duration) -> Value {
        until(&format!("job {} is {state}", self.id), deadline, async || {
            let job = self.get().await;
            let now = job["state"].as_str().expect("a state");
            let over = ["completed", "failed", "canceled"].contains(&now);
            assert!(now == state || !over, "job {} should become {state}, but: {job:#}", self.id);
            (now == state).then_some(job)
        })
        .await
    }

    /// Waits until this phase of its current attempt has begun.
    pub async fn enters(&self, phase: &str, deadline: Duration) {
        until(&format!("job {} is {phase}", self.id), deadline, async || {
            let job = self.get().await;
            let phases = job["phases"].as_array().expect("a list of phases");
            phases.iter().any(|seen| seen["phase"] == phase).then_some(())
        })
        .await;
    }

    /// Waits until its log has this text.
    pub async fn prints(&self, text: &str, deadline: Duration) {
        until(&format!("job {} prints {text:?}", self.id), deadline, async || {
            self.log().await.contains(text).then_some(())
        })
        .await;
    }

    /// The whole log of its current attempt, as text.
    pub async fn log(&self) -> String {
        self.api.text(&format!("/jobs/{}/logs", self.id)).await
    }

    /// Asks to cancel it.
    pub async fn cancel(&self) {
        self.api.post(&format!("/jobs/{}/cancel", self.id), &Value::Null).await;
    }
}
