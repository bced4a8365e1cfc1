//! Metrics of the executor. There is no port to scrape: they travel with each heartbeat.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use protocol::Phase;

/// Bounds of job durations, as stock executors have them, in seconds.
const JOB_SECONDS: [f64; 11] =
    [30.0, 60.0, 150.0, 300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0];
/// Bounds of phases and calls, in seconds.
const SHORT_SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    op: &'static str,
}

/// All metrics; the names that stock executors use keep their meaning.
pub struct Metrics {
    registry: Registry,
    jobs: Family<QueueLabel, Counter>,
    job_errors: Family<QueueLabel, Counter>,
    job_seconds: Family<QueueLabel, Histogram>,
    running: Gauge,
    vms: Gauge,
    held: Gauge,
    outcomes: Family<ReasonLabel, Counter>,
    phases: Family<PhaseLabel, Histogram>,
    calls: Family<OperationLabel, Counter>,
    call_errors: Family<OperationLabel, Counter>,
    output_bytes: Counter<u64, AtomicU64>,
    network_rules_restored: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            registry: Registry::default(),
            jobs: Family::default(),
            job_errors: Family::default(),
            job_seconds: Family::new_with_constructor(|| Histogram::new(JOB_SECONDS)),
            running: Gauge::default(),
            vms: Gauge::default(),
            held: Gauge::default(),
            outcomes: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(SHORT_SECONDS)),
            calls: Family::default(),
            call_errors: Family::default(),
            output_bytes: Counter::default(),
            network_rules_restored: Counter::default(),
        };
        registry.register("src_executor_processor", "Jobs that were run", metrics.jobs.clone());
        registry.register(
            "src_executor_processor_errors",
            "Jobs that did not complete",
            metrics.job_errors.clone(),
        );
        registry.register_with_unit(
            "src_executor_processor_duration",
            "Duration of jobs",
            Unit::Seconds,
            metrics.job_seconds.clone(),
        );
        registry.register(
            "src_executor_processor_handlers",
            "Jobs that run now",
            metrics.running.clone(),
        );
        registry.register("src_executor_vms", "MicroVMs that run now", metrics.vms.clone());
        registry.register(
            "executor_held_machines",
            "Machines of failed jobs that are held now for people to look into",
            metrics.held.clone(),
        );
        registry.register(
            "executor_job_outcomes",
            "Jobs by how they ended",
            metrics.outcomes.clone(),
        );
        registry.register_with_unit(
            "executor_phase_duration",
            "Duration of the phases of jobs",
            Unit::Seconds,
            metrics.phases.clone(),
        );
        registry.register(
            "src_apiworker_apiclient_queue",
            "Calls to the instance",
            metrics.calls.clone(),
        );
        registry.register(
            "src_apiworker_apiclient_queue_errors",
            "Calls to the instance that failed",
            metrics.call_errors.clone(),
        );
        registry.register(
            "executor_output_bytes",
            "Log output of jobs",
            metrics.output_bytes.clone(),
        );
        registry.register(
            "executor_network_rules_restored",
            "Rules of jobs' networks that somebody removed and that were put back",
            metrics.network_rules_restored.clone(),
        );
        Self { registry, ..metrics }
    }
}

/// Counts something as running until dropped.
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A job runs as long as the value lives.
    pub fn job_running(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }

    /// A microVM runs as long as the value lives.
    pub fn vm_running(&self) -> Running {
        self.vms.inc();
        Running(self.vms.clone())
    }

    /// A machine is held as long as the value lives.
    pub fn machine_held(&self) -> Running {
        self.held.inc();
        Running(self.held.clone())
    }

    /// Counts rules of networks that had to be put back.
    pub fn network_rules_restored(&self) -> Counter {
        self.network_rules_restored.clone()
    }

    /// A job ended; `reason` is `completed` or the wire name of a failure.
    pub fn job_ended(&self, queue: &str, reason: &'static str, took: Duration, output_bytes: u64) {
        let label = QueueLabel { queue: queue.to_owned(), op: "Handle" };
        self.jobs.get_or_create(&label).inc();
        if reason != "completed" {
            self.job_errors.get_or_create(&label).inc();
        }
        self.job_seconds.get_or_create(&label).observe(took.as_secs_f64());
        self.outcomes.get_or_create(&ReasonLabel { reason }).inc();
        self.output_bytes.inc_by(output_bytes);
    }

    /// A phase ended.
    pub fn phase_ended(&self, phase: Phase, took: Duration) {
        self.phases
            .get_or_create(&PhaseLabel { phase: phase.as_str() })
            .observe(took.as_secs_f64());
    }

    /// A call to the instance ended.
    pub fn call(&self, op: &'static str, ok: bool) {
        let label = OperationLabel { op };
        self.calls.get_or_create(&label).inc();
        if !ok {
            self.call_errors.get_or_create(&label).inc();
        }
    }

    /// Prometheus text exposition. The instance joins the texts of all executors, so the end mark
    /// of the OpenMetrics format is left out.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text.trim_end_matches("# EOF\n").to_owned(),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_names_of_stock_executors() {
        let metrics = Metrics::default();
        let running = metrics.job_running();
        metrics.job_ended("jobs", "timeout", Duration::from_secs(40), 7);
        metrics.call("Heartbeat", true);
        let text = metrics.text();
        for line in [
            "src_executor_processor_handlers 1",
            "src_executor_processor_total{queue=\"jobs\",op=\"Handle\"} 1",
            "src_executor_processor_errors_total{queue=\"jobs\",op=\"Handle\"} 1",
            "src_apiworker_apiclient_queue_total{op=\"Heartbeat\"} 1",
            "executor_job_outcomes_total{reason=\"timeout\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains("EOF"));
        drop(running);
        assert!(metrics.text().contains("src_executor_processor_handlers 0"));
    }
}
