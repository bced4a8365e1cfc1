//! Calls of the executor itself, with the shared secret: ping, dequeue, heartbeat, self-test.

use std::time::Duration;

use http::StatusCode;
use protocol::ext::Extensions;
use protocol::heartbeat::HeartbeatRequest;
use protocol::hold::HoldWish;
use protocol::{
    DecodeError, DequeueRequest, HeartbeatResponse, Job, JobIdsByQueue, WireId, headers, routes,
};
use reqwest::{RequestBuilder, Response};

use super::http_call::{self, Attempts, read_limited};
use super::{ANSWER_TIMEOUT, Client, ClientError, JOB_FORMAT_VERSION};
use crate::config::{Queues, Secret};

/// Largest job document: files of a job travel in it as base64.
const JOB_LIMIT: usize = 256 << 20;
/// Largest heartbeat answer.
const HEARTBEAT_LIMIT: usize = 16 << 20;

/// Names a running job: ids are unique within a queue only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRef {
    /// The queue.
    pub queue: String,
    /// The id.
    pub id: i64,
}

impl std::fmt::Display for JobRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.id, self.queue)
    }
}

/// A job that is now this executor's.
#[derive(Clone, Debug)]
pub struct Dequeued {
    /// The document.
    pub job: Job,
    /// Its queue, whichever form of the protocol was used.
    pub queue: String,
    /// What the instance granted with it.
    pub extensions: Extensions,
}

/// Sizes that a dequeue tells the instance.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    /// vCPUs of a job.
    pub vcpus: u32,
    /// Memory of a job as the operator wrote it.
    pub memory: String,
    /// Disk of a job as the operator wrote it.
    pub disk: String,
}

/// An answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The jobs that the instance counts as ours; `None` when it said nothing about them.
    pub known: Option<Vec<WireId>>,
    /// The jobs it wants cancelled.
    pub cancel: Vec<WireId>,
    /// The site admin asks to drain, or not any more; `None` from stock instances.
    pub drain: Option<bool>,
    /// How many seconds the machines of running jobs shall be held if they fail.
    pub holds: Vec<HoldWish>,
    /// The instance held the request open.
    pub held: bool,
}

/// Why there is no job.
#[derive(Debug, thiserror::Error)]
pub enum DequeueError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// A job is ours now, but its document cannot be read.
    #[error("job {job} cannot be read: {reason}")]
    Unreadable {
        /// The job.
        job: JobRef,
        /// Its token, to report the failure.
        token: Secret,
        /// What is wrong.
        reason: String,
    },
}

fn queue_route(queues: &Queues, verb: &str) -> String {
    match queues {
        Queues::One(queue) => format!("{}/{queue}/{verb}", routes::QUEUE),
        Queues::Many(_) => format!("{}/{verb}", routes::QUEUE),
    }
}

impl Client {
    fn shared_request(&self, url: url::Url, body: &impl serde::Serialize) -> RequestBuilder {
        self.http
            .post(url)
            .header(http::header::AUTHORIZATION, self.shared_authorization())
            .header(headers::EXTENSIONS, Extensions::ALL.to_string())
            .json(body)
    }

    fn note_extensions(&self, response: &Response) -> Extensions {
        let granted = response
            .headers()
            .get(headers::EXTENSIONS)
            .and_then(|value| value.to_str().ok())
            .map(Extensions::parse)
            .unwrap_or_default();
        self.granted.send_if_modified(|known| std::mem::replace(known, granted) != granted);
        granted
    }

    /// The start-up call that registers the executor's name; without it no job route works.
    ///
    /// # Errors
    /// Any failure; [`ClientError::is_refused`] tells a wrong secret.
    pub async fn ping(&self, queues: &Queues) -> Result<(), ClientError> {
        let mut body = HeartbeatRequest {
            executor_name: self.executor_name().to_owned(),
            ..HeartbeatRequest::default()
        };
        if let Queues::Many(names) = queues {
            body.queue_names.clone_from(names);
        }
        let url = self.url(&queue_route(queues, "heartbeat"));
        let build = || self.shared_request(url.clone(), &body).timeout(ANSWER_TIMEOUT);
        let response = http_call::send("ping", Attempts::One, build).await?;
        self.note_extensions(&response);
        Ok(())
    }

    /// Asks for a job; held open for `wait` where the instance offers that.
    ///
    /// # Errors
    /// See [`DequeueError`].
    pub async fn dequeue(
        &self,
        queues: &Queues,
        capacity: &Capacity,
        wait: Duration,
    ) -> Result<Option<Dequeued>, DequeueError> {
        let mut body = DequeueRequest {
            executor_name: self.executor_name().to_owned(),
            version: JOB_FORMAT_VERSION.to_owned(),
            num_cpus: i64::from(capacity.vcpus),
            memory: capacity.memory.clone(),
            disk_space: capacity.disk.clone(),
            ..DequeueRequest::default()
        };
        if let Queues::Many(names) = queues {
            body.queues.clone_from(names);
        }
        let url = self.url(&queue_route(queues, "dequeue"));
        let hold = self.granted().long_poll && !wait.is_zero();
        let build = || {
            let request = self.shared_request(url.clone(), &body);
            if hold {
                request
                    .header(headers::PREFER, format!("wait={}", wait.as_secs().max(1)))
                    .timeout(wait + ANSWER_TIMEOUT)
            } else {
                request.timeout(ANSWER_TIMEOUT)
            }
        };
        // Tried once: an answer that was lost on the way has already moved a job to this executor.
        let response = http_call::send("dequeue", Attempts::One, build).await?;
        let extensions = self.note_extensions(&response);
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let body = read_limited("dequeue", response, JOB_LIMIT).await?;
        let job = Job::decode(&body).map_err(|error| unreadable(queues, &body, &error))?;
        let queue = queue_of(queues, &job.queue);
        Ok(Some(Dequeued { job, queue, extensions }))
    }

    /// Reports the running jobs. `telemetry` carries everything but names and ids.
    ///
    /// # Errors
    /// Any failure: the caller keeps its jobs and beats again.
    pub async fn heartbeat(
        &self,
        queues: &Queues,
        running: &[JobRef],
        telemetry: HeartbeatRequest,
        wait: Duration,
    ) -> Result<Beat, ClientError> {
        let body = HeartbeatRequest {
            executor_name: self.executor_name().to_owned(),
            ..beat_body(queues, running, telemetry)
        };
        let url = self.url(&queue_route(queues, "heartbeat"));
        let hold = self.granted().long_poll && !wait.is_zero();
        let build = || {
            let request = self.shared_request(url.clone(), &body);
            if hold {
                request
                    .header(headers::PREFER, format!("wait={}", wait.as_secs().max(1)))
                    .timeout(wait + Duration::from_secs(10))
            } else {
                request.timeout(Duration::from_secs(10))
            }
        };
        let response = http_call::send("heartbeat", Attempts::One, build).await?;
        let granted = self.note_extensions(&response);
        let held = response.headers().contains_key(headers::PREFERENCE_APPLIED);
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Beat { held, ..Beat::default() });
        }
        let body = read_limited("heartbeat", response, HEARTBEAT_LIMIT).await?;
        let answer = parse_answer(&body)?;
        let drain = (!granted.is_empty()).then_some(answer.drain).flatten();
        let holds = if granted.hold { answer.holds } else { Vec::new() };
        Ok(Beat { known: answer.known, cancel: answer.cancel, drain, holds, held })
    }

    /// The self-test: is the instance there, and the secret right? Answers the instance's clock, if
    /// it tells.
    ///
    /// # Errors
    /// Any failure; [`ClientError::is_refused`] tells a wrong secret.
    pub async fn test_auth(&self) -> Result<Option<jiff::Timestamp>, ClientError> {
        let url = self.url(routes::TEST_AUTH);
        let build = || {
            self.http
                .get(url.clone())
                .header(http::header::AUTHORIZATION, self.shared_authorization())
                .timeout(ANSWER_TIMEOUT)
                .json(&())
        };
        let response = http_call::send("test/auth", Attempts::One, build).await?;
        let date = response.headers().get(http::header::DATE).and_then(|value| {
            let text = value.to_str().ok()?;
            jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
        });
        Ok(date)
    }
}

fn beat_body(queues: &Queues, running: &[JobRef], telemetry: HeartbeatRequest) -> HeartbeatRequest {
    match queues {
        Queues::One(_) => {
            let ids: Vec<WireId> = running.iter().map(|job| WireId::Number(job.id)).collect();
            HeartbeatRequest {
                version: "V2".to_owned(),
                job_ids: Some((!ids.is_empty()).then_some(ids)),
                ..telemetry
            }
        }
        Queues::Many(names) => {
            let mut by_queue = std::collections::BTreeMap::<&str, Vec<WireId>>::new();
            for job in running {
                by_queue.entry(&job.queue).or_default().push(WireId::Text(job.id.to_string()));
            }
            let job_ids_by_queue = by_queue
                .into_iter()
                .map(|(queue, job_ids)| JobIdsByQueue { queue_name: queue.to_owned(), job_ids })
                .collect();
            HeartbeatRequest { job_ids_by_queue, queue_names: names.clone(), ..telemetry }
        }
    }
}

/// The object form; the bare array of very old instances is ambiguous (first unknown, later known
/// ids) and therefore read as "nothing said", as is an object without the field.
fn parse_answer(body: &[u8]) -> Result<Beat, ClientError> {
    let unreadable = |error: serde_json::Error| ClientError::Answer {
        endpoint: "heartbeat".to_owned(),
        reason: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_slice(body).map_err(unreadable)?;
    let Some(object) = value.as_object() else { return Ok(Beat::default()) };
    let says_known = object.keys().any(|key| key.eq_ignore_ascii_case("knownIds"));
    let answer: HeartbeatResponse = serde_json::from_value(value).map_err(unreadable)?;
    Ok(Beat {
        known: says_known.then(|| answer.known_ids.unwrap_or_default()),
        cancel: answer.cancel_ids.unwrap_or_default(),
        drain: Some(answer.drain),
        holds: answer.holds,
        held: false,
    })
}

fn queue_of(queues: &Queues, named: &str) -> String {
    match queues {
        _ if !named.is_empty() => named.to_owned(),
        Queues::One(name) => name.clone(),
        Queues::Many(names) => names.first().cloned().unwrap_or_default(),
    }
}

/// Saves what is needed to report that a job's document cannot be read.
fn unreadable(queues: &Queues, body: &[u8], error: &DecodeError) -> DequeueError {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Lease {
        id: i64,
        token: Option<String>,
        queue: Option<String>,
    }
    let reason = error.to_string();
    match serde_json::from_slice::<Lease>(body) {
        Ok(lease) if lease.id != 0 => DequeueError::Unreadable {
            job: JobRef {
                queue: queue_of(queues, lease.queue.as_deref().unwrap_or_default()),
                id: lease.id,
            },
            token: Secret::new(lease.token.unwrap_or_default()),
            reason,
        },
        _ => DequeueError::Call(ClientError::Answer { endpoint: "dequeue".to_owned(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_have_the_forms_of_the_protocol() {
        let running = [
            JobRef { queue: "codeintel".into(), id: 5 },
            JobRef { queue: "batches".into(), id: 5 },
        ];
        let one = Queues::One("codeintel".into());
        let json =
            serde_json::to_value(beat_body(&one, &running[..1], HeartbeatRequest::default()))
                .unwrap();
        assert_eq!(json["jobIds"], serde_json::json!([5]));
        assert_eq!(json["version"], "V2");
        let idle = serde_json::to_value(beat_body(&one, &[], HeartbeatRequest::default())).unwrap();
        assert!(idle.as_object().unwrap()["jobIds"].is_null());
        let many = Queues::Many(vec!["batches".into(), "codeintel".into()]);
        let json =
            serde_json::to_value(beat_body(&many, &running, HeartbeatRequest::default())).unwrap();
        let expected = serde_json::json!([
            {"queueName": "batches", "jobIds": ["5"]}, {"queueName": "codeintel", "jobIds": ["5"]}]);
        assert_eq!(json["jobIdsByQueue"], expected);
        assert_eq!(json["version"], "");
        assert!(json.get("jobIds").is_none());
    }

    #[test]
    fn an_answer_that_is_no_object_says_nothing_about_jobs() {
        assert_eq!(parse_answer(b"[1,2]").unwrap(), Beat::default());
        assert_eq!(parse_answer(b"null").unwrap(), Beat::default());
        assert_eq!(parse_answer(b"{}").unwrap().known, None);
        assert!(parse_answer(b"<html>").is_err());
        let idle = parse_answer(br#"{"knownIds":null,"cancelIds":null}"#).unwrap();
        assert_eq!(idle.known, Some(Vec::new()));
    }

    #[test]
    fn of_an_unreadable_job_the_lease_is_saved() {
        let queues = Queues::One("jobs".into());
        let body = br#"{"version":2,"id":7,"token":"t","files":{"a":{"content":"!"}}}"#;
        let error = Job::decode(body).unwrap_err();
        match unreadable(&queues, body, &error) {
            DequeueError::Unreadable { job, token, reason } => {
                assert_eq!((job.id, job.queue.as_str(), token.expose()), (7, "jobs", "t"));
                assert!(reason.contains("\"a\""), "{reason}");
            }
            other => panic!("{other}"),
        }
    }
}
