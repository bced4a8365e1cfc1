//! Runs one job and sees it to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use microvm::net::NetworkUsage;
use protocol::ext::Extensions;
use protocol::{FailureReason, Job, MarkRequest, Phase, Usage};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::{Interrupt, JobControl};
use super::failure::Failure;
use super::hold::{self, Held, Place, Wish};
use super::mark::{Marked, mark};
use super::phases::Phases;
use super::pipeline::Pipeline;
use super::plan::Plan;
use super::tools::{Tools, machine_name};
use crate::client::{Dequeued, JobClient, MarkKind};
use crate::config::go_syntax;
use crate::logs::{JobLog, Redactor, SendError, SendMode};
use crate::metrics::Metrics;
use crate::runtime::Machine;

/// Time to ask a guest what its job used.
const USAGE_WAIT: Duration = Duration::from_secs(1);
/// Longest message that is reported.
const MESSAGE_LIMIT: usize = 8 << 10;

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

/// What the work of one job needs and what decides about its machine.
struct Setting<'a> {
    job: &'a Arc<Job>,
    plan: &'a Plan,
    client: &'a JobClient,
    log: &'a JobLog,
    phases: &'a Phases<'a>,
    extensions: Extensions,
    control: &'a JobControl,
    draining: &'a CancellationToken,
}

/// What is left when the work is over.
struct Worked {
    end: End,
    usage: Usage,
    /// A machine to be held if the instance agrees.
    held: Option<Held>,
}

impl Worked {
    fn without_machine(failure: Failure) -> Self {
        Self { end: End::Failed(failure), usage: Usage::default(), held: None }
    }
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

    /// Runs a job to its acknowledged end. What is returned is a machine to be held: its job is over, and
    /// the instance expects [`Held::serve`]. There is none once `draining` is canceled.
    pub async fn run(
        &self,
        dequeued: Dequeued,
        client: JobClient,
        control: &JobControl,
        draining: &CancellationToken,
    ) -> Option<Held> {
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
        let (mut worked, log) = match log {
            Ok(log) => {
                let worked = match planned {
                    Ok(plan) => {
                        let setting = Setting {
                            job: &job,
                            plan: &plan,
                            client: &client,
                            log: &log,
                            phases: &phases,
                            extensions,
                            control,
                            draining,
                        };
                        self.work(&setting, started).await
                    }
                    Err(failure) => Worked::without_machine(failure),
                };
                (worked, Some(log))
            }
            Err(error) => {
                let failure = Failure::executor(format!("cannot make the job's folder: {error}"));
                (Worked::without_machine(failure), None)
            }
        };
        phases.enter(Phase::Reporting);
        let output_bytes = log.as_ref().map_or(0, JobLog::bytes);
        worked.usage.output_bytes = output_bytes;
        let (reason, held) = self.report(worked, &client, log, extensions.reasons, control).await;
        phases.end();
        self.metrics.job_ended(&queue, reason, started.elapsed(), output_bytes);
        tracing::info!(
            job = job.id,
            queue,
            reason,
            seconds = started.elapsed().as_secs(),
            "job ended"
        );
        held
    }

    /// Gives back a job whose document cannot be read.
    pub async fn refuse(&self, client: &JobClient, problem: &str) {
        let failure = Failure::new(FailureReason::InvalidJob, problem);
        let body = mark_body(client, Some(&failure), Usage::default(), true);
        let marked = mark(client, MarkKind::Failed, &body).await;
        tracing::info!(job = client.id(), ?marked, "gave back a job that cannot be read");
    }

    async fn work(&self, setting: &Setting<'_>, started: Instant) -> Worked {
        let &Setting { job, plan, client, log, phases, extensions, control, .. } = setting;
        let (images, machine) = (OnceCell::new(), OnceCell::new());
        let reached_step = AtomicUsize::new(0);
        let machine_name = machine_name(&self.tools.config, client);
        let pipeline = Pipeline {
            job,
            plan,
            client,
            log,
            phases,
            tools: &self.tools,
            metrics: &self.metrics,
            results: extensions.results,
            images: &images,
            machine: &machine,
            reached_step: &reached_step,
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
        let Some(machine) = machine.into_inner() else {
            return Worked { end, usage: Usage::default(), held: None };
        };
        let (mut usage, alive) = usage_of(&machine).await;
        let network = machine.network_usage().await;
        if let Some(network) = &network {
            usage.network_in_bytes = network.bytes_in;
            usage.network_out_bytes = network.bytes_out;
            usage.network_blocked = network.blocked.values().sum();
        }
        let entry = log.entry("teardown.fs", None);
        let place = || {
            let step = plan.steps.get(reached_step.load(Ordering::Relaxed))?;
            let image = images.get()?.get(step.image)?.clone();
            Some(Place { image_index: step.image, image, cwd: step.cwd.clone() })
        };
        let wish = self.wish(setting, &end).filter(|_| alive).zip(place());
        let (held, note) = match wish {
            Some((Ok(wish), place)) => {
                let client = client.clone();
                let note = format!("the machine is {}", wish.note);
                (Some(Held { client, machine, place, seconds: wish.seconds }), note)
            }
            refused => {
                machine.destroy().await;
                let mut note = format!("the {} were removed", machine.noun());
                if let Some((Err(why_not), _)) = refused {
                    note += &format!("; {why_not}");
                }
                (None, note)
            }
        };
        if let Ok(mut entry) = entry {
            // Past the output limit the notes are cut, the entry ends all the same.
            if let Some(network) = &network {
                let _ = entry.note(&describe(network));
            }
            let _ = entry.note(&note);
            entry.close(0);
        }
        Worked { end, usage, held }
    }

    /// How long the machine of a job that ended like this shall be held, if anybody wishes that.
    fn wish(&self, setting: &Setting<'_>, end: &End) -> Option<Result<Wish, &'static str>> {
        let End::Failed(failure) = end else { return None };
        let of_job = setting.job.extensions.as_ref().map_or(0, |asked| asked.hold_seconds);
        let seconds = setting.control.hold_wish().unwrap_or(of_job);
        let possible = setting.extensions.hold && failure.reason != FailureReason::Canceled;
        if !possible || seconds == 0 {
            return None;
        }
        if setting.draining.is_cancelled() {
            return Some(Err("it is not held: the executor was told to stop"));
        }
        Some(hold::allowed(seconds, self.tools.config.limits.max_hold))
    }

    /// Delivers the log, then the end. Answers the end's name, and the machine if the instance knows that it
    /// is held; any other is destroyed.
    async fn report(
        &self,
        worked: Worked,
        client: &JobClient,
        log: Option<JobLog>,
        reasons: bool,
        control: &JobControl,
    ) -> (&'static str, Option<Held>) {
        let Worked { end, usage, held } = worked;
        let hold_seconds = held.as_ref().map(|held| held.seconds);
        let (reason, acknowledged) =
            self.deliver(end, client, log, usage, hold_seconds, reasons, control).await;
        match held {
            Some(held) if !acknowledged => {
                held.machine.destroy().await;
                (reason, None)
            }
            held => (reason, held),
        }
    }

    /// See [`Self::report`]. Answers whether the instance has the end.
    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of one report; a struct would only rename them"
    )]
    async fn deliver(
        &self,
        end: End,
        client: &JobClient,
        log: Option<JobLog>,
        usage: Usage,
        hold_seconds: Option<u64>,
        reasons: bool,
        control: &JobControl,
    ) -> (&'static str, bool) {
        let mut failure = match end {
            End::Completed => None,
            End::Failed(failure) => Some(failure),
            End::GivenUp(reason) => {
                tracing::warn!(job = client.id(), ?reason, "the job is left to the instance");
                return (FailureReason::ExecutorLost.as_str(), false);
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
                Interrupt::Stopped => return (FailureReason::ExecutorLost.as_str(), false),
                Interrupt::Canceled | Interrupt::LeaseLost => Ok(()),
            },
        };
        if let Err(error @ (SendError::Refused(_) | SendError::Spool(_))) = delivered {
            failure.get_or_insert_with(|| {
                Failure::executor(format!("the log was not delivered: {error}"))
            });
        }
        let kind = failure.as_ref().map_or(MarkKind::Complete, Failure::mark);
        let body =
            MarkRequest { hold_seconds, ..mark_body(client, failure.as_ref(), usage, reasons) };
        let acknowledged = tokio::select! {
            marked = mark(client, kind, &body) => match marked {
                Marked::Acknowledged => true,
                Marked::NotOurs(error) => {
                    tracing::warn!(job = client.id(), %error, "the job was not this executor's any more");
                    false
                }
                Marked::Refused(error) => {
                    tracing::error!(job = client.id(), %error, "the instance refused the job's end");
                    false
                }
            },
            Interrupt::Stopped = control.interrupted(), if !canceled => false,
        };
        (failure.map_or("completed", |failure| failure.reason.as_str()), acknowledged)
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

/// What the steps used, and whether the machine is still there.
async fn usage_of(machine: &Machine) -> (Usage, bool) {
    match tokio::time::timeout(USAGE_WAIT, machine.usage()).await {
        Ok(Ok(usage)) => {
            let usage = Usage {
                cpu_ms: usage.cpu_ms,
                peak_memory_bytes: usage.peak_memory_bytes,
                disk_bytes: usage.disk_bytes,
                ..Usage::default()
            };
            (usage, machine.exited().now_or_never().is_none())
        }
        // A guest that is gone used what it used.
        Ok(Err(_)) => (Usage::default(), false),
        // A busy one may answer later.
        Err(_) => (Usage::default(), true),
    }
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
