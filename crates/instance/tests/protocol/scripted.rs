//! The scripted executor: what it sends is written out, byte by byte, in the tests.

use reqwest::Method;
use store::NewJob;

use crate::support::{Answer, Instance};

/// Name of the scripted executor.
pub const NAME: &str = "exec-7";
/// What our own executors send with every request.
pub const OURS: &str = "append-logs, phases, results, reasons, long-poll";
/// A commit.
pub const COMMIT: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// A job that the scripted executor holds.
pub struct Held {
    pub id: i64,
    pub token: String,
    pub queue: &'static str,
}

/// Payload of a job without work.
pub const EMPTY: &str = r#"{"version":2,"files":{}}"#;

/// A job in `queue` on a repository of that name.
pub fn new_job(queue: &str, repository: &str, payload: &str) -> NewJob {
    NewJob {
        queue: queue.to_owned(),
        repository: repository.to_owned(),
        commit: if repository.is_empty() { String::new() } else { COMMIT.to_owned() },
        payload: payload.to_owned(),
        ..NewJob::default()
    }
}

impl Instance {
    /// Enqueues a job and answers its id.
    pub async fn enqueue(&self, job: &NewJob) -> i64 {
        self.app.store.enqueue(job, self.clock.now_ms()).await.unwrap().id
    }

    /// Enqueues an empty job on `repository` and dequeues it by the stock protocol.
    pub async fn held(&self, queue: &'static str, repository: &str) -> Held {
        let id = self.enqueue(&new_job(queue, repository, EMPTY)).await;
        let body = format!(r#"{{"executorName":"{NAME}","version":"5.1.0"}}"#);
        let answer = self.shared(&format!("/.executors/queue/{queue}/dequeue"), &body).await;
        let job = answer.json();
        assert_eq!((answer.status, job["id"].as_i64()), (200, Some(id)));
        Held { id, token: job["token"].as_str().unwrap().to_owned(), queue }
    }

    /// POST on a job route of the held job's queue, with the three headers of its token.
    pub async fn job(&self, held: &Held, verb: &str, body: &str) -> Answer {
        let path = format!("/.executors/queue/{}/{verb}", held.queue);
        self.with_token(Method::POST, held, &path, body.to_owned()).await
    }

    /// Any request with the three headers of the held job's token.
    pub async fn with_token(
        &self,
        method: Method,
        held: &Held,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let (authorization, id) = (format!("Bearer {}", held.token), held.id.to_string());
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-sourcegraph-job-id", &id),
            ("x-sourcegraph-executor-name", NAME),
        ];
        self.call(method, path, &headers, body).await
    }

    /// State of a job as its row says.
    pub async fn state(&self, id: i64) -> String {
        self.app.store.job(id).await.unwrap().unwrap().state.to_string()
    }
}
