//! An executor of a few lines that only speaks HTTP: for tests and measurements of the instance alone.

use std::time::Duration;

use protocol::{
    DequeueRequest, HeartbeatRequest, HeartbeatResponse, Job, LogEntryRequest, MarkRequest, WireId,
    ext, headers, routes,
};
use reqwest::{Client, RequestBuilder, StatusCode};

use crate::http::client;

/// A pretended executor of one queue, with all of our extensions.
pub struct ScriptedExecutor {
    client: Client,
    url: String,
    token: String,
    queue: String,
    /// Its unique name.
    pub name: String,
}

impl ScriptedExecutor {
    /// Makes itself known to the instance, as the start-up ping does.
    pub async fn connect(url: &str, access_token: &str, queue: &str, name: &str) -> Self {
        let executor = Self {
            client: client(),
            url: url.to_owned(),
            token: access_token.to_owned(),
            queue: queue.to_owned(),
            name: name.to_owned(),
        };
        executor.beat(&[]).await;
        executor
    }

    /// Says that it is alive and runs these jobs.
    pub async fn beat(&self, jobs: &[i64]) -> HeartbeatResponse {
        let beat = HeartbeatRequest {
            version: "V2".to_owned(),
            executor_name: self.name.clone(),
            job_ids: Some(Some(jobs.iter().map(|id| WireId::Number(*id)).collect())),
            ..HeartbeatRequest::default()
        };
        let answer =
            self.shared("heartbeat").json(&beat).send().await.expect("the instance answers");
        assert_eq!(answer.status(), StatusCode::OK, "heartbeat");
        answer.json().await.expect("an answer to a heartbeat")
    }

    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// Asks for a job and lets the instance hold the question for up to `wait`.
    pub async fn dequeue(&self, wait: Duration) -> Option<Job> {
        let body = DequeueRequest {
            executor_name: self.name.clone(),
            version: "dev".to_owned(),
            ..DequeueRequest::default()
        };
        let asked = self.shared("dequeue").json(&body);
        let asked = asked.header(headers::PREFER, format!("wait={}", wait.as_secs()));
        let answer = asked.timeout(wait + Duration::from_secs(30)).send().await;
        let answer = answer.expect("the instance answers");
        if answer.status() == StatusCode::NO_CONTENT {
            return None;
        }
        assert_eq!(answer.status(), StatusCode::OK, "dequeue");
        let document = answer.bytes().await.expect("a whole answer");
        Some(Job::decode(&document).expect("a job"))
    }

    /// Begins a log entry and gives its id.
    pub async fn begin_log(&self, job: &Job, key: &str) -> i64 {
        let entry = LogEntryRequest {
            executor_name: self.name.clone(),
            job_id: job.id,
            key: key.to_owned(),
            command: Some(vec!["sh".to_owned()]),
            start_time: "2026-01-01T00:00:00Z".to_owned(),
            ..LogEntryRequest::default()
        };
        let path = format!("{}/{}/addExecutionLogEntry", routes::QUEUE, self.queue);
        let answer =
            self.of_job(job, &path).json(&entry).send().await.expect("the instance answers");
        assert_eq!(answer.status(), StatusCode::OK, "addExecutionLogEntry");
        answer.json().await.expect("an entry's id")
    }

    /// Appends to a log entry; `end` closes it with exit code 0.
    pub async fn append(&self, job: &Job, entry: i64, offset: usize, bytes: String, end: bool) {
        let mut path =
            format!("{}?offset={offset}", routes::log_append(&self.queue, job.id, entry));
        if end {
            path.push_str("&exitCode=0&durationMs=1");
        }
        let answer =
            self.of_job(job, &path).body(bytes).send().await.expect("the instance answers");
        assert_eq!(answer.status(), StatusCode::OK, "append at {offset}");
    }

    /// Reports that the job is done.
    pub async fn complete(&self, job: &Job) {
        let mark = MarkRequest {
            executor_name: self.name.clone(),
            job_id: job.id,
            ..MarkRequest::default()
        };
        let path = format!("{}/{}/markComplete", routes::QUEUE, self.queue);
        let answer =
            self.of_job(job, &path).json(&mark).send().await.expect("the instance answers");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "markComplete");
    }

    fn shared(&self, verb: &str) -> RequestBuilder {
        let url = format!("{}{}/{}/{verb}", self.url, routes::QUEUE, self.queue);
        let request = self.client.post(url);
        request
            .header("Authorization", format!("{} {}", headers::SCHEME_SHARED, self.token))
            .header(headers::EXTENSIONS, ext::Extensions::ALL.to_string())
    }

    pub(crate) fn of_job(&self, job: &Job, path: &str) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.url))
            .header("Authorization", format!("{} {}", headers::SCHEME_JOB, job.token))
            .header(headers::JOB_ID, job.id)
            .header(headers::EXECUTOR_NAME, &self.name)
            .header(headers::EXTENSIONS, ext::Extensions::ALL.to_string())
    }
}
