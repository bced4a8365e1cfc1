//! Counters and gauges of this process, as typed structs on a registry of its own.

pub mod exposition;

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Label set of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// Queue name.
    pub queue: String,
}

/// Label set of a queue's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabels {
    /// Queue name.
    pub queue: String,
    /// Job state.
    pub state: String,
}

/// Label set of an ended job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// Queue name.
    pub queue: String,
    /// State the job ended in.
    pub outcome: String,
    /// Failure reason, empty when there is none.
    pub reason: String,
}

/// How a stalled job went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ResetOutcome {
    /// Queued again.
    #[expect(non_camel_case_types, reason = "the name is the label's value")]
    requeued,
    /// Stalled too often, or was to be cancelled.
    #[expect(non_camel_case_types, reason = "the name is the label's value")]
    ended,
}

/// Label set of a reset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResetLabels {
    /// What became of the job.
    pub outcome: ResetOutcome,
}

/// Label set of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// Method.
    pub method: String,
    /// Route pattern, never the path itself: paths would be unbounded.
    pub route: String,
}

/// Label set of an answered request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Method.
    pub method: String,
    /// Route pattern.
    pub route: String,
    /// Status code.
    pub status: u16,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Jobs by queue and state, refreshed by a loop.
    pub queue_jobs: Family<StateLabels, Gauge>,
    /// Queued, errored (retryable) jobs; the name dashboards of stock instances know.
    pub queue_size: Family<QueueLabels, Gauge>,
    /// Age of the oldest job that could be taken, in seconds.
    pub oldest_queued_seconds: Family<QueueLabels, Gauge>,
    /// Jobs handed out.
    pub dequeues: Family<QueueLabels, Counter>,
    /// Jobs ended by their executor.
    pub outcomes: Family<OutcomeLabels, Counter>,
    /// Jobs taken from executors that no longer beat.
    pub resets: Family<ResetLabels, Counter>,
    /// Dequeues held open.
    pub waiting_dequeues: Gauge,
    /// Machines of failed jobs that are kept.
    pub held_machines: Gauge,
    /// Running upload-packs.
    pub upload_packs: Gauge,
    /// Answered requests.
    requests: Family<RequestLabels, Counter>,
    /// Seconds until the answer's head.
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

fn duration_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            queue_jobs: Family::default(),
            queue_size: Family::default(),
            oldest_queued_seconds: Family::default(),
            dequeues: Family::default(),
            outcomes: Family::default(),
            resets: Family::default(),
            waiting_dequeues: Gauge::default(),
            held_machines: Gauge::default(),
            upload_packs: Gauge::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(duration_buckets),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let jobs = "Jobs by queue and state";
        r.register("executors_queue_jobs", jobs, self.queue_jobs.clone());
        let size = "Jobs waiting for an executor";
        r.register("src_executor_total", size, self.queue_size.clone());
        let oldest = "Age of the oldest job that could be taken";
        r.register(
            "executors_oldest_queued_job_seconds",
            oldest,
            self.oldest_queued_seconds.clone(),
        );
        r.register("executors_dequeues", "Jobs handed out", self.dequeues.clone());
        let outcomes = "Jobs ended by their executor";
        r.register("executors_jobs_ended", outcomes, self.outcomes.clone());
        let resets = "Jobs taken from executors that stopped beating";
        r.register("executors_job_resets", resets, self.resets.clone());
        let waiting = "Dequeue requests held open";
        r.register("executors_waiting_dequeues", waiting, self.waiting_dequeues.clone());
        let held = "Machines of failed jobs that are kept, each in a slot of its executor";
        r.register("executors_held_machines", held, self.held_machines.clone());
        let packs = "Running git upload-packs";
        r.register("executors_upload_packs", packs, self.upload_packs.clone());
        r.register("executors_http_requests", "Answered requests", self.requests.clone());
        let durations = "Seconds until the head of the answer, held requests included";
        r.register("executors_http_request_duration_seconds", durations, self.durations.clone());
    }

    /// Counts an answered request.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let request = RequestLabels { method: method.clone(), route: route.clone(), status };
        self.requests.get_or_create(&request).inc();
        self.durations.get_or_create(&RouteLabels { method, route }).observe(took.as_secs_f64());
    }

    /// The text exposition of this process' own metrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_route() {
        let metrics = Metrics::new();
        metrics.request("GET", "/healthz", 200, Duration::from_millis(2));
        let text = metrics.encode();
        let line = r#"executors_http_requests_total{method="GET",route="/healthz",status="200"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
