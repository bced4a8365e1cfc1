//! Runs one job and sees it to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use microvm::images::ImageStore;
use microvm::net::NetworkUsage;
use protocol::{FailureReason, Job, MarkRequest, Phase, Usage};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::control::{Interrupt, JobControl};
use super::failure::Failure;
use super::mark::{Marked, mark};
use super::phases::Phases;
use super::pipeline::Pipeline;
use super::plan::Plan;
use crate::client::{Dequeued, JobClient, MarkKind};
use crate::config::{Config, go_syntax};
use crate::git::Repositories;
use crate::logs::{JobLog, Redactor, SendError, SendMode};
use crate::metrics::Metrics;
use crate::runtime::{Machine, Runtime};

/// Time to ask a guest what its job used.
const USAGE_WAIT: Duration = Duration::from_secs(1);
/// Longest message that is reported.
const MESSAGE_LIMIT: usize = 8 << 10;

/// What jobs share.
pub struct Tools {
    /// Settings.
    pub config: Arc<Config>,
    /// Makes machines.
    pub runtime: Runtime,
    /// Container images.
    pub images: ImageStore,
    /// Mirrors and checkouts.
    pub repositories: Repositories,
    /// Folders of running jobs; emptied at start.
    pub jobs_dir: PathBuf,
}

/// Runs jobs.
pub struct JobRunner {
    tools: Tools,
    metrics: Arc<Metrics>,
}

/// How the work ended.
enum End {
    Completed,
    Failed(Failure),
    /// The job is someone else's, or will be.
    GivenUp(Interrupt),
}

impl JobRunner {
    /// A runner with its tools.
    pub fn new(tools: Tools, metrics: Arc<Metrics>) -> Self {
        Self { tools, metrics }
    }

    /// The tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Runs a job to its acknowledged end.
    pub async fn run(&self, dequeued: Dequeued, client: JobClient, control: &JobControl) {
        let started = Instant::now();
        let _running = self.metrics.job_running();
        let Dequeued { job, queue, extensions } = dequeued;
        tracing::info!(job = job.id, queue, repository = job.repository_name, "job started");
        let job = Arc::new(job);
        let phases = Phases::new(&client, extensions.phases, started, &self.metrics);
        let folder = Folder { path: self.tools.jobs_dir.join(folder_name(&queue, job.id)) };
        let mode = if extensions.append_logs { SendMode::Append } else { SendMode::Whole };
        let planned = Plan::of_job(&queue, &job, &self.tools.config);
        let limit = planned.as_ref().map_or(1 << 20, |plan| plan.resources.max_output_bytes);
        let log = JobLog::start(&folder.path, client.clone(), mode, self.redactor(&job), limit);
        let (end, usage, log) = match log {
            Ok(log) => {
                let results = extensions.results;
                let (end, usage) = match planned {
                    Ok(plan) => {
                        self.work(&job, &plan, &client, &log, &phases, results, control, started)
                            .await
                    }
                    Err(failure) => (End::Failed(failure), Usage::default()),
                };
                (end, usage, Some(log))
            }
            Err(error) => {
                let failure = Failure::executor(format!("cannot make the job's folder: {error}"));
                (End::Failed(failure), Usage::default(), None)
            }
        };
        phases.enter(Phase::Reporting);
        let output_bytes = log.as_ref().map_or(0, JobLog::bytes);
        let usage = Usage { output_bytes, ..usage };
        let reason = self.report(end, &client, log, usage, extensions.reasons, control).await;
        phases.end();
        self.metrics.job_ended(&queue, reason, started.elapsed(), output_bytes);
        tracing::info!(
            job = job.id,
            queue,
            reason,
            seconds = started.elapsed().as_secs(),
            "job ended"
        );
    }

    /// Gives back a job whose document cannot be read.
    pub async fn refuse(&self, client: &JobClient, problem: &str) {
        let failure = Failure::new(FailureReason::InvalidJob, problem);
        let body = mark_body(client, Some(&failure), Usage::default(), true);
        let marked = mark(client, MarkKind::Failed, &body).await;
        tracing::info!(job = client.id(), ?marked, "gave back a job that cannot be read");
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of one job; a struct would only rename them"
    )]
    async fn work(
        &self,
        job: &Arc<Job>,
        plan: &Plan,
        client: &JobClient,
        log: &JobLog,
        phases: &Phases<'_>,
        results: bool,
        control: &JobControl,
        started: Instant,
    ) -> (End, Usage) {
        let machine = OnceCell::new();
        let machine_name = machine_name(&self.tools.config, client);
        let pipeline = Pipeline {
            job,
            plan,
            client,
            log,
            phases,
            tools: &self.tools,
            metrics: &self.metrics,
            results,
            machine: &machine,
            machine_name: &machine_name,
        };
        let limit = plan.resources.max_runtime;
        let end = tokio::select! {
            biased;
            reason = control.interrupted() => match reason {
                Interrupt::Canceled => {
                    End::Failed(Failure::new(FailureReason::Canceled, "the job was canceled"))
                }
                Interrupt::LeaseLost | Interrupt::Stopped => End::GivenUp(reason),
            },
            () = tokio::time::sleep_until(started + limit) => End::Failed(Failure::new(
                FailureReason::Timeout,
                format!(
                    "job exceeded maximum execution time of {}",
                    go_syntax::format_duration(limit)
                ),
            )),
            result = pipeline.run() => match result {
                Ok(()) => End::Completed,
                Err(failure) => End::Failed(failure),
            },
        };
        let usage = match machine.get() {
            Some(machine) => tear_down(machine, log).await,
            None => Usage::default(),
        };
        (end, usage)
    }

    /// Delivers the log, then the end. Answers the end's name.
    async fn report(
        &self,
        end: End,
        client: &JobClient,
        log: Option<JobLog>,
        usage: Usage,
        reasons: bool,
        control: &JobControl,
    ) -> &'static str {
        let mut failure = match end {
            End::Completed => None,
            End::Failed(failure) => Some(failure),
            End::GivenUp(reason) => {
                tracing::warn!(job = client.id(), ?reason, "the job is left to the instance");
                return FailureReason::ExecutorLost.as_str();
            }
        };
        if let (Some(failure), Some(log)) = (&mut failure, &log) {
            let text: String = failure.message.chars().take(MESSAGE_LIMIT).collect();
            failure.message = log.redactor().text(&text);
        }
        let canceled = control.reason().is_some();
        let delivered = async {
            match &log {
                Some(log) => log.flush().await,
                None => Ok(()),
            }
        };
        let delivered = tokio::select! {
            delivered = delivered => delivered,
            // A job that ended may still be reported when the instance gave it up meanwhile: it
            // takes the end if nobody else has begun.
            reason = control.interrupted(), if !canceled => match reason {
                Interrupt::Stopped => return FailureReason::ExecutorLost.as_str(),
                Interrupt::Canceled | Interrupt::LeaseLost => Ok(()),
            },
        };
        if let Err(error @ (SendError::Refused(_) | SendError::Spool(_))) = delivered {
            failure.get_or_insert_with(|| {
                Failure::executor(format!("the log was not delivered: {error}"))
            });
        }
        let kind = failure.as_ref().map_or(MarkKind::Complete, Failure::mark);
        let body = mark_body(client, failure.as_ref(), usage, reasons);
        tokio::select! {
            marked = mark(client, kind, &body) => match marked {
                Marked::Acknowledged => {}
                Marked::NotOurs(error) => {
                    tracing::warn!(job = client.id(), %error, "the job was not this executor's any more");
                }
                Marked::Refused(error) => {
                    tracing::error!(job = client.id(), %error, "the instance refused the job's end");
                }
            },
            Interrupt::Stopped = control.interrupted(), if !canceled => {}
        }
        failure.map_or("completed", |failure| failure.reason.as_str())
    }

    /// The secrets of a job, and what stands for each.
    fn redactor(&self, job: &Job) -> Redactor {
        let mut secrets = job.redacted_values.clone();
        let shared = self.tools.config.frontend_password.expose();
        for secret in [shared, &job.token] {
            secrets.entry(secret.to_owned()).or_insert_with(|| "SECRET_REMOVED".to_owned());
        }
        for auth in job.docker_auth_config.auths.values() {
            if let Some((_, password)) = auth.credentials() {
                secrets.entry(password).or_insert_with(|| "PASSWORD_REMOVED".to_owned());
            }
            secrets.entry(auth.auth.clone()).or_insert_with(|| "PASSWORD_REMOVED".to_owned());
        }
        secrets.remove("");
        Redactor::new(&secrets)
    }
}

/// A name for the machine of a job; names have at most 64 bytes, and the end makes it unique.
pub(super) fn machine_name(config: &Config, client: &JobClient) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let prefix = &config.qemu.vm_prefix;
    let name = format!("{prefix}-{}-{}-{}", client.queue(), client.id(), &unique[..8]);
    name[name.len().saturating_sub(64)..].to_owned()
}

/// Destroys the machine and says so.
async fn tear_down(machine: &Machine, log: &JobLog) -> Usage {
    let asked = tokio::time::timeout(USAGE_WAIT, machine.usage()).await;
    let mut usage = match asked {
        Ok(Ok(usage)) => Usage {
            cpu_ms: usage.cpu_ms,
            peak_memory_bytes: usage.peak_memory_bytes,
            disk_bytes: usage.disk_bytes,
            ..Usage::default()
        },
        // A guest that is gone used what it used.
        Ok(Err(_)) | Err(_) => Usage::default(),
    };
    let network = machine.network_usage().await;
    let entry = log.entry("teardown.fs", None);
    machine.destroy().await;
    if let Some(network) = &network {
        usage.network_in_bytes = network.bytes_in;
        usage.network_out_bytes = network.bytes_out;
        usage.network_blocked = network.blocked.values().sum();
    }
    if let Ok(mut entry) = entry {
        // Past the output limit the notes are cut, the entry ends all the same.
        if let Some(network) = &network {
            let _ = entry.note(&describe(network));
        }
        let _ = entry.note(&format!("the {} were removed", machine.noun()));
        entry.close(0);
    }
    usage
}

/// What a job did on the network, for the people who wonder why it could not reach something.
fn describe(network: &NetworkUsage) -> String {
    let mut text =
        format!("network: {} bytes received, {} bytes sent", network.bytes_in, network.bytes_out);
    for (index, (reason, count)) in network.blocked.iter().enumerate() {
        text += if index == 0 { "; refused: " } else { ", " };
        text += &format!("{count} {}", reason.replace('_', " "));
    }
    text
}

fn mark_body(
    client: &JobClient,
    failure: Option<&Failure>,
    usage: Usage,
    reasons: bool,
) -> MarkRequest {
    MarkRequest {
        executor_name: client.executor_name().to_owned(),
        job_id: client.id(),
        error_message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
        reason: failure.map(|failure| failure.reason).filter(|_| reasons),
        exit_code: failure.and_then(|failure| failure.exit_code).filter(|_| reasons),
        usage: reasons.then_some(usage),
        hold_seconds: None,
    }
}

fn folder_name(queue: &str, id: i64) -> String {
    let queue: String =
        queue.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{queue}-{id}-{}", uuid::Uuid::new_v4())
}

/// The job's folder on this machine; gone with the job.
struct Folder {
    path: PathBuf,
}

impl Drop for Folder {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "left for the next start to remove");
            }
            _ => {}
        }
    }
}
